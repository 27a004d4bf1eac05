"""The worker starts with the plain installation: what the extras of pyproject.toml bring is loaded where it is used."""

from __future__ import annotations

import subprocess
import sys

EXTRAS = ("onnxruntime", "h5py", "ai_edge_litert", "tensorboard", "spandrel", "resvg_py", "bitsandbytes", "torchao")
PROGRAM = """
import gc, importlib, sys
gc.disable()  # quicker
for name in sys.argv[1:]:
    sys.modules[name] = None  # importing it fails, as where it is not installed
for name in ("workers.main", "workers.painter", "workers.critic", "pipelines.run", "engine.torch_executor"):
    importlib.import_module("danqing." + name)
from danqing.models.onnx_files import open_onnx
from danqing.spec.errors import UnsupportedError
try:
    open_onnx(None, what="it", field="f", allowed="a", next_step="n")
except UnsupportedError as error:
    print(error.next_step)
"""


def test_the_worker_starts_without_extras():
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *EXTRAS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout
