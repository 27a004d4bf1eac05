"""The worker's reviewers and judge: mini-CLIP, a Qwen-VL, an aesthetic predictor, each loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from danqing.models.clip import MiniClip
from danqing.review.aesthetic import AestheticScorer, find_aesthetic
from danqing.review.base import BUILTIN, QWEN, Reviewer
from danqing.review.builtin import BuiltinReviewer
from danqing.review.judge import PHOTOMETRIC, photometric_beauty, similarity
from danqing.review.phrases import phrases_of
from danqing.review.qwen import open_qwen
from danqing.spec.errors import InvalidRequestError
from danqing.spec.refine import Scores
from danqing.workers.protocol import (
    JudgeCommand,
    JudgedMessage,
    PictureSource,
    ReviewCommand,
    ReviewedMessage,
    TaskMessage,
)

_CROP = 0.94  # a second look, so that a score does not hang on single pixels


class Critic:
    """Reviews and judges.

    Args:
        clip: Gives mini-CLIP, loaded.
        picture: Opens a picture.
        models_dir: `VLM/` and `aesthetic/` in it are looked into.
        device: Where networks compute.
    """

    def __init__(
        self,
        clip: Callable[[], MiniClip],
        picture: Callable[[PictureSource], Image.Image],
        models_dir: Path | None,
        device: torch.device,
    ) -> None:
        self._clip = clip
        self._picture = picture
        self._models_dir = models_dir
        self._device = device
        self._reviewers: dict[str, Reviewer] = {}
        self._scorer: AestheticScorer | None = None

    def prepare(self, command: ReviewCommand | JudgeCommand) -> None:
        """Load what the question needs.

        Raises:
            MissingWeightsError: It is not installed.
            BadFileError: It is damaged.
        """
        if isinstance(command, ReviewCommand):
            self._reviewer(command.reviewer)
        elif self._open_scorer() is None:
            self._clip()

    def answer(self, command: ReviewCommand | JudgeCommand) -> TaskMessage:
        """The answer."""
        if isinstance(command, ReviewCommand):
            found = self._reviewer(command.reviewer).review(self._picture(command.picture), command.brief)
            return ReviewedMessage(task_id=command.task_id, findings=found)
        pictures = [self._picture(source) for source in command.pictures]
        return JudgedMessage(task_id=command.task_id, scores=tuple(self._judge(pictures, command.brief)))

    def _reviewer(self, name: str) -> Reviewer:
        if name not in self._reviewers:
            if name == BUILTIN:
                self._reviewers[name] = BuiltinReviewer(self._clip())
            elif name == QWEN:
                self._reviewers[name] = open_qwen(self._models_dir, self._device)
            else:
                raise InvalidRequestError(
                    "no worker has this reviewer", field="reviewer", value=name, allowed=f"{BUILTIN}, {QWEN}"
                )
        return self._reviewers[name]

    def _open_scorer(self) -> AestheticScorer | None:
        if self._scorer is None and (files := find_aesthetic(self._models_dir)) is not None:
            self._scorer = AestheticScorer(files, self._device)
        return self._scorer

    def _judge(self, pictures: Sequence[Image.Image], brief: str) -> list[Scores]:
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
