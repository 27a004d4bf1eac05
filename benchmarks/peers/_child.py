"""A side's own process: reads one JSON command a line from standard input, answers each on a pipe of its own.

Standard output belongs to the libraries. Nothing but the side's own packages is imported here.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageStat

from benchmarks.peers._jobs import Checkpoint, Job, Peer, PeerOptions, RefusedError


class Worker:
    """Does what it is told with one peer.

    Args:
        peer: The program.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def answer(self, told: dict[str, Any]) -> dict[str, Any]:
        """Do one command; what it found."""
        do = told["do"]
        if do == "available":
            return {"reason": self.peer.available()}
        if do in {"prepare", "open"}:
            return self._open(do, Checkpoint(**told["checkpoint"]), PeerOptions(**told["options"]))
        if do == "refuses":
            return {"reason": self.peer.refuses(Checkpoint(**told["checkpoint"]), Job(**told["job"]))}
        if do == "paint":
            return self._paint(Job(**told["job"]), told.get("keep", ""))
        if do == "together":
            started = time.perf_counter()
            latencies = self.peer.paint_together([Job(**one) for one in told["jobs"]])
            return {"seconds": time.perf_counter() - started, "latencies": latencies}
        if do == "close":
            self.peer.close()
            return {}
        raise ValueError(f"unknown command {do!r}")

    def _open(self, do: str, checkpoint: Checkpoint, options: PeerOptions) -> dict[str, Any]:
        started = time.perf_counter()
        opened = asdict(self.peer.open(checkpoint, options)) if do == "open" else {}
        if do == "prepare":
            self.peer.prepare(checkpoint, options)
        return {"seconds": time.perf_counter() - started, **opened}

    def _paint(self, job: Job, keep: str) -> dict[str, Any]:
        started = time.perf_counter()
        pictures = self.peer.paint(job)
        seconds = time.perf_counter() - started
        _check(pictures, job)
        if keep:
            Path(keep).parent.mkdir(parents=True, exist_ok=True)
            pictures[0].save(keep)
        spread = max(ImageStat.Stat(pictures[0].convert("RGB")).stddev)
        return {"seconds": seconds, "spread": round(spread, 2)}


def _check(pictures: list[Image.Image], job: Job) -> None:
    sizes = [picture.size for picture in pictures]
    if sizes != [(job.width_px, job.height_px)] * job.count:
        raise RuntimeError(f"asked for {job.count} of {job.width_px} × {job.height_px} px, got {sizes}")


def _usage(peer: Peer) -> dict[str, Any]:
    times = os.times()
    return {"cpu_s": times.user + times.system, "peak_bytes": peer.peak_bytes() or _own_peak()}


def _own_peak() -> int:
    """The most memory this process had, in bytes."""
    try:
        # getrusage() would begin with what the process that started this one had.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


OOM_FIRST = "800"


def _behave() -> None:
    """Where the system can: end with the benchmark, and be the first to go when the machine's memory runs out."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text(OOM_FIRST, encoding="ascii")


def main() -> None:
    """Until standard input ends."""
    _behave()
    module, pipe = sys.argv[1], os.fdopen(int(sys.argv[2]), "w", encoding="utf-8")
    peer: Peer = importlib.import_module(f"benchmarks.peers.{module}").PEER()
    worker = Worker(peer)
    for line in sys.stdin:
        try:
            found = worker.answer(json.loads(line))
            found |= _usage(peer)
        except RefusedError as error:
            found = {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way; the parent tells it and goes on
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        pipe.write(json.dumps(found) + "\n")
        pipe.flush()


if __name__ == "__main__":
    main()
