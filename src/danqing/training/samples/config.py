"""What each sample is learnt from: `training/configs/samples.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.training_set import SetName

CONFIG = Path(__file__).parent.parent / "configs" / "samples.toml"
Look = Literal["drawn", "blueprint", "papercut", "pixels", "smudged"]
"""How a drawing is shown: as it is, or as another craft would have made it (samples/looks.py)."""


class Painting(Data):
    """A painting and what it shows.

    Attributes:
        sha256: Of the file, so that it is the same picture everywhere.
        parts: Also learn its four quarters, where brush strokes can be seen at 128 px.
    """

    file: str
    sha256: str
    caption: str
    parts: bool = True


class Sample(Data):
    """One file of the shelf.

    Attributes:
        name: Of the file; of an embedding also the word.
        says: What it does, in a line for the documentation.
        prompts: Fixed beforehand: the sheet shows all of them, seed i for prompt i.
        trigger: The word in prompts; none for embeddings.
        styles: Of the drawings it is learnt from; none for paintings.
        look: How the drawings are shown.
        pictures: How many drawings of each style.
        paintings: What it is learnt from otherwise.
        weight: At which it is best used, and shown on its sheet.
        licence_note: Goes into the card.
        request: Further fields of the training Request.
    """

    name: SetName
    says: str
    prompts: tuple[str, ...]
    trigger: str = ""
    styles: tuple[str, ...] = ()
    look: Look = "drawn"
    pictures: int = Field(default=10, ge=1)
    paintings: tuple[Painting, ...] = ()
    weight: float = Field(default=1.0, gt=0, le=2)
    licence_note: str
    request: dict[str, Any]


class Samples(Data):
    """The whole shelf."""

    sample: tuple[Sample, ...]


def load_samples(path: Path = CONFIG) -> tuple[Sample, ...]:
    """Every sample in the file's order."""
    return Samples.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).sample
