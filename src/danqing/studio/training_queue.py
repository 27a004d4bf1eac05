"""The queue of training runs: takes the next one as soon as a device is free, and looks after what others left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from danqing.spec.errors import DanqingError, WorkerError
from danqing.spec.training_run import TrainingRun
from danqing.store.base import MAX_ATTEMPTS
from danqing.store.trainings import TrainingStore
from danqing.studio.trainer_process import end_leftover
from danqing.studio.training_keeper import RunKeeper

LOOK_S: Final = 0.5
_log = logging.getLogger(__name__)
MakeKeeper = Callable[[TrainingRun], RunKeeper]


class TrainingQueue:
    """A thread that starts runs, one on each device; it begins when it is first needed.

    Args:
        store: Where they are kept.
        owner_id: This Studio.
        devices: As the settings name them.
        make: A keeper for a claimed run.
        grace_s: For the leftover trainers of dead Studios.
    """

    def __init__(
        self, store: TrainingStore, owner_id: str, devices: tuple[str, ...], make: MakeKeeper, grace_s: float
    ) -> None:
        self._store = store
        self._owner_id = owner_id
        self._devices = devices
        self._make = make
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._keepers: list[RunKeeper] = []

    def work(self) -> None:
        """See to it that queued runs are taken; cheap to call often."""
        with self._lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._loop, name="training-queue", daemon=True)
                self._thread.start()
        self._wake.set()

    def stir(self) -> None:
        """Look at once, if this Studio takes runs at all."""
        self._wake.set()

    def close(self) -> None:
        """Stop every trainer with a checkpoint; their runs wait for the next Studio."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join()
        for keeper in self._keepers:
            keeper.close()
        for keeper in self._keepers:
            keeper.join()

    def _loop(self) -> None:
        while not self._closing:
            try:
                self._free_orphans()
                self._start_next()
            except (DanqingError, OSError) as error:
                _log.warning("the training queue: %s", error)
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _start_next(self) -> None:
        self._keepers = [keeper for keeper in self._keepers if keeper.is_working]
        while not self._closing and (run := self._store.claim(self._owner_id, self._devices)) is not None:
            keeper = self._make(run)
            self._keepers.append(keeper)
            keeper.start()

    def _free_orphans(self) -> None:
        for orphan in self._store.orphans():
            if orphan.trainer is not None:
                end_leftover(orphan.trainer, self._grace_s)
            run = orphan.run
            if run.asked is not None:
                changed = run.model_copy(update={"state": "paused" if run.asked == "pause" else "cancelled"})
            elif run.attempts >= MAX_ATTEMPTS:
                error = WorkerError(
                    f"the run was started {run.attempts} times and each time the program around it died",
                    value=run.attempts,
                    next_step="look whether the machine runs out of memory; resume the run with a smaller batch",
                )
                changed = run.model_copy(update={"state": "failed", "error": error.as_dict()})
            else:
                changed = run.model_copy(update={"state": "queued"})
            if self._store.free(orphan, changed):
                _log.info("training run %s was left behind; it is %s", run.id, changed.state)
