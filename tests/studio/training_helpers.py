"""A studio with the small trainer of `fake_trainer.py`, a set to train on, and waiting for what happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio_helpers import fake_planner, picture

from danqing.spec.training import AnyTraining, parse_training
from danqing.spec.training_run import TrainingRun
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.studio.trainer_process import TrainerOptions
from danqing.workers.pool import FakePool, WorkerPool

FAKE = Path(__file__).with_name("fake_trainer.py")


def options(**environment: object) -> TrainerOptions:
    told = {f"FAKE_{name.upper()}": str(value) for name, value in environment.items()}
    return TrainerOptions(command=(sys.executable, "-S", str(FAKE)), environment=told, tick_s=0.02, calm_s=0.1)


def make_set(data_dir: Path, name: str = "apples") -> None:
    folder = data_dir / "training" / "sets" / name
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "pictures" / "a.png").write_bytes(picture())
    one = {"file": "a.png", "sha256": "0" * 64, "width_px": 32, "height_px": 32, "caption": "a red apple"}
    (folder / "set.json").write_text(json.dumps({"name": name, "trigger": "sks", "pictures": [one]}))


def make_studio(data_dir: Path, pool: WorkerPool | None = None, **environment: object) -> Studio:
    make_set(data_dir)
    settings = load_settings(data_dir=data_dir)
    return Studio(settings, pool or FakePool(), planner=fake_planner, trainer=options(**environment))


def asked(name: str = "my-style", **changes: Any) -> AnyTraining:
    return parse_training({"method": "lora", "name": name, "dataset": "apples", **changes})


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def finished(studio: Studio, run_id: str, timeout_s: float = 60.0) -> TrainingRun:
    for _ in studio.watch_training(run_id, timeout_s=timeout_s, rests=("paused",)):
        pass
    return studio.training_run(run_id)


def steps_of(studio: Studio, run_id: str) -> list[tuple[int, int]]:
    """(process, step) in the order in which they were made."""
    path = studio.training_folder(run_id) / "steps.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), int(step)) for pid, step in map(str.split, lines)]


def weights_of(studio: Studio, run_id: str) -> bytes:
    """What the run made."""
    (made,) = (studio.training_folder(run_id) / "model").glob("*.safetensors")
    return made.read_bytes()
