"""The worker's reviewers and judge: mini-CLIP, a Qwen-VL, an aesthetic predictor, each loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from danqing.models.clip import MiniClip
from danqing.review.base import BUILTIN, QWEN, Reviewer
from danqing.review.builtin import BuiltinReviewer
from danqing.review.qwen import open_qwen
from danqing.review.scoring import Judge
from danqing.spec.errors import InvalidRequestError
from danqing.workers.protocol import (
    JudgeCommand,
    JudgedMessage,
    PictureSource,
    ReviewCommand,
    ReviewedMessage,
    TaskMessage,
)


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
        self._judge = Judge(clip, models_dir, device)

    def prepare(self, command: ReviewCommand | JudgeCommand) -> None:
        """Load what the question needs.

        Raises:
            MissingWeightsError: It is not installed.
            BadFileError: It is damaged.
        """
        if isinstance(command, ReviewCommand):
            self._reviewer(command.reviewer)
        else:
            self._judge.prepare()

    def answer(self, command: ReviewCommand | JudgeCommand) -> TaskMessage:
        """The answer."""
        if isinstance(command, ReviewCommand):
            found = self._reviewer(command.reviewer).review(self._picture(command.picture), command.brief)
            return ReviewedMessage(task_id=command.task_id, findings=found)
        pictures = [self._picture(source) for source in command.pictures]
        return JudgedMessage(task_id=command.task_id, scores=tuple(self._judge.scores(pictures, command.brief)))

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
