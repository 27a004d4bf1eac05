"""The figures as one JSON file: sections are measured one by one and kept until they are measured again."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.training.evaluation import control, looks, report, sections
from danqing.training.evaluation.bench import Bench

FILE = "builtin-model.json"
PAGE = "builtin-model.md"
NOTES = "builtin-model.notes.md"
"""Written by a person, if at all: why a bar is missed and what would close it."""
Figures = dict[str, Any]
SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    "parts": sections.parts,
    "evaluator": sections.evaluator,
    "faithfulness": sections.faithfulness,
    "obedience": sections.obedience,
    "four_step": sections.four_step,
    "control": control.control,
    "distance": looks.distance,
    "diversity": looks.diversity,
    "neighbours": looks.neighbours,
    "vae": sections.vae,
    "speed": sections.speed,
    "sheets": looks.sheets,
}
"""In the order of the page."""
NEEDS = {
    "four_step": ("4-step",),
    "distance": ("mini-CLIP",),
    "diversity": ("mini-CLIP",),
    "neighbours": ("mini-CLIP",),
}
"""Parts of the family without which a section has nothing to measure."""


def measure(name: str, bench: Bench, command: str) -> Figures:
    """One section's figures with the command that makes them; `missing` says why there are none.

    Args:
        name: A key of `SECTIONS`.
        bench: What is measured.
        command: What a person types to measure it again.
    """
    before = time.monotonic()
    absent = [part for part in NEEDS.get(name, ()) if bench.family.part(part) is None]
    figures: Figures = {"missing": f"not there: {', '.join(absent)}"} if absent else {}
    if not absent:
        try:
            figures = SECTIONS[name](bench)
        except MissingWeightsError as error:
            figures = {"missing": error.message}
    return figures | {
        "command": command,
        "seconds": round(time.monotonic() - before, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def about(bench: Bench) -> Figures:
    """What was measured, on what."""
    file = bench.family.folder / "danqing.json"
    model = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept = ("name", "config", "concepts", "pictures", "styles", "samples_seen", "training_seconds", "date")
    device = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    return {
        "config": bench.config.name,
        "model": {key: model[key] for key in kept if key in model},
        "machine": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("torch", "diffusers")}},
    }


def read(path: Path) -> Figures:
    """The figures so far; empty ones where there is no file.

    Raises:
        BadFileError: The file is not ours.
    """
    if not path.is_file():
        return {"about": {}, "sections": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"about": dict(found["about"]), "sections": dict(found["sections"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFileError(
            f"the figures cannot be read: {error!r}",
            value=str(path),
            next_step="delete the file, or name another --docs",
        ) from error


def write(path: Path, text: str) -> None:
    """Writes a text under a temporary name, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_page(docs: Path, found: Figures) -> None:
    """Writes the page of these figures, with the notes that lie beside it."""
    notes = docs / NOTES
    write(docs / PAGE, report.render(found, notes.read_text(encoding="utf-8") if notes.is_file() else ""))
