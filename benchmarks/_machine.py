"""What a measurement was taken on: machine, versions, commit, and how much else ran beside it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
SPEED_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_tile", "amx_bf16")
PACKAGES = ("torch", "diffusers", "transformers", "numpy")
GIB = 1024**3


def machine(device: str) -> dict[str, Any]:
    """CPU model, cores, flags that matter for speed, memory, and the GPU if that is measured."""
    facts: dict[str, Any] = {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in SPEED_FLAGS if flag in _cpu_field("flags").split()],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": f"{platform.system()} {platform.release()}",
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
        facts["gpu_memory_gib"] = round(torch.cuda.get_device_properties(device).total_memory / GIB, 1)
    return facts


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def versions() -> dict[str, str]:
    """Python and the libraries whose speed is measured."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def commit() -> str:
    """The checked-out commit, with `+changes` when tracked files differ from it; `unknown` outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if changed else head


def _git(*words: str) -> str:
    # Without optional locks a benchmark never gets in the way of somebody's commit.
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def now() -> str:
    """The date and time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class CpuClock:
    """Processor time used so far, in seconds.

    Attributes:
        wall_s: Monotonic time.
        own_s: By this process and the children it has waited for.
        all_s: By everything on the machine.
    """

    wall_s: float
    own_s: float
    all_s: float

    @classmethod
    def read(cls) -> CpuClock:
        """The clock now; `all_s` is 0 where /proc/stat is missing."""
        times = os.times()
        own_s = times.user + times.system + times.children_user + times.children_system
        try:
            first = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        except OSError:
            return cls(time.monotonic(), own_s, 0.0)
        ticks = [int(value) for value in first]
        # user, nice, system, irq, softirq; idle and iowait are positions 3 and 4.
        busy = sum(ticks[:3]) + sum(ticks[5:7])
        return cls(time.monotonic(), own_s, busy / os.sysconf("SC_CLK_TCK"))

    def others_share(self, later: CpuClock) -> float | None:
        """The share of the machine that other programs used between this reading and a later one, 0 to 1."""
        if later.all_s == 0.0:
            return None
        capacity = (later.wall_s - self.wall_s) * (os.cpu_count() or 1)
        others = (later.all_s - self.all_s) - (later.own_s - self.own_s)
        return round(min(max(others / max(capacity, 1e-9), 0.0), 1.0), 3)
