"""One refinement: paint, review, paint again, keep what the judge accepts (the loop of ArtAug, arXiv 2412.12888).

A round's picture is painted by the user `refining` and its Record is deleted the moment it is there; one that the judge
accepts is restored. So a rejected round, and one that a crash cut off, leaves no version in the gallery. An accepted
round is reported before its version is restored: what a crash cuts off in between, `studio.refining` makes good.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from danqing.review.findings import Findings
from danqing.review.judge import decide
from danqing.spec.errors import CancelledError, ConflictError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.events import Event, RecordEvent
from danqing.spec.model import ModelInfo
from danqing.spec.project import ProjectItem
from danqing.spec.record import Job, Record
from danqing.spec.refine import RefineEnd, Refinement, RefineRound, RefineState, RefineStep, Scores
from danqing.spec.request import Request
from danqing.spec.review import Suggestion
from danqing.store.base import Upload
from danqing.store.projects_base import Tie
from danqing.studio.revising import Attempt, Easel, attempts

REFINING: Final = "refining"
"""The user of a round's job: a page does not take it for a painting of its own."""
Report = Callable[[Refinement], None]
T = TypeVar("T")
_WATCH_S = 1.0
_LOOK_S = 0.2
_log = logging.getLogger(__name__)


def _ignore(_: Refinement) -> None:
    return


@dataclass(frozen=True)
class Watch:
    """Who hears of a refinement, and who stops it.

    Attributes:
        report: Called after every change; a ConflictError says that the refinement is no longer ours.
        stopped: Looked at between and within rounds.
    """

    report: Report = _ignore
    stopped: Callable[[], bool] = lambda: False


SILENT = Watch()


class TakenOverError(Exception):
    """The refinement belongs to another process now, or the studio has closed: nothing more may be written of it."""


class Workshop(Protocol):
    """What refining needs of a Studio; each as there."""

    def submit(self, request: Request, *, user: str = "local", tie: Tie | None = None) -> Job:
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

    def add_to_project(self, project_id: str, record_ids: Sequence[str]) -> list[ProjectItem]:
        """Let Records join."""
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
        begun: As it stands before the first picture, with its options.
        watch: Who hears of it.
    """

    def __init__(self, studio: Workshop, begun: Refinement, watch: Watch) -> None:
        self._studio = studio
        self._watch = watch
        self.state = begun

    def run(self, start: Request | str) -> Refinement:
        """See `Refining.refine`; TakenOverError."""
        try:
            record = self._first(start)
            scores = self._judged([f"record:{record.id}"])[0]
            self._tell(first=record.id, best=record.id, scores_first=scores, scores_best=scores)
            end, note = self._rounds(record, scores)
        except CancelledError as error:
            self._end("cancelled", "cancelled", error.message)
            return self.state
        except DanqingError as error:
            self._end("failed", "failed", error.message, error=error.as_dict())
            raise
        self._end("done", end, note)
        return self.state

    def fail(self, error: Exception) -> None:
        """Say that it ended by a fault of the program."""
        told = DanqingError(f"{type(error).__name__}: {error}", next_step="see the server's log")
        self._end("failed", "failed", told.message, error=told.as_dict())

    def _first(self, start: Request | str) -> Record:
        if isinstance(start, str):
            return live_record(self._studio.record(start))
        return self._painted(one_picture(start), user="local")

    def _rounds(self, record: Record, scores: Scores) -> tuple[RefineEnd, str]:
        """Why it stopped."""
        left = self.state.options.rounds
        easel = Easel(self._studio.models(), lambda data: f"sha256:{self._studio.upload(data, name='mask').sha256}")
        while left > 0:
            found = self._reviewed(record)
            if not found.suggestions:
                return "content", found.note or "nothing to change"
            better = None
            for suggestion, attempt in _in_turn(found, record, self.state.brief, easel):
                if left == 0:
                    return "rounds", "the rounds are used up"
                left -= 1
                done, better = self._round(record, scores, suggestion, attempt)
                rounds = (*self.state.rounds, done)
                if better is not None and done.scores_after is not None:
                    scores = done.scores_after
                    self._tell(rounds=rounds, best=better.id, scores_best=scores, job=None)
                    record = keep_version(self._studio, better.id, self.state.project)
                    break
                self._tell(rounds=rounds, job=None)
            if better is None:
                return "no_gain", "nothing improves the picture any more"
        return "rounds", "the rounds are used up"

    def _round(
        self, record: Record, scores: Scores, suggestion: Suggestion, attempt: Attempt
    ) -> tuple[RefineRound, Record | None]:
        """One attempt: what came of it, and the new version, not restored yet, if it was accepted."""
        done = RefineRound(
            number=len(self.state.rounds) + 1,
            suggestion=suggestion,
            way=attempt.way,
            before=record.id,
            scores_before=scores,
        )
        try:
            painted = self._painted(attempt.request, user=REFINING)
            after = self._judged([f"sha256:{record.picture}", f"sha256:{painted.picture}"])[1]
        except CancelledError:
            raise
        except DanqingError as error:
            self._check_stopped()
            _log.warning("a round of refinement %s failed: %s", self.state.id, error)
            failed = {"verdict": f"it could not be painted: {error.message}", "outcome": "failed"}
            return done.model_copy(update=failed), None
        verdict = decide(scores, after, self.state.options.rules)
        changes = {
            "scores_after": after,
            "accepted": verdict.accepted,
            "outcome": verdict.outcome,
            "verdict": verdict.reason,
            "after": painted.id if verdict.accepted else None,
        }
        return done.model_copy(update=changes), painted if verdict.accepted else None

    def _reviewed(self, record: Record) -> Findings:
        picture, brief, reviewer = f"record:{record.id}", self.state.brief, self.state.options.reviewer
        return self._asked("reviewing", lambda: self._studio.review_by_model(picture, brief, reviewer=reviewer))

    def _judged(self, pictures: Sequence[str]) -> tuple[Scores, ...]:
        return self._asked("judging", lambda: self._studio.judge(pictures, self.state.brief))

    def _asked(self, step: RefineStep, question: Callable[[], T]) -> T:
        """The answer to what may take minutes; who stops meanwhile does not wait for it."""
        self._check_stopped()
        self._tell(step=step)
        answer: Future[T] = Future()
        threading.Thread(target=_answer, args=(answer, question), name=f"refine-{step}", daemon=True).start()
        while not wait([answer], _LOOK_S).done:
            self._check_stopped()
        return answer.result()

    def _painted(self, request: Request, *, user: str) -> Record:
        """The one Record of a Request, once it is there; deleted at once if it is a round's."""
        self._check_stopped()
        project = self.state.project
        tie = Tie(project) if user != REFINING and project is not None else None
        job = self._studio.submit(request, user=user, tie=tie)
        self._tell(step="painting", job=job.id)
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
            for record_id in self._studio.job(job.id).records:  # painted in the very moment
                self._hidden(record_id, job.user)
        raise CancelledError("it was stopped", value=self.state.id)

    def _end(self, state: RefineState, end: RefineEnd, note: str, **more: object) -> None:
        self._tell(state=state, end=end, note=note, step=None, job=None, **more)

    def _tell(self, **changes: object) -> None:
        self.state = self.state.model_copy(update=changes)
        try:
            self._watch.report(self.state)
        except ConflictError as error:
            raise TakenOverError(error.message) from error


def live_record(record: Record) -> Record:
    """The Record. NotFoundError if it was deleted."""
    if record.deleted_at is not None:
        raise NotFoundError("that picture was deleted", field="record", value=record.id, next_step="restore it first")
    return record


def one_picture(request: Request) -> Request:
    """The Request. InvalidRequestError if it asks for several pictures."""
    if request.count != 1:
        raise InvalidRequestError(
            "one picture at a time is refined",
            field="count",
            value=request.count,
            allowed="1",
            next_step="refine each",
        )
    return request


def keep_version(studio: Workshop, record_id: str, project: str | None) -> Record:
    """Make a picture a version: restored, and in the project if that is still there. NotFoundError if it is purged."""
    try:
        record = studio.restore_record(record_id)
    except ConflictError:  # it was restored before
        record = studio.record(record_id)
    if project is not None:
        try:
            studio.add_to_project(project, [record_id])
        except DanqingError as error:  # the project was deleted meanwhile; the picture is in the gallery
            _log.warning("version %s joins no project: %s", record_id, error)
    return record


def _answer(future: Future[T], question: Callable[[], T]) -> None:
    try:
        future.set_result(question())
    except Exception as error:  # noqa: BLE001  it is raised again where the answer is waited for
        future.set_exception(error)


def _in_turn(found: Findings, record: Record, brief: str, easel: Easel) -> Sequence[tuple[Suggestion, Attempt]]:
    """Every suggestion's first way, then every one's second, and so on."""
    rows = [[(one, way) for way in attempts(record, one, brief, easel)] for one in found.suggestions]
    longest = max((len(row) for row in rows), default=0)
    return [row[turn] for turn in range(longest) for row in rows if turn < len(row)]
