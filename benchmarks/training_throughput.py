"""What the training loop costs: our steps over bare steps of the same model, same batch, in turns.

The bare side is the least that learns anything: forward (of the text encoder too where it learns), loss, backward,
clip, optimiser step, on one batch that lies ready. Ours draws pictures, noise, levels and texts, follows schedules,
keeps the average, tells events. Both learn the same LoRA of the built-in model in the same number format.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks._models import TINY, write_folder
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import alternate
from danqing.models.diffusers_folders import CHECKPOINT_DIR
from danqing.sets.folder import write_set
from danqing.spec.training import parse_training
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.own.context import Context
from danqing.training.own.events import EventLog
from danqing.training.own.loop import Pace, Trainer
from danqing.training.own.methods import find_method
from danqing.training.own.methods.diffusion import DiffusionMethod
from danqing.training.own.optimizers import make_optimizer

BAR = 0.9
PICTURES = 10
BATCH = 8
RANK = 16


def measure(options: Options) -> Outcome:
    """Time both sides."""
    device = torch.device(options.device)
    steps = 2 if options.quick else 10
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        model = _model(root, quick=options.quick)
        ours = _trainer(root, model, device)
        method = ours.method
        if not isinstance(method, DiffusionMethod):
            raise TypeError("a LoRA is a diffusion method")
        sides = {"ours": _our_steps(ours, steps), "bare": _bare_steps(method, ours, steps)}
        rounds = alternate(sides, options.times(full=10, quick=1), device)
        side_px = method.data.options.size_px
    per_step = {name: rounds.median_s(name) / steps for name in sides}
    ratio = rounds.ratio("bare", "ours")
    figures = {
        "ratio_throughput": ratio,
        "ours_pictures_per_s": BATCH / per_step["ours"],
        "bare_pictures_per_s": BATCH / per_step["bare"],
    }
    details = {"model": model, "batch": BATCH, "rank": RANK, "size_px": side_px, "steps_a_round": steps}
    return Outcome(figures, f"ratio_throughput >= {BAR}", ratio >= BAR, {**details, **rounds.details()})


def _model(root: Path, *, quick: bool) -> str:
    if not quick:
        return "danqing-mini"
    write_folder(root / "models" / CHECKPOINT_DIR / "tiny", TINY)
    return "tiny"


def _trainer(root: Path, model: str, device: torch.device) -> Trainer:
    _write_set(root / "sets" / "ten", 64 if model == "tiny" else 128)
    about: dict[str, Any] = {"rank": RANK}
    request = parse_training(
        {
            "method": "lora",
            "name": "ten",
            "model": model,
            "dataset": "ten",
            "batch": BATCH,
            "steps": 100_000,
            "sample_every": 0,
            "network": about,
            "ema": 0.99,
            "precision": "auto",
        }
    )
    folder = root / "run"
    folder.mkdir()
    models = root / "models" if (root / "models").is_dir() else None
    context = Context(folder, root / "sets", models, device, EventLog(folder))
    return Trainer(find_method("lora").open(request, context))


def _write_set(folder: Path, side_px: int) -> None:
    """Ten pictures of noise: what they show takes no time."""
    (folder / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(1)
    pictures: list[TrainingPicture] = []
    for i in range(PICTURES):
        path = folder / "pictures" / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (side_px, side_px, 3)).astype(np.uint8)).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        pictures.append(
            TrainingPicture(file=path.name, sha256=sha256, width_px=side_px, height_px=side_px, caption=f"picture {i}")
        )
    write_set(folder, TrainingSet(name=folder.name, trigger="zdq", pictures=tuple(pictures)))


def _our_steps(trainer: Trainer, steps: int) -> Callable[[], None]:
    pace = Pace(trainer)

    def work() -> None:
        for _ in range(steps):
            pace.tell(trainer.step())

    return work


def _bare_steps(method: DiffusionMethod, trainer: Trainer, steps: int) -> Callable[[], None]:
    """On the same network, with an optimiser of its own: which weights are stepped takes no time."""
    drawn = method.data.batch(0)
    optimizer = make_optimizer(method.request, trainer.parts, 1e-4)

    def work() -> None:
        for _ in range(steps):
            shown = method.refreshed(drawn) if method.data.options.live_text else drawn
            method.loss_of(shown).total.backward()
            torch.nn.utils.clip_grad_norm_(trainer.params, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return work


def main(argv: Sequence[str] | None = None) -> int:
    """The benchmark's command."""
    return run("training_throughput", "Our training loop over bare steps.", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
