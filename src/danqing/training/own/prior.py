"""Prior preservation: pictures of the class, painted by the model as it is, which the run folder keeps."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import DreamBoothRequest
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.own.context import Context
from danqing.training.own.opened import Opened
from danqing.training.own.sampling import Look, Painting, paint
from danqing.training.own.seeds import seed_of

FOLDER = "class"
AT_ONCE = 8


@dataclass(frozen=True)
class Prior:
    """A set with pictures of the class.

    Attributes:
        made: The set.
        elsewhere: File → folder of those pictures that do not lie with the set.
        seconds: Of an estimate: how long painting them will take.
    """

    made: TrainingSet
    elsewhere: Mapping[str, Path] = field(default_factory=dict[str, Path])
    seconds: float = 0.0


def with_class(made: TrainingSet, request: DreamBoothRequest, opened: Opened, context: Context) -> Prior:
    """The set with as many pictures of the class as are asked for: its own first, the others painted.

    Args:
        made: The set.
        request: How many, and whether the class counts at all.
        opened: What paints them; it must not have learnt anything yet.
        context: Whose folder keeps them.

    Raises:
        InvalidRequestError: They are to be painted, and the set does not say what the class is.
    """
    if request.prior_weight == 0:
        own = tuple(picture for picture in made.pictures if not picture.regularisation)
        return Prior(made.model_copy(update={"pictures": own}))
    there = sum(picture.regularisation for picture in made.pictures)
    missing = request.prior_pictures - there
    words = made.class_words.strip()
    if missing <= 0 or (there and not words):
        return Prior(made)
    if not words:
        raise InvalidRequestError(
            "prior preservation needs to know what the subject is an instance of",
            field="dataset",
            value=made.name,
            allowed="a set with class words (for example: dog), or with pictures of the class",
            next_step="write the set's class, or set prior_weight to 0",
        )
    look = Look.of(opened, request.size_px)
    if context.estimating:
        started = time.monotonic()
        paint(opened, [Painting(words, 0)], look)
        return Prior(made, seconds=(time.monotonic() - started) * missing)
    folder = context.folder / FOLDER
    _paint_missing(Job(opened, words, look, request.seed, missing), folder, context)
    painted = tuple(_described(folder / "pictures" / _name(i), words) for i in range(missing))
    elsewhere = {picture.file: folder for picture in painted}
    return Prior(made.model_copy(update={"pictures": (*made.pictures, *painted)}), elsewhere)


@dataclass(frozen=True)
class Job:
    """Which pictures are painted."""

    opened: Opened
    words: str
    look: Look
    seed: int
    count: int

    @property
    def key(self) -> str:
        """What they depend on."""
        return json.dumps([self.opened.info.sha256, self.words, list(vars(self.look).values()), self.seed])


def _paint_missing(job: Job, folder: Path, context: Context) -> None:
    """Paint what does not lie there from before; pictures of another model or other words go."""
    note, pictures = folder / "about.json", folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    if not note.is_file() or note.read_text(encoding="utf-8") != job.key:
        for old in pictures.glob(_name(0).replace("00000", "*")):
            old.unlink()
        note.write_text(job.key, encoding="utf-8")
    left = [i for i in range(job.count) if not (pictures / _name(i)).is_file()]
    if left:
        context.events.note(f"{len(left)} pictures of the class ({job.words}) are painted first")
    for first in range(0, len(left), AT_ONCE):
        some = left[first : first + AT_ONCE]
        wanted = [Painting(job.words, seed_of(job.seed, "class", i) % 2**32) for i in some]
        for number, image in zip(some, paint(job.opened, wanted, job.look), strict=True):
            temporary = pictures / f"{_name(number)}.tmp"
            image.save(temporary, "PNG")
            temporary.replace(pictures / _name(number))


def _name(number: int) -> str:
    """Of a file; no set that was imported has such names."""
    return f"painted~class~{number:05}.png"


def _described(path: Path, words: str) -> TrainingPicture:
    with Image.open(path) as image:
        width, height = image.size
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return TrainingPicture(
        file=path.name, sha256=sha256, width_px=width, height_px=height, caption=words, regularisation=True
    )
