"""The part of the Studio that asks models for reviews of a project's versions. No torch: the workers look.

What is asked runs in a thread; the answer becomes a Review of the project like a person's. Who cancels does not wait:
an answer that comes later is dropped. Only the Review is durable; of the asking itself the last hundred are known.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from functools import cached_property
from typing import Any, Final

from danqing.review.base import BUILTIN, MAX_BRIEF_CHARS, OPENAI, REVIEWERS, ReviewerInfo, checked_brief, find_reviewer
from danqing.review.findings import Findings
from danqing.review.vlm_files import find_qwen, missing_qwen
from danqing.spec.errors import ConflictError, DanqingError, MissingWeightsError, NotFoundError
from danqing.spec.model_review import Lacks, ModelReview, ModelReviewOrder, ReviewerChoice
from danqing.spec.project import Project
from danqing.spec.record import Record
from danqing.spec.review import Review, ReviewBody, ReviewSource, Said
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.studio.project_parts import ProjectParts
from danqing.studio.settings import Settings

AT_ONCE: Final = 4
REMEMBERED: Final = 100
_SAID = frozenset(Said.model_fields)
_log = logging.getLogger(__name__)


class Consulting(ProjectParts):
    """Reviews by models, of versions of a project."""

    settings: Settings

    @abstractmethod
    def live_project(self, project_id: str) -> Project:
        """A project that is not deleted."""

    @abstractmethod
    def version_record(self, project_id: str, record_id: str) -> Record:
        """A Record that is in the project."""

    @abstractmethod
    def review_by_model(self, picture: bytes | str, brief: str | None = None, *, reviewer: str = BUILTIN) -> Findings:
        """What a reviewer would change."""

    @abstractmethod
    def add_review(self, project_id: str, body: ReviewBody, *, source: ReviewSource = "person") -> tuple[Review, bool]:
        """Keep a review."""

    def reviewers(self) -> list[ReviewerChoice]:
        """Every reviewer, and what those lack that cannot be asked now."""
        return [_choice(info, self.settings) for info in REVIEWERS]

    def ask_for_review(self, project_id: str, order: ModelReviewOrder) -> ModelReview:
        """Begin to ask a model what it would change in a version; see `model_reviews`.

        Raises:
            NotFoundError: No such project, or the picture is no version of it.
            InvalidRequestError: There is no such reviewer, or no brief.
            ConflictError: Four are asked already, or the project is deleted.
        """
        project = self.live_project(project_id)
        record = self.version_record(project_id, order.record)
        info = find_reviewer(order.reviewer)
        words = order.brief or project.brief.words.strip()[:MAX_BRIEF_CHARS] or record.plan.base.text.prompt
        asked = ModelReview(id=new_id(), project=project_id, record=record.id, reviewer=info.key, started_at=utc_now())
        return self._asked.begin(asked, checked_brief(words))

    def model_reviews(self, project_id: str) -> list[ModelReview]:
        """What is being asked of models in this process, and the last that ended; newest first. NotFoundError."""
        self._projects.project(project_id)
        return self._asked.of(project_id)

    def cancel_model_review(self, asked_id: str) -> ModelReview:
        """Stop waiting: an answer that still comes is dropped. NotFoundError; ConflictError if it has ended."""
        return self._asked.cancel(asked_id)

    @cached_property
    def _asked(self) -> _Asked:
        return _Asked(self)


class _Asked:
    """Questions to models, each in a thread."""

    def __init__(self, studio: Consulting) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._known: dict[str, ModelReview] = {}

    def begin(self, asked: ModelReview, brief: str) -> ModelReview:
        with self._lock:
            if sum(one.state == "running" for one in self._known.values()) >= AT_ONCE:
                raise ConflictError(
                    "too many reviews are asked for",
                    value=AT_ONCE,
                    allowed=f"{AT_ONCE} at once",
                    next_step="wait for one to end, or cancel it",
                )
            self._known[asked.id] = asked
            ended = [key for key, one in self._known.items() if one.state != "running"]
            for key in ended[: max(0, len(self._known) - REMEMBERED)]:
                del self._known[key]
        threading.Thread(target=self._ask, args=(asked, brief), name=f"review-{asked.id}", daemon=True).start()
        return asked

    def of(self, project_id: str) -> list[ModelReview]:
        with self._lock:
            return [one for one in reversed(self._known.values()) if one.project == project_id]

    def cancel(self, asked_id: str) -> ModelReview:
        with self._lock:
            if asked_id not in self._known:
                raise NotFoundError(
                    "nothing of this kind is asked",
                    field="asked_id",
                    value=asked_id,
                    next_step="look at the project's reviews: what was asked before the server's start is forgotten",
                )
            there = self._known[asked_id]
            if there.state != "running":
                raise ConflictError("it has ended", value=there.state, next_step="look at the project's reviews")
            return self._change(there, state="cancelled")

    def _ask(self, asked: ModelReview, brief: str) -> None:
        try:
            found = self._studio.review_by_model(f"record:{asked.record}", brief, reviewer=asked.reviewer)
            with self._lock:  # between a look at the state and the review nobody may cancel
                if self._known[asked.id].state == "running":
                    source: ReviewSource = "builtin" if found.reviewer == BUILTIN else "model"
                    review, _ = self._studio.add_review(asked.project, _body(asked, found), source=source)
                    self._change(asked, state="done", review=review.id)
        except DanqingError as error:
            self._failed(asked, error)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            _log.exception("review %s broke", asked.id)
            self._failed(asked, DanqingError(f"{type(error).__name__}: {error}", next_step="see the server's log"))

    def _failed(self, asked: ModelReview, error: DanqingError) -> None:
        with self._lock:
            if self._known[asked.id].state == "running":
                self._change(asked, state="failed", error=error.as_dict())

    def _change(self, asked: ModelReview, **changes: object) -> ModelReview:
        self._known[asked.id] = asked.model_copy(update=changes)
        return self._known[asked.id]


def _body(asked: ModelReview, found: Findings) -> ReviewBody:
    """The findings as a review; sent under the id of the asking, so that it is kept once."""
    info = find_reviewer(asked.reviewer)
    name = info.name if asked.reviewer == BUILTIN or not found.model else found.model
    said = tuple(Said(**one.model_dump(include=_SAID)) for one in found.suggestions)
    return ReviewBody(
        key=asked.id, record=asked.record, reviewer=name[:80].strip() or info.name, suggestions=said, note=found.note
    )


def _choice(info: ReviewerInfo, settings: Settings) -> ReviewerChoice:
    about: dict[str, Any] = {"key": info.key, "name": info.name, "hint": info.hint}
    if info.key == BUILTIN:
        return _builtin(about, settings)
    if info.key == OPENAI:
        needed: tuple[Lacks, ...] = ("review_url", "review_model")
        unset = tuple(name for name in needed if getattr(settings, name) is None)
        about |= {"model": settings.review_model or "", "where": settings.review_url or ""}
        step = "set " + " and ".join(f"DANQING_{name.upper()}" for name in unset)
        if unset:
            return ReviewerChoice(
                **about, available=False, lacks=unset, missing="no vision endpoint is set", next_step=step
            )
        return ReviewerChoice(**about, available=True)
    folder = find_qwen(settings.models_path)
    if folder is not None:
        return ReviewerChoice(**about, available=True, model=folder.name)
    return _without_weights(about, missing_qwen(settings.models_path))


def _builtin(about: dict[str, Any], settings: Settings) -> ReviewerChoice:
    from danqing.models.clip_files import find_clip

    try:
        find_clip(settings.models_path)
    except MissingWeightsError as error:
        return _without_weights(about, error)
    return ReviewerChoice(**about, available=True)


def _without_weights(about: dict[str, Any], error: MissingWeightsError) -> ReviewerChoice:
    return ReviewerChoice(
        **about, available=False, lacks=("weights",), missing=error.message, next_step=error.next_step or ""
    )
