"""The event loop: collect the Calls of all live Sessions, run compatible ones as one batch, send the rows back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from danqing.engine import policy
from danqing.engine.calls import Describe, EmbedImage, EncodeImage, EncodeText, ModelCall, Report, Session
from danqing.engine.costs import Part
from danqing.engine.events import Finished, Previewed, Progressed, SessionEvent
from danqing.engine.executor import Executor
from danqing.spec.errors import CancelledError, ConflictError, DanqingError, OutOfMemoryError, WorkerError

Sink = Callable[[SessionEvent], None]
PRELUDE = (Describe, EncodeText, EmbedImage, EncodeImage)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """Choices of the loop.

    Attributes:
        preview_every: Steps between previews; 0 turns them off.
        decoded_every: Steps between previews decoded by the VAE; 0 uses the linear map only.
        patience: Ticks after which a passed-over Session goes first.
        measured: Whether batches are as large as pays by their measured times; else as large as memory allows.
        preview_interval_s: Between two previews of a Session at least; those in between are not even computed.
    """

    preview_every: int = 1
    decoded_every: int = 0
    patience: int = 24
    measured: bool = True
    preview_interval_s: float = 0.0


@dataclass
class _Live:
    """A Session in flight and what is known of it."""

    key: str
    session: Session
    sink: Sink
    user: str
    priority: int
    order: int
    expected_calls: float
    submitted_at: float
    pending: ModelCall | None = None
    parts: tuple[Part, ...] = ()
    skipped: int = 0
    calls_done: int = 0
    first_step_at: float | None = None
    previewed_at: float | None = None
    first_fraction: float = 0.0
    by_call_s: dict[str, float] = field(default_factory=dict[str, float])
    ended: bool = False

    @property
    def remaining(self) -> float:
        return max(self.expected_calls - self.calls_done, 0.0)


class Engine:
    """Runs Sessions. Not thread-safe: submit, cancel and tick from one thread.

    Args:
        executor: What answers the Calls.
        options: Previews and fairness.
        clock: Seconds, monotonic; a parameter for tests.
    """

    def __init__(
        self,
        executor: Executor,
        options: EngineOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.executor = executor
        self.options = options or EngineOptions()
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._served: dict[str, float] = {}
        self._submitted = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: str) -> bool:
        return key in self._live

    def submit(
        self,
        key: str,
        session: Session,
        sink: Sink,
        *,
        user: str = "local",
        priority: int = 0,
        expected_calls: float = 0.0,
    ) -> None:
        """Start a Session: it runs to its first Call now and joins the next tick.

        Args:
            key: Unique among live Sessions.
            session: A generator that has not been started.
            sink: Gets its events, in order, from the thread that ticks.
            user: Whose it is, for fairness.
            priority: Higher goes first.
            expected_calls: Estimate of its model calls, for shortest-remaining-first.

        Raises:
            ConflictError: A live Session has this key.
        """
        if key in self._live:
            raise ConflictError(
                "a session with this key is running", field="key", value=key, next_step="use another key"
            )
        self._submitted += 1
        live = _Live(key, session, sink, user, priority, self._submitted, expected_calls, self._clock())
        if user not in {other.user for other in self._live.values()}:
            # A newcomer starts level with whoever was served least, not with a claim on the past.
            self._served[user] = min((self._served[u.user] for u in self._live.values()), default=0.0)
        self._live[key] = live
        self._advance(live, None)

    def cancel(self, key: str) -> bool:
        """Stop a Session within this step. False if it is not live (any more)."""
        live = self._live.get(key)
        if live is None:
            return False
        _close(live)
        self._finish(live, error=CancelledError("the job was cancelled", next_step="paint again to restart it"))
        return True

    def tick(self) -> bool:
        """Run one batch. False when there was nothing to do."""
        waiting = [live for live in self._live.values() if live.pending is not None]
        if not waiting:
            return False
        seconds = self.executor.costs.seconds if self.options.measured else None
        line = [self._describe(live) for live in waiting]
        chosen = policy.choose(line, self._served, patience=self.options.patience, seconds=seconds)
        group = [self._live[key] for key in chosen]
        for live in waiting:
            live.skipped += 1
        for live in group:
            live.skipped = 0
            self._served[live.user] += self.executor.rows(_pending(live))
        self._run_group(group)
        return True

    def run_until_idle(self) -> None:
        """Tick until every Session has ended."""
        while self.tick():
            pass

    def _describe(self, live: _Live) -> policy.Waiting:
        call = _pending(live)
        return policy.Waiting(
            key=live.key,
            user=live.user,
            priority=live.priority,
            group=self.executor.group_key(call),
            rows=self.executor.rows(call),
            max_rows=self.executor.max_rows(call),
            remaining=live.remaining,
            skipped=live.skipped,
            order=live.order,
            prelude=isinstance(call, PRELUDE),
            parts=live.parts,
        )

    def _run_group(self, group: list[_Live]) -> None:
        # A sink may have cancelled some of them since the group was chosen.
        group = [live for live in group if live.pending is not None]
        if not group:
            return
        started = self._clock()
        try:
            answers = self.executor.run([_pending(live) for live in group])
        except OutOfMemoryError as error:
            self._smaller(group, error)
            return
        except DanqingError as error:
            self._fail_alone(group, error)
            return
        except Exception as error:  # noqa: BLE001  a bug in one batch must not take the other Sessions down
            self._fail_alone(group, _as_worker_error(error))
            return
        seconds = self._clock() - started
        self.executor.costs.learn(_parts(group), seconds)
        rows = [self.executor.rows(_pending(live)) for live in group]
        for live, answer, share in zip(group, answers, rows, strict=True):
            if live.ended:
                continue
            name = type(live.pending).__name__
            live.by_call_s[name] = live.by_call_s.get(name, 0.0) + seconds * share / sum(rows)
            live.calls_done += 1
            self._advance(live, answer)

    def _smaller(self, group: list[_Live], error: OutOfMemoryError) -> None:
        """Halve the group; a lone Call gets room made for it; then only that Session fails."""
        if len(group) > 1:
            self.executor.costs.refuse(_parts(group))
            half = (len(group) + 1) // 2
            self._run_group(group[:half])
            self._run_group(group[half:])
        elif self.executor.relieve(_pending(group[0])):
            self._run_group(group)
        else:
            _close(group[0])
            self._finish(group[0], error=error)

    def _fail_alone(self, group: list[_Live], error: DanqingError) -> None:
        """Find out whose Call it was: each alone; the one that fails alone is told."""
        if len(group) > 1:
            for live in group:
                self._run_group([live])
            return
        self._throw(group[0], error)

    def _throw(self, live: _Live, error: DanqingError) -> None:
        """Give the pipeline the chance to handle it; usually it ends there."""
        try:
            call = live.session.throw(error)
        except StopIteration as stop:
            self._finish(live, result=stop.value)
        except DanqingError as final:
            self._finish(live, error=final)
        except Exception as bug:  # noqa: BLE001  as in _advance
            self._finish(live, error=_as_worker_error(bug))
        else:
            self._take(live, call)

    def _advance(self, live: _Live, answer: Any) -> None:
        """Send an answer and go on to the next model Call, reporting on the way."""
        if live.ended:
            return
        try:
            call = live.session.send(answer)
        except StopIteration as stop:
            self._finish(live, result=stop.value)
        except DanqingError as error:
            self._finish(live, error=error)
        except Exception as error:  # noqa: BLE001  a bug in one pipeline must not take the other Sessions down
            self._finish(live, error=_as_worker_error(error))
        else:
            self._take(live, call)

    def _take(self, live: _Live, call: ModelCall | Report) -> None:
        if isinstance(call, Report):
            live.pending = None
            self._report(live, call)
            self._advance(live, None)
        else:
            live.pending, live.parts = call, self.executor.parts(call)

    def _report(self, live: _Live, report: Report) -> None:
        now = self._clock()
        eta_s = None
        if live.first_step_at is None:
            live.first_step_at, live.first_fraction = now, report.fraction
        elif report.fraction > live.first_fraction:
            pace_s = (now - live.first_step_at) / (report.fraction - live.first_fraction)
            eta_s = pace_s * max(1.0 - report.fraction, 0.0)
        live.sink(
            Progressed(live.key, report.step, report.steps, report.fraction, report.pass_index, report.stage, eta_s)
        )
        if report.denoised is not None and report.model is not None and not live.ended:
            self._preview(live, report)

    def _preview(self, live: _Live, report: Report) -> None:
        decode = _due(report.step, self.options.decoded_every)
        if (
            report.denoised is None
            or report.model is None
            or not (decode or _due(report.step, self.options.preview_every))
        ):
            return
        now = self._clock()
        if live.previewed_at is not None and now - live.previewed_at < self.options.preview_interval_s:
            return
        live.previewed_at = now
        try:
            image = self.executor.preview(report.model, report.denoised, decode=decode)
        except Exception:  # a preview is a courtesy; the picture goes on without it
            logger.warning("no preview of %s", live.key, exc_info=True)
            return
        if image is not None:
            live.sink(Previewed(live.key, report.step, image))

    def _finish(self, live: _Live, *, result: Any = None, error: DanqingError | None = None) -> None:
        self._live.pop(live.key, None)
        live.pending, live.ended = None, True
        total_s = self._clock() - live.submitted_at
        live.sink(Finished(live.key, result, error, total_s, dict(live.by_call_s)))


def _pending(live: _Live) -> ModelCall:
    if live.pending is None:
        raise WorkerError("a session without a pending call was scheduled", value=live.key)
    return live.pending


def _parts(group: list[_Live]) -> list[Part]:
    """The parts of all their Calls; none where one of them has none, since such times say nothing of the others."""
    return [part for live in group for part in live.parts] if all(live.parts for live in group) else []


def _close(live: _Live) -> None:
    """Close a generator; a bug in its clean-up must not take the other Sessions down."""
    try:
        live.session.close()
    except Exception:
        logger.exception("the session %s did not close cleanly", live.key)


def _as_worker_error(error: Exception) -> WorkerError:
    wrapped = WorkerError(f"{type(error).__name__}: {error}", next_step="see the worker's log")
    wrapped.__cause__ = error
    return wrapped


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
