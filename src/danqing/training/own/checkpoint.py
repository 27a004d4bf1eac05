"""Checkpoints: everything a run needs to go on exactly, written so that a kill leaves the old one or the new one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from danqing.spec.errors import BadFileError
from danqing.spec.training_methods import TrainingRequest

FILE = "checkpoint.pt"
BEST_FILE = "best.pt"
_FREE = {"name", "background", "checkpoint_every_s", "sample_every", "sample_prompts"}
"""Fields of a Request that may be changed between a pause and going on; nothing that is learnt depends on them."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        seconds: Spent in steps, over all attempts.
        loss: Smoothed.
        threads: Of the CPU: another number of them rounds otherwise.
        best_step: Whose weights are in `best.pt`; -1 for none.
        best_score: Theirs.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float | None = None
    threads: int = 0
    best_step: int = -1
    best_score: float | None = None


@dataclass
class Kept:
    """What a checkpoint holds besides where the run stands: all of it as state dicts or plain tensors."""

    modules: dict[str, Any] = field(default_factory=dict[str, Any])
    optimizers: dict[str, Any] = field(default_factory=dict[str, Any])
    average: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    scaler: dict[str, Any] = field(default_factory=dict[str, Any])


def digest_of(request: TrainingRequest, data_digest: str = "") -> str:
    """What a checkpoint depends on: the Request and what it was trained on, as a short text."""
    said = request.model_dump_json(exclude=_FREE)
    return hashlib.sha256(f"{said} {data_digest}".encode()).hexdigest()


def write(path: Path, digest: str, progress: Progress, kept: Kept) -> None:
    """Write a checkpoint under a temporary name, bring it to the disk, rename it."""
    save_atomically(path, {"digest": digest, "progress": vars(progress), "kept": vars(kept)})


def read(path: Path, digest: str) -> tuple[Progress, Kept] | None:
    """A checkpoint, or None where there is none yet.

    Raises:
        BadFileError: It is damaged, or belongs to another Request or set.
    """
    if not path.is_file():
        return None
    data = load(path)
    if data.get("digest") != digest:
        raise BadFileError(
            "the checkpoint was made with another request, or the training set was changed since",
            field=str(path),
            value=str(data.get("digest"))[:12],
            allowed=digest[:12],
            next_step="undo the change, or begin a new run",
        )
    return Progress(**data["progress"]), Kept(**data["kept"])


def save_atomically(path: Path, data: Mapping[str, Any]) -> None:
    """Tensors to a file that is there as a whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as handle:
        torch.save(dict(data), handle)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any]:
    """What `save_atomically` wrote; nothing in it is run.

    Raises:
        BadFileError: It is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BadFileError(
            f"the checkpoint cannot be read: {error}", value=str(path), next_step="delete it, or begin a new run"
        ) from error
