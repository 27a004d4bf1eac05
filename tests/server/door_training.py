"""Training for the studio in memory: real rules and real run folders, no trainer. Tests write what one would tell."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from danqing.spec.errors import NotFoundError
from danqing.spec.training_run import Estimate, RunEvent, TrainingRun
from danqing.store.trainings import FakeTrainings
from danqing.studio.trainer_process import TrainerOptions
from danqing.studio.training import Training, _write_request
from danqing.studio.training_events import add_event

OWNER = "me"
TOLD = Estimate(seconds=90.0, memory_bytes=2_000_000_000, free_bytes=8_000_000_000, steps=20)


class TrainingDoor(Training):
    """The real part of the Studio over a fake one; `reasons` makes estimates refuse."""

    def __init__(self, studio: Any) -> None:
        self._studio = studio
        self.settings = studio.settings
        self.catalog = SimpleNamespace(find=self._find, find_controlnet=self._find, networks=studio.catalog.networks)
        self.trainer = TrainerOptions()
        self.reasons: tuple[str, ...] = ()
        self._kept = FakeTrainings(threading.RLock(), {OWNER})

    def _find(self, name: str) -> None:
        if name != "danqing-mini":
            raise NotFoundError("there is no such model", field="model", value=name)

    @property
    def _trainings(self):
        return self._kept

    @property
    def _training_queue(self):
        return SimpleNamespace(work=lambda: None, stir=lambda: None)

    def _estimate_in(self, request, folder):
        _write_request(folder, request)
        return TOLD.model_copy(update={"reasons": self.reasons})

    def models(self):
        return self._studio.models()

    def _planned(self, request):
        raise NotImplementedError

    _queue = _planned

    def job(self, job_id):
        return self._studio.job(job_id)

    def watch(self, job_id, *, after=0, timeout_s=None):
        return self._studio.watch(job_id, after=after)

    def cancel(self, job_id):
        return self._studio.cancel(job_id)

    def record(self, record_id):
        return self._studio.record(record_id)

    def delete_record(self, record_id):
        return self._studio.delete_record(record_id)

    def picture_bytes(self, sha256):
        return self._studio.picture_bytes(sha256)

    # --- for tests ----------------------------------------------------------------------------------------------------
    def begin(self) -> TrainingRun:
        """The next run of the queue is taken."""
        run = self._kept.claim(OWNER, ("cpu",))
        assert run is not None
        return run

    def tell(self, run_id: str, *events: RunEvent) -> None:
        """As its trainer."""
        for event in events:
            add_event(self.training_folder(run_id), event)

    def change(self, run_id: str, **changes: Any) -> TrainingRun:
        """As its keeper."""
        return self._kept.save(self.training_run(run_id).model_copy(update=changes), OWNER)

    def share_with(self, studio: Any) -> None:
        """The fake studio can do all this too."""
        names = [name for name in vars(Training) if "training" in name and not name.startswith("_")]
        for name in names:
            setattr(studio, name, getattr(self, name))
