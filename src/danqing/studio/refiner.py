"""One refinement: paint, review, paint again, keep what the judge accepts (the loop of ArtAug, arXiv 2412.12888).

A round's picture is painted by the user `refining` and its Record is deleted the moment it is there; one that the judge
accepts is restored. So a rejected round, and one that a crash cut off, leaves no version in the gallery.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from danqing.review.findings import Findings
from danqing.review.judge import decide
from danqing.spec.errors import CancelledError, ConflictError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.events import Event, RecordEvent
from danqing.spec.model import ModelInfo
from danqing.spec.record import Job, Record
from danqing.spec.refine import Refinement, RefineOptions, RefineRound, Scores
from danqing.spec.request import Request
from danqing.spec.review import Suggestion
from danqing.store.base import Upload
from danqing.studio.revising import Attempt, Easel, attempts

REFINING: Final = "refining"
"""The user of a round's job: a page does not take it for a painting of its own."""
Report = Callable[[Refinement], None]
_WATCH_S = 1.0
_log = logging.getLogger(__name__)


def _ignore(_: Refinement) -> None:
    return


@dataclass(frozen=True)
class Watch:
    """Who hears of a refinement, and who stops it.

    Attributes:
        report: Called after every change.
        stopped: Looked at between and within rounds.
    """

    report: Report = _ignore
    stopped: Callable[[], bool] = lambda: False


SILENT = Watch()


class Workshop(Protocol):
    """What refining needs of a Studio; each as there."""

    def submit(self, request: Request, *, user: str = "local") -> Job:
        """Queue a Request."""
        ...

    def job(self, job_id: str) -> Job:
        """A job as it stands."""
        ...

    def watch(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[tuple[int, Event]]:
        """Its events."""
        ...

    def cancel(self, job_id: str) -> Job:
        """Stop it."""
        ...

    def record(self, record_id: str) -> Record:
        """A Record, also a deleted one."""
        ...

    def delete_record(self, record_id: str) -> Record:
        """Hide it."""
        ...

    def restore_record(self, record_id: str) -> Record:
        """Show it again."""
        ...

    def upload(self, data: bytes, *, name: str = "") -> Upload:
        """Keep a picture."""
        ...

    def models(self) -> list[ModelInfo]:
        """The models."""
        ...

    def review_by_model(self, picture: bytes | str, brief: str | None = None, *, reviewer: str = ...) -> Findings:
        """What to change."""
        ...

    def judge(self, pictures: Sequence[str], brief: str) -> tuple[Scores, ...]:
        """How good pictures are."""
        ...


class Refiner:
    """One refinement.

    Args:
        studio: Paints, reviews, judges.
        begun: As it stands before the first picture.
        options: Rounds and rules.
        watch: Who hears of it.
    """

    def __init__(self, studio: Workshop, begun: Refinement, options: RefineOptions, watch: Watch) -> None:
        self._studio = studio
        self._options = options
        self._watch = watch
        self.state = begun

    def run(self, start: Request | str) -> Refinement:
        """See `Refining.refine`."""
        try:
            record = self._first(start)
            scores = self._studio.judge([f"record:{record.id}"], self.state.brief)[0]
            self._tell(first=record.id, best=record.id, scores_first=scores, scores_best=scores)
            note = self._rounds(record, scores)
        except CancelledError as error:
            self._tell(state="cancelled", note=error.message)
            return self.state
        except DanqingError as error:
            self._tell(state="failed", note=error.message, error=error.as_dict())
            raise
        self._tell(state="done", note=note)
        return self.state

    def fail(self, error: Exception) -> None:
        """Say that it ended by a fault of the program."""
        told = DanqingError(f"{type(error).__name__}: {error}", next_step="see the server's log")
        self._tell(state="failed", note=told.message, error=told.as_dict())

    def _first(self, start: Request | str) -> Record:
        if isinstance(start, str):
            record = self._studio.record(start)
            if record.deleted_at is not None:
                raise NotFoundError(
                    "that picture was deleted", field="record", value=start, next_step="restore it first"
                )
            return record
        if start.count != 1:
            raise InvalidRequestError(
                "one picture at a time is refined",
                field="count",
                value=start.count,
                allowed="1",
                next_step="refine each",
            )
        return self._painted(start, user="local")

    def _rounds(self, record: Record, scores: Scores) -> str:
        """Why it stopped."""
        left = self._options.rounds
        easel = Easel(self._studio.models(), lambda data: f"sha256:{self._studio.upload(data, name='mask').sha256}")
        while left > 0:
            found = self._studio.review_by_model(
                f"record:{record.id}", self.state.brief, reviewer=self._options.reviewer
            )
            if not found.suggestions:
                return found.note or "nothing to change"
            better = None
            for suggestion, attempt in _in_turn(found, record, self.state.brief, easel):
                if left == 0:
                    return "the rounds are used up"
                left -= 1
                done, better = self._round(record, scores, suggestion, attempt)
                self._tell(rounds=(*self.state.rounds, done))
                if better is not None and done.scores_after is not None:
                    record, scores = better, done.scores_after
                    self._tell(best=record.id, scores_best=scores)
                    break
            if better is None:
                return "nothing improves the picture any more"
        return "the rounds are used up"

    def _round(
        self, record: Record, scores: Scores, suggestion: Suggestion, attempt: Attempt
    ) -> tuple[RefineRound, Record | None]:
        """One attempt: what came of it, and the new version if it was accepted."""
        done = RefineRound(
            number=len(self.state.rounds) + 1,
            suggestion=suggestion,
            way=attempt.way,
            before=record.id,
            scores_before=scores,
        )
        try:
            painted = self._painted(attempt.request, user=REFINING)
            after = self._studio.judge([f"sha256:{record.picture}", f"sha256:{painted.picture}"], self.state.brief)[1]
            verdict = decide(scores, after, self._options.rules)
            accepted = self._studio.restore_record(painted.id) if verdict.accepted else None
        except CancelledError:
            raise
        except DanqingError as error:
            self._check_stopped()
            _log.warning("a round of refinement %s failed: %s", self.state.id, error)
            return done.model_copy(update={"verdict": f"it could not be painted: {error.message}"}), None
        changes = {
            "scores_after": after,
            "accepted": verdict.accepted,
            "verdict": verdict.reason,
            "after": None if accepted is None else accepted.id,
        }
        return done.model_copy(update=changes), accepted

    def _painted(self, request: Request, *, user: str) -> Record:
        """The one Record of a Request, once it is there; deleted at once if it is a round's."""
        job = self._studio.submit(request, user=user)
        found: str | None = None
        seen = 0
        while True:
            for number, event in self._studio.watch(job.id, after=seen, timeout_s=_WATCH_S):
                seen = number
                if isinstance(event, RecordEvent):
                    found = self._hidden(event.record_id, user)
            if (ended := self._studio.job(job.id)).is_final:
                break
            self._check_stopped(job)
        if found is None and ended.records:
            found = self._hidden(ended.records[0], user)
        if ended.state == "cancelled":
            raise CancelledError("the job was cancelled", value=job.id)
        if found is None:
            raise DanqingError.from_dict(ended.error or {"message": "the job ended without a picture"})
        return self._studio.record(found)

    def _hidden(self, record_id: str, user: str) -> str:
        if user == REFINING:
            try:
                self._studio.delete_record(record_id)
            except ConflictError:
                _log.debug("record %s is deleted already", record_id)
        return record_id

    def _check_stopped(self, job: Job | None = None) -> None:
        if not self._watch.stopped():
            return
        if job is not None:
            try:
                self._studio.cancel(job.id)
            except ConflictError:
                _log.debug("job %s had ended already", job.id)
        raise CancelledError("it was stopped", value=self.state.id)

    def _tell(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        self._watch.report(self.state)


def _in_turn(found: Findings, record: Record, brief: str, easel: Easel) -> Sequence[tuple[Suggestion, Attempt]]:
    """Every suggestion's first way, then every one's second, and so on."""
    rows = [[(one, way) for way in attempts(record, one, brief, easel)] for one in found.suggestions]
    longest = max((len(row) for row in rows), default=0)
    return [row[turn] for turn in range(longest) for row in rows if turn < len(row)]
