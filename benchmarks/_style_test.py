"""A style to learn from ten drawings, and how one measures that it was learnt: for trainers of every kind.

The drawings are those that `danqing dataset builtin` makes (environment variable `DANQING_DRAWINGS`, a folder); the
judge of subjects is the evaluation's (`DANQING_JUDGE`, its run folder; trained there first if it is not there yet).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danqing.models.catalog import Catalog
from danqing.sets.folder import write_set
from danqing.spec.errors import MissingWeightsError
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.builtin import dataset as data
from danqing.training.builtin.config import load_config
from danqing.training.builtin.dataset import Dataset, Picture
from danqing.training.builtin.scenes import Scene, paint_scene
from danqing.training.evaluation.bench import Bench, Places
from danqing.training.evaluation.config import Sizes
from danqing.training.evaluation.evaluator import Evaluator, open_evaluator
from danqing.training.evaluation.family import open_family
from danqing.training.evaluation.painting import Order, Painter
from danqing.training.evaluation.prompts import caption
from danqing.training.evaluation.style import StyleReader, learn_styles

PICTURES = 10
SUBJECTS = 60
CHOICES = 50
SIDE_PX = 128
TRIGGER = "zdq style"
TEMPLATE = "{caption}, {trigger}"
"""The built-in model reads a style behind its subject; with the new word in front it hardly knows the subject."""
SEED = 5


def drawings_folder() -> Path:
    """Where the drawings lie.

    Raises:
        MissingWeightsError: It is not said, or not so.
    """
    folder = Path(os.environ.get("DANQING_DRAWINGS", "."))
    if not (folder / "pictures.json").is_file():
        raise MissingWeightsError(
            "the drawings that styles are learnt from are not there",
            field="DANQING_DRAWINGS",
            value=str(folder),
            next_step="make them with `danqing dataset builtin`, and set DANQING_DRAWINGS to their folder",
        )
    return folder


@dataclass
class StyleTest:
    """One style, ten drawings to learn it from, other subjects to show it on.

    Attributes:
        style: As the drawings name it; the model may know it, under another word, or not at all.
        scratch: A folder for sets, models and pictures.
        subjects: How many unseen ones are painted.
    """

    style: str
    scratch: Path
    subjects: int = SUBJECTS

    @cached_property
    def bench(self) -> Bench:
        """Drawings and judge of the evaluation."""
        judge = Path(os.environ.get("DANQING_JUDGE", str(self.scratch / "judge")))
        family = open_family(None, self.scratch / "family")
        places = Places(drawings_folder(), judge, self.scratch / "docs")
        return Bench(load_config("builtin-cpu"), Sizes(), places, family, torch.device("cpu"))

    @cached_property
    def drawn(self) -> Dataset:
        """Every drawing in this style of a subject that the model knows."""
        labels = self.bench.config.unet.labels
        return data.split(self.bench.full, held_out=False, styles=(self.style,), labels=labels)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The drawings in random order: the first ten are learnt."""
        return np.random.default_rng(SEED).permutation(len(self.drawn.pictures))

    @property
    def unseen(self) -> list[Picture]:
        """Subjects that were not among the ten."""
        return [self.drawn.pictures[int(i)] for i in self.order[PICTURES : PICTURES + self.subjects]]

    def write_set(self, sets_dir: Path, name: str) -> TrainingSet:
        """The ten drawings on white as a training set."""
        folder = sets_dir / name
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        pictures: list[TrainingPicture] = []
        for i in self.order[:PICTURES]:
            picture = self.drawn.pictures[int(i)]
            label = label_of(picture)
            path = folder / "pictures" / f"{label.replace(' ', '_')}.png"
            Image.fromarray(paint_scene(np.asarray(self.drawn.rgba[picture.row]), Scene(), SIDE_PX)).save(path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            pictures.append(
                TrainingPicture(file=path.name, sha256=sha256, width_px=SIDE_PX, height_px=SIDE_PX, caption=label)
            )
        made = TrainingSet(
            name=name, kind="style", trigger=TRIGGER, caption_template=TEMPLATE, pictures=tuple(pictures)
        )
        write_set(folder, made)
        return made

    @cached_property
    def reader(self) -> StyleReader:
        """Tells the model's own styles and this one apart, learnt from real drawings, plain and once decoded."""
        own = self.bench.config.unet.styles
        styles = tuple(dict.fromkeys([*own, self.style]))
        labels = self.bench.config.unet.labels
        drawings = data.split(self.bench.full, held_out=False, styles=styles, labels=labels)
        rgb = np.stack([paint_scene(np.asarray(one), Scene(), SIDE_PX) for one in drawings.rgba])
        names = [picture.style for picture in drawings.pictures]
        return learn_styles(np.concatenate([rgb, self.bench.repeat(rgb)]), [*names, *names])

    @cached_property
    def judge(self) -> Evaluator:
        """Recognises subjects; the model never saw it."""
        return open_evaluator(self.bench.lessons, self.bench.places.run, self.bench.device)

    def painter(self, products: Sequence[tuple[Path, str]] = ()) -> Painter:
        """The ordinary engine, with files where a person would put them.

        Args:
            products: File or folder, and its place below the models folder, for example `Lora`.
        """
        models = self.scratch / "models"
        for path, place in products:
            target = models / place / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, target)
        models.mkdir(parents=True, exist_ok=True)
        family = replace(self.bench.family, catalog=Catalog(models))
        return Painter(family, self.bench.device, batch=16)

    def paint(self, painter: Painter, pattern: str) -> NDArray[np.uint8]:
        """Every unseen subject, seed i for subject i; `{}` in the pattern stands for it."""
        return painter.paint([Order(pattern.format(label_of(one)), i) for i, one in enumerate(self.unseen)])

    def measure(self, pictures: NDArray[np.uint8]) -> dict[str, float]:
        """Shares: read as this style; recognised as their subject among 50."""
        read = self.reader.read(pictures)
        return {
            "style": float(np.mean([one == self.style for one in read])),
            "subject": float(self.recognised(pictures).mean()),
        }

    def recognised(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Whether the judge picks each picture's own subject among those of others."""
        rng = np.random.default_rng(SEED + 1)
        count = len(self.unseen)
        rows = [[i, *rng.permutation([j for j in range(count) if j != i])[: CHOICES - 1]] for i in range(count)]
        images = self.judge.embed_images(pictures)
        scores = np.max([images @ self.judge.embed_texts(texts).T for texts in self._captions], axis=0)
        found = [scores[i, row].argmax() == 0 for i, row in enumerate(rows)]
        return np.asarray(found, np.float64)

    @cached_property
    def _captions(self) -> list[list[str]]:
        """Every subject in the words of each style that the judge learnt: a subject counts in whichever fits best."""
        styles = self.bench.config.unet.styles
        return [
            [caption(one, (label_of(one), style, None, ("white",)), "en") for one in self.unseen] for style in styles
        ]

    def real(self) -> NDArray[np.uint8]:
        """The real drawings of the unseen subjects: the ceiling of both measures."""
        return np.stack([paint_scene(np.asarray(self.drawn.rgba[one.row]), Scene(), SIDE_PX) for one in self.unseen])

    def about(self) -> dict[str, Any]:
        """What was tested, for a result."""
        taught = [label_of(self.drawn.pictures[int(i)]) for i in self.order[:PICTURES]]
        return {"style": self.style, "taught": taught, "unseen_subjects": len(self.unseen), "choices": CHOICES}


def label_of(picture: Picture) -> str:
    """What a drawing shows, in English."""
    return picture.concept.words["en"][0]
