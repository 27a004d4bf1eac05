"""From a run's `model/` to the folders in which A1111 and the catalogue look. Nothing is ever overwritten."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from danqing.spec.errors import NotFoundError
from danqing.spec.training import AnyTraining
from danqing.spec.training_methods import DreamBoothRequest

ProductKind = Literal["lora", "embedding", "hypernetwork", "controlnet", "checkpoint"]
_KINDS: Final[dict[str, ProductKind]] = {
    "lora": "lora",
    "dreambooth": "lora",
    "distill": "lora",
    "slider": "lora",
    "artaug": "lora",
    "embedding": "embedding",
    "hypernetwork": "hypernetwork",
    "controlnet": "controlnet",
    "finetune": "checkpoint",
}
_FOLDERS: Final[dict[ProductKind, tuple[str, ...]]] = {
    "lora": ("Lora", "lora", "loras"),
    "embedding": ("embeddings",),
    "hypernetwork": ("hypernetworks",),
    "controlnet": ("ControlNet", "controlnet"),
    "checkpoint": ("Stable-diffusion", "checkpoints"),
}
_WEIGHTS: Final = (".safetensors", ".pt", ".ckpt", ".bin", ".pth")
_CARD: Final = "card.md"
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Published:
    """Where a product is now.

    Args:
        weights: Its files of weights.
        files: All that was copied.
    """

    weights: tuple[Path, ...]
    files: tuple[Path, ...]


def product_kind(request: AnyTraining) -> ProductKind | None:
    """What a run makes; None for models that only show how learning works."""
    if isinstance(request, DreamBoothRequest) and request.network is None:
        return "checkpoint"
    return _KINDS.get(request.method)


def product_folder(kind: ProductKind, models_dir: Path) -> Path:
    """Where products of a kind belong: the folder that is there, else A1111's."""
    root = models_dir.parent if kind == "embedding" and models_dir.name == "models" else models_dir
    places = [root / name for name in _FOLDERS[kind]]
    return next((place for place in places if place.is_dir()), places[0])


def publish(folder: Path, made: Sequence[str], target: Path) -> Published:
    """Copy a run's product, with what lies beside it.

    Args:
        folder: The run's.
        made: Files of the product, relative to it.
        target: Where they belong. A name that is taken gets a number; the same file again is not copied twice.

    Raises:
        NotFoundError: No file of weights was made.
        OSError: The disk is full, or the folder cannot be written.
    """
    inside = folder.resolve()
    paths = [path for name in made if (path := (folder / name).resolve()).is_file() and inside in path.parents]
    weights = [path for path in paths if path.suffix.lower() in _WEIGHTS]
    if not weights:
        raise NotFoundError(
            "the run has made nothing that could be used", value=str(folder / "model"), next_step="train it again"
        )
    target.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    copied: list[Path] = []
    for one in weights:
        there = _same(one, target)
        place = there or _copy_new(one, target)
        found.append(place)
        copied.append(place)
        for beside in paths if there is None else ():
            name = _beside(beside, one)
            if name is not None and not (target / f"{place.stem}{name}").exists():
                copied.append(_copy(beside, target / f"{place.stem}{name}"))
    return Published(tuple(found), tuple(copied))


def _beside(path: Path, weights: Path) -> str | None:
    """The ending that a file gets beside weights: the card `.md`, a preview or A1111's notes as they are."""
    if path.name == _CARD:
        return ".md"
    if path == weights or path.suffix.lower() in _WEIGHTS or not path.name.startswith(f"{weights.stem}."):
        return None
    return path.name[len(weights.stem) :]


def _same(path: Path, target: Path) -> Path | None:
    """A file with the same bytes that is there under this name already, with or without a number."""
    size = path.stat().st_size
    for other in sorted(target.glob(f"*{path.suffix}")):
        like = other.stem == path.stem or other.stem.rpartition("-")[0] == path.stem
        if like and other.is_file() and other.stat().st_size == size and _digest(other) == _digest(path):
            return other
    return None


def _copy_new(path: Path, target: Path) -> Path:
    number = 1
    while True:
        stem = path.stem if number == 1 else f"{path.stem}-{number}"
        number += 1
        taken = {other.stem.lower() for other in target.iterdir() if other.suffix.lower() in _WEIGHTS}
        if stem.lower() in taken:
            continue
        try:
            return _copy(path, target / f"{stem}{path.suffix}")
        except FileExistsError:
            continue


def _copy(path: Path, place: Path) -> Path:
    """Copy a file; whole under its name, or not there at all. FileExistsError if the name is taken."""
    part = place.with_name(f".{place.name}.part")
    try:
        with path.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        _name_new(part, place)
    finally:
        part.unlink(missing_ok=True)
    return place


def _name_new(part: Path, place: Path) -> None:
    try:
        os.link(part, place)  # which, unlike a rename, never replaces a file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with place.open("xb"):
            pass
        part.replace(place)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
