"""The part of the Studio that has pictures reviewed and judged by models. No torch: the workers look."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from danqing.review.base import BUILTIN, OPENAI, checked_brief, find_reviewer
from danqing.review.findings import Findings
from danqing.spec.errors import BadFileError, UnsupportedError, WorkerError
from danqing.spec.refine import Scores
from danqing.store.base import Store, Upload
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.studio.answering import answer_of
from danqing.studio.settings import Settings
from danqing.studio.stored import stored_picture
from danqing.studio.uploads import UploadLimits, check_picture
from danqing.workers.pool import WorkerPool
from danqing.workers.protocol import (
    JudgeCommand,
    JudgedMessage,
    PictureSource,
    ReviewCommand,
    ReviewedMessage,
)

if TYPE_CHECKING:
    from danqing.review.openai_endpoint import OpenAIReviewer

ANSWER_TIMEOUT_S = 900.0  # a worker may have to start and load a vision-language model first


class Reviewing(ABC):
    """Reviews and judgements by models."""

    settings: Settings
    blobs: BlobStore
    pool: WorkerPool

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The open studio's store."""

    @property
    @abstractmethod
    def _limits(self) -> UploadLimits:
        """For pictures from outside."""

    @abstractmethod
    def upload(self, data: bytes, *, name: str = "") -> Upload:
        """Check and keep a picture, upright. BadFileError."""

    def review_by_model(self, picture: bytes | str, brief: str | None = None, *, reviewer: str = BUILTIN) -> Findings:
        """What a reviewer would change in a picture.

        Args:
            picture: A file's bytes, `record:<id>` or `sha256:<hex>`.
            brief: What it is to show; a Record's own words if unset.
            reviewer: A key or alias of `review.base.REVIEWERS`.

        Raises:
            InvalidRequestError: There is no such reviewer, or no brief.
            UnsupportedError: The endpoint has no address or no model in the settings.
            MissingWeightsError: The reviewer's weights are not installed.
            WorkerError: The endpoint or the worker gives no answer.
        """
        info = find_reviewer(reviewer)
        words = checked_brief(self._words_of(picture) if brief is None else brief)
        if info.key == OPENAI:
            asked = self._endpoint()
            return asked.review(self._opened(picture), words)
        command = ReviewCommand(task_id=new_id(), picture=self._kept(picture), brief=words, reviewer=info.key)
        answer = answer_of(self.pool.ask(command), ANSWER_TIMEOUT_S)
        if not isinstance(answer, ReviewedMessage):
            raise WorkerError("the worker answered another question", value=answer.type)
        return answer.findings

    def judge(self, pictures: Sequence[str], brief: str) -> tuple[Scores, ...]:
        """What the judge says of stored pictures; the first is what the others are compared with.

        Args:
            pictures: `record:<id>` or `sha256:<hex>`.
            brief: What they are to show.
        """
        sources = tuple(self._kept(picture) for picture in pictures)
        command = JudgeCommand(task_id=new_id(), brief=checked_brief(brief), pictures=sources)
        answer = answer_of(self.pool.ask(command), ANSWER_TIMEOUT_S)
        if not isinstance(answer, JudgedMessage) or len(answer.scores) != len(pictures):
            raise WorkerError("the worker answered another question", value=answer.type)
        return answer.scores

    def _endpoint(self) -> OpenAIReviewer:
        from danqing.review.openai_endpoint import Endpoint, OpenAIReviewer

        settings = self.settings
        unset = [name for name in ("review_url", "review_model") if getattr(settings, name) is None]
        if settings.review_url is None or settings.review_model is None:
            raise UnsupportedError(
                "no vision endpoint is set",
                field="reviewer",
                value=OPENAI,
                allowed="an OpenAI-compatible address and a model's name",
                next_step="set " + " and ".join(f"DANQING_{name.upper()}" for name in unset),
            )
        return OpenAIReviewer(
            Endpoint(
                url=settings.review_url,
                model=settings.review_model,
                key=settings.review_key,
                timeout_s=settings.review_timeout_s,
                scale=settings.review_coordinates,
            )
        )

    def _words_of(self, picture: bytes | str) -> str:
        if isinstance(picture, str) and picture.startswith("record:"):
            return self._store.record(picture.removeprefix("record:")).plan.base.text.prompt
        return ""

    def _kept(self, picture: bytes | str) -> PictureSource:
        """What the worker is to look at, in full size, so that boxes fit; bytes are kept for a day, as uploads are."""
        if isinstance(picture, str):
            return PictureSource(sha256=stored_picture(picture, self._store, self.blobs))
        return PictureSource(sha256=self.upload(picture, name="review").sha256)

    def _opened(self, picture: bytes | str) -> Image.Image:
        if isinstance(picture, str):
            data = self.blobs.read(stored_picture(picture, self._store, self.blobs))
        else:
            data = check_picture(picture, self._limits).data
        try:
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
            image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadFileError("this picture cannot be read", field="image", next_step="choose another one") from error
        return image
