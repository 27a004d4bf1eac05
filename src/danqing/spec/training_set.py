"""Training sets: pictures with captions, as they lie in a folder that other trainers can read too.

A set is a folder: `pictures/` holds the files, a caption stands beside each as `.txt` (so kohya's scripts and A1111
read it), masks as `masks/NAME.png`, and `set.json` is this `TrainingSet`. The captions in the `.txt` files win.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from danqing.spec.base import Data, Sha256
from danqing.spec.geometry import BoxPx

MAX_SET_PICTURES = 20_000
MAX_CAPTION_CHARS = 4_000
SetKind = Literal["style", "subject", "control", "pairs", "plain"]
"""What the set teaches: a style, a subject, a control map's meaning, before/after pairs, or anything."""
SetName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=80,
        pattern=r"^[^\\/:*?\"<>|\x00-\x1f.][^\\/:*?\"<>|\x00-\x1f]*$",
        description="also the folder's name: no slashes, no leading dot",
    ),
]
Complaint = Literal["blurred", "small", "duplicate", "no_caption", "unreadable"]


class TrainingPicture(Data):
    """One picture of a set.

    Attributes:
        file: Name in `pictures/`.
        sha256: Of the file's bytes.
        caption: Words, or comma-separated tags.
        crop: The part that is shown to the trainer; None for all of it.
        mask: Name in `masks/`: where white, the picture counts; None for everywhere.
        repeats: How often it is shown in one epoch (kohya's `10_name` folders).
        regularisation: A picture of the class, not of the subject (DreamBooth's prior preservation).
        conditioning: Name in `conditioning/`: its control map (control) or the picture before (pairs).
        complaints: What a check found.
        like: Name of the picture that it repeats, for `duplicate`.
        sharpness: Variance of the Laplacian at 512 px; under `BLUR_BELOW` it counts as blurred.
    """

    file: str = Field(min_length=1, max_length=255)
    sha256: Sha256
    width_px: int = Field(ge=1)
    height_px: int = Field(ge=1)
    caption: str = Field(default="", max_length=MAX_CAPTION_CHARS)
    crop: BoxPx | None = None
    mask: str | None = None
    repeats: int = Field(default=1, ge=0, le=10_000)
    regularisation: bool = False
    conditioning: str | None = None
    complaints: tuple[Complaint, ...] = ()
    like: str | None = None
    sharpness: float | None = None


class TrainingSet(Data):
    """A set and what it is for.

    Attributes:
        trigger: The word that calls what is learnt; joined to captions that lack it.
        class_words: What it is an instance of, for example "painting", "woman".
        caption_template: With `{trigger}`, `{caption}` and `{class}`: how the trainer's captions are made.
        mirror: Pictures may also be shown mirrored: nothing in them has a side, such as letters or a parting.
        licence_note: Where the pictures come from and what may be done with them; goes into the model card.
        recipe: Name of the ready-made style project it was begun from.
    """

    name: SetName
    kind: SetKind = "plain"
    trigger: str = Field(default="", max_length=80)
    class_words: str = Field(default="", max_length=200)
    caption_template: str = Field(default="{trigger}, {caption}", max_length=400)
    mirror: bool = False
    licence_note: str = Field(default="", max_length=4_000)
    recipe: str | None = None
    pictures: tuple[TrainingPicture, ...] = Field(default=(), max_length=MAX_SET_PICTURES)
