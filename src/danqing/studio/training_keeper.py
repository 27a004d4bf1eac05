"""One training run: its trainer process from start to end, its row kept true, its product brought to its place."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from danqing.spec.errors import ConflictError, DanqingError, NotFoundError, WorkerError
from danqing.spec.training_run import (
    PAUSED_EXIT_CODE,
    CheckpointEvent,
    EndEvent,
    NoteEvent,
    RunEvent,
    StartEvent,
    StepEvent,
    TrainingRun,
)
from danqing.store.base import MAX_ATTEMPTS
from danqing.store.trainings import TrainingStore
from danqing.studio.trainer_process import Places, TrainerOptions, TrainerProcess, log_end, log_size
from danqing.studio.training_events import LOG_FILE, EventTail, add_event, last_end

_SAVE_EVERY_S: Final = 1.0
_log = logging.getLogger(__name__)
Stopped = Callable[[], bool]


class Finisher(Protocol):
    """What follows on a run that learnt to the end."""

    def publish_product(self, run: TrainingRun) -> TrainingRun:
        """Copy what was made to where the catalogue looks; gives the run with `product` and `published`.

        Where the trainer says that nothing is worth it, nothing is copied and the run says why in `unpublished`.
        """
        ...

    def compare_product(self, run: TrainingRun, stopped: Stopped) -> None:
        """Paint what it does by strength, into the run's folder."""
        ...


@dataclass(frozen=True)
class Keep:
    """What a keeper works with.

    Args:
        store: Where the run is kept.
        owner_id: This Studio.
        folder: The run's.
        places: What the trainer is told of.
        options: How it is run.
        finisher: What follows.
        ended: Called when the keeper has let go of the run.
    """

    store: TrainingStore
    owner_id: str
    folder: Path
    places: Places
    options: TrainerOptions
    finisher: Finisher
    ended: Callable[[], None] = lambda: None


class RunKeeper:
    """Runs one claimed run in a thread until it rests or has ended.

    Args:
        run: As claimed.
        keep: What it works with.
    """

    def __init__(self, run: TrainingRun, keep: Keep) -> None:
        self._run = run
        self._keep = keep
        self._closing = threading.Event()
        self._end: EndEvent | None = None
        self._checkpoint = -1
        self._saved_at = 0.0
        self._painted_at = 0.0
        self._log_begin = log_size(keep.folder)
        self._thread = threading.Thread(target=self._work, name=f"training-{run.id}", daemon=True)

    @property
    def is_working(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Have it stop with a checkpoint, so that another Studio goes on; does not wait."""
        self._closing.set()

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join()

    def _work(self) -> None:
        try:
            end = last_end(self._keep.folder)
            if end is not None and end.state == "done":  # a Studio ended between the trainer's end and the publishing
                self._end = end
                self._finish()
            else:
                self._conclude(self._train())
        except ConflictError as error:
            _log.info("training run %s: %s", self._run.id, error)
        except (DanqingError, OSError) as error:
            _log.warning("training run %s: %s", self._run.id, error)
            self._give_up(error)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            _log.exception("training run %s broke", self._run.id)
            self._give_up(error)
        finally:
            self._keep.ended()

    # --- the trainer ------------------------------------------------------------------------------------------------
    def _train(self) -> int:
        """The trainer's exit code."""
        keep, tail = self._keep, EventTail(self._keep.folder)
        claimed = self._run
        self._take(tail)  # what earlier attempts told
        kept = {"stage": claimed.stage, "attempts": claimed.attempts, "note": claimed.note, "eta_s": None}
        self._end, self._run = None, self._run.model_copy(update=kept)
        background = self._run.request.background
        while background and keep.store.is_painting() and not self._is_unwanted():
            self._save(stage="held")
            self._closing.wait(keep.options.tick_s)
        if self._is_unwanted():
            return PAUSED_EXIT_CODE
        process = TrainerProcess(keep.options, keep.folder, keep.places, background=background)
        try:
            keep.store.mark_trainer(self._run.id, keep.owner_id, process.mark)
            while (code := process.ended()) is None:
                self._look_safely(process, tail)
                self._closing.wait(keep.options.tick_s) if not process.stopping else time.sleep(keep.options.tick_s)
            self._take(tail)
            return code
        finally:
            if process.ended() is None:
                process.kill()

    def _look_safely(self, process: TrainerProcess, tail: EventTail) -> None:
        try:
            self._look(process, tail)
        except (ConflictError, NotFoundError):
            raise
        except DanqingError as error:  # a database that is busy: the next look will find it free
            _log.warning("training run %s: %s", self._run.id, error)

    def _look(self, process: TrainerProcess, tail: EventTail) -> None:
        self._take(tail)
        if self._is_unwanted():
            self._save(stage="stopping")
            process.stop()
            return
        if self._run.request.background:
            now = time.monotonic()
            if self._keep.store.is_painting():
                self._painted_at = now
            process.hold(wanted=now - self._painted_at < self._keep.options.calm_s and self._painted_at > 0)
        began = self._run.stage in {"training", "held"}
        self._save(stage="held" if process.held else "training" if began else "starting")

    def _take(self, tail: EventTail) -> None:
        for _, event in tail.take():
            self._hear(event)

    def _hear(self, event: RunEvent) -> None:
        changes: dict[str, Any] = {}
        if isinstance(event, StartEvent):
            changes = {"step": event.step, "steps": event.steps, "stage": "training"}
        elif isinstance(event, StepEvent):
            changes = {"step": event.step, "eta_s": event.eta_s, "loss": event.loss}
            changes = {name: value for name, value in changes.items() if value is not None}
        elif isinstance(event, CheckpointEvent) and event.step > self._checkpoint:
            self._checkpoint = event.step
            changes = {"attempts": min(1, self._run.attempts)}
        elif isinstance(event, NoteEvent):
            changes = {"note": event.words}
        elif isinstance(event, EndEvent):
            self._end = event
            changes = {"step": event.step or self._run.step}
        self._run = self._run.model_copy(update=changes)

    # --- the row ----------------------------------------------------------------------------------------------------
    def _is_unwanted(self) -> bool:
        return self._closing.is_set() or self._keep.store.get(self._run.id).asked is not None

    def _save(self, **changes: Any) -> None:
        """Keep what has changed: at once where `changes` are new, else about every second."""
        new = any(getattr(self._run, name) != value for name, value in changes.items())
        if new or time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self._run = self._keep.store.save(self._run.model_copy(update=changes), self._keep.owner_id)
            self._saved_at = time.monotonic()

    def _rest(self, state: str, **changes: Any) -> None:
        changed = self._run.model_copy(update={"state": state, "eta_s": None, **changes})
        self._run = self._keep.store.save(changed, self._keep.owner_id)

    # --- the end ----------------------------------------------------------------------------------------------------
    def _conclude(self, code: int) -> None:
        end, asked = self._end, self._keep.store.get(self._run.id).asked
        if end is not None and end.state == "done":
            self._finish()
        elif asked == "cancel":
            self._rest("cancelled", attempts=0)
        elif asked == "pause":
            self._rest("paused", attempts=0)
        elif self._closing.is_set():
            self._rest("queued", attempts=0)
        elif code == PAUSED_EXIT_CODE:
            self._rest("paused", attempts=0, note="somebody told the trainer to stop")
        elif end is not None and end.state == "failed":
            self._rest("failed", error=end.error or {"code": "error", "message": "the trainer gave no reason"})
        elif self._run.attempts < MAX_ATTEMPTS:
            why = _why(code)
            _log.warning("training run %s goes on from its checkpoint: the trainer %s", self._run.id, why)
            self._rest("queued", note=f"the trainer {why}; it goes on from its last checkpoint")
        else:
            self._rest("failed", error=self._crashed(code).as_dict(), note="")

    def _crashed(self, code: int) -> DanqingError:
        said = log_end(self._keep.folder, self._log_begin)
        return WorkerError(
            f"the trainer {_why(code)}, {self._run.attempts} times without getting on",
            value=said or None,
            next_step=f"read {LOG_FILE} in the run's folder; try a smaller batch or size, then resume the run",
        )

    def _finish(self) -> None:
        self._save(stage="publishing")
        try:
            self._run = self._keep.finisher.publish_product(self._run)
        except (DanqingError, OSError) as error:
            _log.warning("the product of training run %s cannot be published: %s", self._run.id, error)
            words = f"what was made is in the run's folder, but could not be copied: {error}"
            add_event(self._keep.folder, NoteEvent(words=words))
            self._rest("done", note=words)
            return
        if self._run.unpublished:
            self._rest("done")
            return
        self._save(stage="comparing", eta_s=None)
        try:
            self._keep.finisher.compare_product(self._run, self._is_unwanted)
        except DanqingError as error:
            _log.warning("training run %s cannot be compared: %s", self._run.id, error)
            add_event(self._keep.folder, NoteEvent(words=f"the sheet by strength could not be painted: {error}"))
        if self._closing.is_set() and self._keep.store.get(self._run.id).asked is None:
            self._rest("queued", attempts=0)  # whoever goes on paints the sheet
        else:
            self._rest("done")

    def _give_up(self, error: Exception) -> None:
        told = error if isinstance(error, DanqingError) else WorkerError(f"{type(error).__name__}: {error}")
        try:
            self._rest("failed", error=told.as_dict())
        except DanqingError as trouble:
            _log.error("training run %s cannot even be marked as failed: %s", self._run.id, trouble)


def _why(code: int) -> str:
    """How a process ended, in words.

    >>> _why(-9), _why(1)
    ('was killed (SIGKILL)', 'ended with code 1')
    """
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed (signal {-code})"
