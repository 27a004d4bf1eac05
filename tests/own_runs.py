"""Small training sets and runs on the small random models, for the tests of `danqing.training.own`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing.sets.folder import write_set
from danqing.spec.training import parse_training
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.own.context import Context
from danqing.training.own.events import EventLog
from danqing.training.own.loop import LoopOptions, Trainer
from danqing.training.own.methods import Method, find_method

SIZES = ((64, 64), (64, 64), (80, 80), (64, 64), (96, 48), (96, 48))


def make_set(sets_dir: Path, name: str = "cats", *, count: int = 4, **about: Any) -> TrainingSet:
    """A set of coloured rectangles; the fifth and sixth picture are wide.

    Args:
        sets_dir: Where sets lie.
        name: Of the folder.
        count: Pictures.
        about: Fields of the set; `masks` gives every picture one, `kin` marks the last ones as of the class.
    """
    folder = sets_dir / name
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    masks, kin = about.pop("masks", False), about.pop("kin", 0)
    rng = np.random.default_rng(3)
    pictures: list[TrainingPicture] = []
    for i in range(count):
        wide, high = SIZES[i % len(SIZES)]
        pixels = np.tile(rng.integers(0, 255, (1, 1, 3)), (high, wide, 1)).astype(np.uint8)
        pixels[high // 4 : high // 2, wide // 4 : wide // 2] = rng.integers(0, 255, 3)
        path = folder / "pictures" / f"{i}.png"
        Image.fromarray(pixels).save(path)
        mask = None
        if masks:
            mask = f"{i}.png"
            half = np.zeros((high, wide), np.uint8)
            half[:, : wide // 2] = 255
            Image.fromarray(half).save(folder / "masks" / mask)
        pictures.append(
            TrainingPicture(
                file=path.name,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                width_px=wide,
                height_px=high,
                caption=f"the cat {i}, red, blue",
                mask=mask,
                regularisation=i >= count - kin,
            )
        )
    made = TrainingSet(name=name, pictures=tuple(pictures), **about)
    write_set(folder, made)
    return made


def request_of(method: str = "lora", **fields: Any) -> Any:
    """A Request on the small model that takes a moment; fields as in JSON."""
    given: dict[str, Any] = {
        "method": method, "name": "mine", "model": "tiny", "dataset": "cats", "steps": 4, "batch": 2,
        "learning_rate": 1e-2, "sample_every": 0, "precision": "float32", "caption_dropout": 0.0,
    }  # fmt: skip
    if method == "lora":
        given["network"] = {"rank": 4}
    return parse_training({**given, **fields})


def context_of(root: Path, models_dir: Path | None, run: str = "run") -> Context:
    """A run's folder beside the sets in `root/sets`."""
    folder = root / run
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, root / "sets", models_dir, torch.device("cpu"), EventLog(folder))


def opened_method(request: Any, context: Context) -> Method:
    """The method, ready for its first step."""
    return find_method(request.method).open(request, context)


def trained(request: Any, context: Context, stop_after: int | None = None) -> Trainer:
    """A run to its end, or to a step; it goes on from the folder's checkpoint."""
    trainer = Trainer(opened_method(request, context), LoopOptions(stop_after=stop_after))
    trainer.run()
    return trainer


def learnt(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every number that was learnt, by name."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, module in trainer.method.modules().items()
        for key, value in module.state_dict().items()
    }


def diffusers_pipe(folder: Path) -> Any:
    """diffusers' own pipeline of a small model's folder, for files that its loaders should read."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
