"""A sample from its set to the shelf: trained by the trainer's own process, painted by the ordinary engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from danqing.models.catalog import Catalog
from danqing.spec.errors import BadFileError
from danqing.spec.training import parse_training
from danqing.spec.training_run import EndEvent
from danqing.training.evaluation.family import open_family
from danqing.training.evaluation.painting import Order, Painter
from danqing.training.own.events import read_events
from danqing.training.own.sampling import grid
from danqing.training.samples.config import Sample
from danqing.training.samples.sets import make_set

FOLDERS = {"lora": "Lora", "embedding": "embeddings", "hypernetwork": "hypernetworks"}
"""A1111's, by method."""
SHEET_QUALITY = 90
PREVIEWED = 2
"""The prompt whose picture stands for a sample in lists; the same for all."""
_BATCH = 8


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        drawings: As `danqing dataset builtin` leaves them.
        paintings: A folder with the painters' files.
        work: Sets and runs are made here, and kept.
        out: The shelf, in A1111's layout; the package's built-in folder for the samples that are shipped.
    """

    drawings: Path
    paintings: Path
    work: Path
    out: Path


def make(sample: Sample, places: Places) -> tuple[Path, EndEvent]:
    """Train one sample and put it on the shelf with card, notes, preview and sheet.

    Returns:
        Its file, and how the run ended.

    Raises:
        DanqingError: What it is learnt from is not there, or training failed.
    """
    product, end = _train(sample, places)
    return shelve(sample, product, places), end


def shelve(sample: Sample, product: Path, places: Places) -> Path:
    """Put a trained sample on the shelf; its file there."""
    folder = places.out / FOLDERS[sample.request["method"]]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / product.name
    shutil.copyfile(product, target)
    card = (product.parent / "card.md").read_text(encoding="utf-8")
    (folder / f"{sample.name}.md").write_text(_at(sample, card), encoding="utf-8")
    notes = {"description": sample.says, "activation text": sample.trigger, "preferred weight": sample.weight}
    said = {key: value for key, value in notes.items() if value}
    (folder / f"{sample.name}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    _show(sample, folder, places)
    return target


def _at(sample: Sample, text: str) -> str:
    """A text that calls the sample at strength 1, at the strength that suits it."""
    for tag in ("lora", "hypernet"):
        text = text.replace(f"<{tag}:{sample.name}:1>", f"<{tag}:{sample.name}:{sample.weight:g}>")
    return text


def _train(sample: Sample, places: Places) -> tuple[Path, EndEvent]:
    sets, run = places.work / "sets", places.work / "runs" / sample.name
    for old in (sets / sample.name, run):
        shutil.rmtree(old, ignore_errors=True)
    make_set(sample, sets, places.drawings, places.paintings)
    run.mkdir(parents=True)
    asked: dict[str, Any] = {"name": sample.name, "dataset": sample.name, "sample_every": 0, "background": False}
    request = parse_training({**asked, **sample.request})
    (run / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
    # The same interpreter, and arguments of our own.
    command = [sys.executable, "-m", "danqing.training.own", str(run), "--sets", str(sets)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    last = read_events(run)[-1]
    if ended.returncode or not isinstance(last, EndEvent) or not last.files:
        raise BadFileError(f"{sample.name} was not trained: {ended.stderr[-400:]}", value=str(run))
    return run / last.files[0], last


def _show(sample: Sample, folder: Path, places: Places) -> None:
    """The sheet: every prompt without and with it; and one picture with it as a preview."""
    family = open_family(None, places.work / "family")
    painter = Painter(replace(family, catalog=Catalog(places.out)), torch.device("cpu"), _BATCH)
    without, used = orders(sample)
    pictures = [Image.fromarray(one) for one in painter.paint([*without, *used])]
    count = len(sample.prompts)
    labels = [*sample.prompts, *["with it" if i == 0 else "" for i in range(count)]]
    sheet = grid(pictures, labels, count)
    sheet.save(folder / f"{sample.name}.sheet.webp", quality=SHEET_QUALITY)
    pictures[count + min(PREVIEWED, count - 1)].save(folder / f"{sample.name}.preview.png")


def orders(sample: Sample) -> tuple[Sequence[Order], Sequence[Order]]:
    """What a sheet shows: the prompts as they are, and with the sample; seed i for prompt i.

    An embedding's word is what its prompts are without.
    """
    method, name = sample.request["method"], sample.name
    if sample.request.get("negative"):
        plain = [Order(prompt, seed) for seed, prompt in enumerate(sample.prompts)]
        return plain, [replace(one, negative=name) for one in plain]
    if method == "embedding":
        bare = [prompt.replace(f", {name}", "") for prompt in sample.prompts]
        return _ordered(bare), _ordered(sample.prompts)
    tag = f" <{'hypernet' if method == 'hypernetwork' else 'lora'}:{name}:{sample.weight:g}>"
    return _ordered(sample.prompts), _ordered([prompt + tag for prompt in sample.prompts])


def _ordered(prompts: Sequence[str]) -> list[Order]:
    return [Order(prompt, seed) for seed, prompt in enumerate(prompts)]
