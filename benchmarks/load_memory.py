"""Main memory while a model of Stable Diffusion 1.5's shape is loaded (bar: 1.2 × the larger of file and model).

Each layout is loaded in a new process, whose peak is read from the system: everything that it holds, pages of the
mapped file included, less what it held before. Weights are random: the numbers do not change the memory. The loaded
model can be larger than its file, since text encoder and autoencoder are float32 on a CPU, and never takes less.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks._machine import ROOT
from benchmarks._models import fill
from benchmarks._report import Options, Outcome, median, run
from benchmarks.peers import _checkpoints
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader, pick_device
from danqing.spec.model import ModelRef

BAR = 1.2
LAYOUTS = ("file", "folder")
TIMEOUT_S = 900.0
_INTERVAL_S = 0.002


class Watch(threading.Thread):
    """Follows this process's memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = status()
        self.peak = dict(self.before)
        self._on = True

    def run(self) -> None:
        """Look every two milliseconds."""
        while self._on:
            now = status()
            self.peak = {name: max(value, now[name]) for name, value in self.peak.items()}
            time.sleep(_INTERVAL_S)

    def end(self) -> dict[str, int]:
        """Bytes at the peak of each, beyond those at the beginning."""
        self._on = False
        self.join()
        return {name: value - self.before[name] for name, value in self.peak.items()}


def status() -> dict[str, int]:
    """Bytes that this process holds: all, its own, of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "RssAnon", "RssFile")))
    return {name: int(value.split()[0]) * 1024 for name, value in found.items()}


def load(root: Path, name: str, device: str) -> dict[str, float]:
    """Load a model in this process; bytes and seconds."""
    loader = Loader(Catalog(root), pick_device(device))
    # The libraries are imported by the first model that is loaded.
    small = loader.catalog.find("danqing-mini")
    loader.get(ModelRef(name=small.name, sha256=small.sha256, family=small.family))
    loader.drop_others()
    info = loader.catalog.find(name)
    watch = Watch()
    watch.start()
    started = time.perf_counter()
    model = loader.get(ModelRef(name=info.name, sha256=info.sha256, family=info.family))
    seconds = time.perf_counter() - started
    peak = watch.end()
    after = status()["VmRSS"] - watch.before["VmRSS"]
    return {
        "peak": peak["VmRSS"],
        "peak_own": peak["RssAnon"],
        "peak_mapped": peak["RssFile"],
        "after": after,
        "model": model.size_bytes,
        "seconds": seconds,
    }


def measured(root: Path, name: str, device: str) -> dict[str, float]:
    """The same in a new process.

    Raises:
        RuntimeError: It failed; the message has what it said.
    """
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    code = "import sys, json; from pathlib import Path; from benchmarks.load_memory import load; "
    code += "print(json.dumps(load(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), name, device],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode != 0:
        raise RuntimeError(f"loading {name} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write(root: Path, options: Options) -> dict[str, int]:
    """A checkpoint in one file and a folder of the same shape; bytes of the weights of each."""
    options.say("writing random weights …")
    plan = _checkpoints.tiny() if options.quick else _checkpoints.sd15()
    checkpoint = _checkpoints.write(root, "file", plan, seed=1)
    folder = Path(checkpoint.path).with_name("folder")
    shutil.copytree(checkpoint.parts, folder)
    (folder / "danqing.json").write_text('{"family": "sd1"}', encoding="utf-8")
    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel.from_config(dict(plan.unet)),
            "vae": AutoencoderKL.from_config(dict(plan.vae)),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**plan.text)),
        }
    for name in list(parts):
        fill(parts.pop(name), torch.float16).save_pretrained(folder / name)
    written = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return {"file": Path(checkpoint.path).stat().st_size, "folder": written}


def measure(options: Options) -> Outcome:
    """Both layouts in turns."""
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as name:
        sizes = write(Path(name), options)
        rounds: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
        for _ in range(options.times(full=3, quick=1)):
            for layout in LAYOUTS:
                found = measured(Path(name), layout, options.device)
                rounds[layout].append(found)
                options.say(f"{layout}: peak {found['peak'] / 1e9:.3f} GB, model {found['model'] / 1e9:.3f} GB")
    figures: dict[str, float] = {}
    for layout, single in rounds.items():
        needed = max(sizes[layout], *(one["model"] for one in single))
        figures[f"ratio_{layout}"] = max(one["peak"] for one in single) / needed
        figures[f"ratio_{layout}_to_file"] = max(one["peak"] for one in single) / sizes[layout]
        figures[f"load_{layout}_s"] = median([one["seconds"] for one in single])
    passed = all(figures[f"ratio_{layout}"] <= BAR for layout in LAYOUTS)
    details = {"file_bytes": sizes, "rounds": rounds}
    return Outcome(figures, f"≤ {BAR} × the larger of file and loaded model", passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("load_memory", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
