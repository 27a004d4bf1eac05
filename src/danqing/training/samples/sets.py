"""Training sets of samples: from drawings of the built-in data, or from paintings that lie in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from danqing.sets.folder import write_set
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.builtin.captions import STYLE_WORDS
from danqing.training.builtin.config import load_config
from danqing.training.builtin.dataset import Picture, load, split
from danqing.training.samples.config import Painting, Sample
from danqing.training.samples.looks import SIDE_PX, shown

SEED = 11
TEMPLATE = "{caption}, {trigger}"
"""The built-in model reads a style behind its subject."""
LONGER_SIDE_PX = 512
"""Of paintings in a set: four times what is trained, so that their quarters are sharp too."""
QUARTER = 0.6
"""Side of a painting's quarter as a share of the painting's: they overlap."""


def make_set(sample: Sample, folder: Path, drawings: Path, paintings: Path) -> TrainingSet:
    """Write a sample's set below `folder`.

    Args:
        sample: What it is learnt from.
        folder: Of sets; the set gets the sample's name.
        drawings: As `danqing dataset builtin` leaves them.
        paintings: A folder with the painters' files.

    Raises:
        NotFoundError: The drawings are not there.
        MissingWeightsError: A painting is not there.
        BadFileError: A painting is another file than the sample means.
    """
    target = folder / sample.name
    (target / "pictures").mkdir(parents=True, exist_ok=True)
    source = _from_drawings(sample, drawings) if sample.styles else _from_paintings(sample, paintings)
    pictures: list[TrainingPicture] = []
    for stem, caption, image in source:
        path = target / "pictures" / f"{stem}.png"
        image.save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        wide, high = image.size
        pictures.append(TrainingPicture(file=path.name, sha256=sha256, caption=caption, width_px=wide, height_px=high))
    made = TrainingSet(
        name=sample.name,
        kind="style",
        trigger=sample.trigger,
        caption_template=TEMPLATE,
        licence_note=sample.licence_note,
        pictures=tuple(pictures),
    )
    write_set(target, made)
    return made


def _from_drawings(sample: Sample, folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    """Drawings in a random order that is the same for every sample: those of subjects that the model knows."""
    labels = load_config("builtin-cpu").unet.labels
    everything = load(folder, SIDE_PX)
    for style in sample.styles:
        drawn = split(everything, held_out=False, styles=(style,), labels=labels)
        order = np.random.default_rng(SEED).permutation(len(drawn.pictures))[: sample.pictures]
        for i in order:
            picture: Picture = drawn.pictures[int(i)]
            label = picture.concept.words["en"][0]
            stem = f"{label} {style}".replace(" ", "_")
            said = f"{label}, {STYLE_WORDS[style]['en'][0]}" if len(sample.styles) > 1 else label
            yield stem, said, shown(np.asarray(drawn.rgba[picture.row]), sample.look)


def _from_paintings(sample: Sample, folder: Path) -> Iterator[tuple[str, str, Image.Image]]:
    for painting in sample.paintings:
        image = _opened(painting, folder)
        image.thumbnail((LONGER_SIDE_PX, LONGER_SIDE_PX), Image.Resampling.LANCZOS)
        stem = Path(painting.file).stem
        yield stem, painting.caption, image
        for number, part in enumerate(_quarters(image) if painting.parts else ()):
            yield f"{stem}-{number + 1}", painting.caption, part


def _opened(painting: Painting, folder: Path) -> Image.Image:
    path = folder / painting.file
    if not path.is_file():
        raise MissingWeightsError(
            f"the painting {painting.file} is not there",
            field="--paintings",
            value=str(folder),
            next_step=f"put the file there; its sha256 is {painting.sha256}",
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != painting.sha256:
        raise BadFileError(
            f"{painting.file} is another file than the sample was learnt from",
            field="--paintings",
            value=str(path),
            allowed=f"the file with sha256 {painting.sha256}",
        )
    return Image.open(path).convert("RGB")


def _quarters(image: Image.Image) -> Iterator[Image.Image]:
    wide, high = round(image.width * QUARTER), round(image.height * QUARTER)
    for top in (0, image.height - high):
        for left in (0, image.width - wide):
            yield image.crop((left, top, left + wide, top + high))
