"""The judge itself: two scores of a picture, by mini-CLIP and the pixels, or by CLIP and an aesthetic predictor.

Loads torch: for the worker, and for trainers that ask whether pictures became better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from danqing.models.clip import MiniClip
from danqing.review.aesthetic import AestheticScorer, find_aesthetic
from danqing.review.judge import PHOTOMETRIC, photometric_beauty, similarity
from danqing.review.phrases import phrases_of
from danqing.spec.refine import Scores

_CROP = 0.94  # a second look, so that a score does not hang on single pixels


class Judge:
    """Scores pictures against a brief.

    Args:
        clip: Gives mini-CLIP, loaded.
        models_dir: `aesthetic/` in it is looked into.
        device: Where networks compute.
    """

    def __init__(self, clip: Callable[[], MiniClip], models_dir: Path | None, device: torch.device) -> None:
        self._clip = clip
        self._models_dir = models_dir
        self._device = device
        self._scorer: AestheticScorer | None = None

    def prepare(self) -> None:
        """Load what scores are read from.

        Raises:
            MissingWeightsError: It is not installed.
            BadFileError: It is damaged.
        """
        if self._open_scorer() is None:
            self._clip()

    def scores(self, pictures: Sequence[Image.Image], brief: str) -> list[Scores]:
        """Of each picture; `similarity` is to the first."""
        words = ", ".join(phrases_of(brief)) or brief
        scorer = self._open_scorer()
        if scorer is not None:
            found, judge = scorer.score(pictures, words), scorer.name
        else:
            fits = self._fits(pictures, words)
            found = [(fit, photometric_beauty(picture)) for fit, picture in zip(fits, pictures, strict=True)]
            judge = f"mini-clip {self._clip().sha256[:10]}, {PHOTOMETRIC}"
        return [
            Scores(prompt=_unit(fit), aesthetic=_unit(beauty), similarity=similarity(pictures[0], one), judge=judge)
            for (fit, beauty), one in zip(found, pictures, strict=True)
        ]

    def _open_scorer(self) -> AestheticScorer | None:
        if self._scorer is None and (files := find_aesthetic(self._models_dir)) is not None:
            self._scorer = AestheticScorer(files, self._device)
        return self._scorer

    def _fits(self, pictures: Sequence[Image.Image], words: str) -> list[float]:
        """Chance that the words belong to each picture: the mean over the whole and its middle."""
        clip = self._clip()
        texts = clip.embed_texts([words])
        whole = clip.scores(clip.embed_images(list(pictures)), texts)[:, 0]
        middle = clip.scores(clip.embed_images([_middle(picture) for picture in pictures]), texts)[:, 0]
        return [float(score) for score in (whole + middle) / 2.0]


def _middle(picture: Image.Image) -> Image.Image:
    x, y = (max(0, round(side * (1.0 - _CROP) / 2.0)) for side in picture.size)
    return picture.crop((x, y, max(x + 1, picture.width - x), max(y + 1, picture.height - y)))


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
