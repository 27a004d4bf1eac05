"""Between the store and the pool: every move of a job passes here, so that rows, workers and watchers agree."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from danqing.spec.errors import ConflictError, DanqingError, WorkerError
from danqing.spec.events import PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.spec.painting import Precision
from danqing.spec.record import Job, Record
from danqing.store.base import MAX_ATTEMPTS, Store, poisoned
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.store.owners import Owner, utc_now
from danqing.store.projects_base import Tie
from danqing.store.thumbnails import THUMBNAIL_TYPE, thumbnail_of_bytes
from danqing.studio.events import Channel, EventHub
from danqing.workers.pool import WorkerPool
from danqing.workers.protocol import PictureMessage, PictureWork, RunCommand

_PRECISIONS = frozenset(get_args(Precision)) - {"auto"}
_log = logging.getLogger(__name__)


@dataclass
class _Live:
    """A job that this process holds."""

    job: Job
    fractions: dict[int, float] = field(default_factory=dict[int, float])
    started_at: datetime | None = None

    @property
    def fraction(self) -> float:
        """Of the whole job, 0 … 1."""
        return min(1.0, sum(self.fractions.values()) / max(1, len(self.job.plans)))


class JobRunner:
    """Runs the jobs that this process holds, and hears from the pool (`workers.pool.PoolListener`).

    Args:
        store: Where jobs and Records are kept.
        blobs: Where pictures are kept.
        pool: Not yet started.
        owner: This process, as the store knows it.
    """

    def __init__(self, store: Store, blobs: BlobStore, pool: WorkerPool, owner: Owner) -> None:
        self.hub = EventHub()
        self._store = store
        self._blobs = blobs
        self._pool = pool
        self._owner_id = owner.id
        self._lock = threading.RLock()
        self._live: dict[str, _Live] = {}

    # --- asked by the studio ----------------------------------------------------------------------------------------
    def submit(self, job: Job, tie: Tie | None = None) -> None:
        """Store a new job, with what it is tied to, and queue it; it is durable when this returns."""
        self._store.add_job(job, self._owner_id, tie)
        self._enqueue(job)

    def adopt(self, job_id: str) -> bool:
        """Take a job that nobody holds; False if somebody does."""
        if not self._store.claim(job_id, self._owner_id):
            return False
        self._enqueue(self._store.job(job_id))
        return True

    def cancel(self, job_id: str) -> Job:
        """Stop a job, also one that another process holds (that process finds out by `notice`)."""
        job = self._store.move_job(job_id, "cancelled")
        self._end(job)
        return job

    def holds(self, job_id: str) -> bool:
        """Whether this process runs the job."""
        with self._lock:
            return job_id in self._live

    def progress(self, job_id: str) -> float | None:
        """Of a job held here, 0 … 1."""
        with self._lock:
            live = self._live.get(job_id)
            return None if live is None else live.fraction

    def channel(self, job: Job) -> Channel:
        """The events of a job, begun from the database if it was not live here."""
        return self.hub.channel(job.id) or self.hub.open(job.id, [*self._record_events(job, set()), _state_event(job)])

    def refresh(self, job_id: str) -> None:
        """Bring the events of a job that another process runs up to the database; take the job if it is free."""
        lease = self._store.leases([job_id]).get(job_id)
        free = lease is not None and lease.state == "queued" and lease.owner_id is None
        if self.holds(job_id) or (free and self.adopt(job_id)):
            return
        job = self._store.job(job_id)
        channel = self.channel(job)
        seen = {event.index for _, event in channel.after(0) if isinstance(event, RecordEvent)}
        for event in self._record_events(job, seen):
            channel.publish(event)
        if channel.state is None or channel.state.state != job.state:
            channel.publish(_state_event(job))

    def notice(self) -> None:
        """Let go of jobs that somebody cancelled or took from elsewhere."""
        with self._lock:
            held = list(self._live)
        leases = self._store.leases(held) if held else {}
        for job_id, lease in leases.items():
            if lease.owner_id != self._owner_id and self.holds(job_id):
                self._let_go(job_id)

    # --- heard from the pool ----------------------------------------------------------------------------------------
    def job_started(self, job_id: str) -> None:
        """See `PoolListener`."""
        with self._lock:
            live = self._live.get(job_id)
        if live is None:
            return
        try:
            job = self._store.move_job(job_id, "running", owner_id=self._owner_id)
        except DanqingError as error:
            self._stumble(job_id, error)
            return
        live.started_at = job.started_at
        self.hub.publish(_state_event(job))

    def job_progress(self, event: ProgressEvent | PreviewEvent) -> None:
        """See `PoolListener`."""
        with self._lock:
            live = self._live.get(event.job_id)
            if live is None or not 0 <= event.index < len(live.job.plans):
                return
            if isinstance(event, ProgressEvent):
                event = _whole_job(event, live)
        self.hub.publish(event)

    def picture_painted(self, message: PictureMessage) -> None:
        """See `PoolListener`."""
        with self._lock:
            live = self._live.get(message.job_id)
        if live is None:
            return
        try:
            record = self._store.add_record(self._record(message, live), self._owner_id)
        except (DanqingError, OSError) as error:
            self._stumble(message.job_id, error)
            return
        live.fractions[message.index] = 1.0
        self.hub.publish(
            RecordEvent(job_id=record.job_id, index=record.index, record_id=record.id, picture=record.picture)
        )

    def job_finished(self, job_id: str) -> None:
        """See `PoolListener`."""
        if self.holds(job_id):
            self._finish(job_id)

    def job_failed(self, job_id: str, error: DanqingError) -> None:
        """See `PoolListener`."""
        if self.holds(job_id):
            self._fail(job_id, error)

    def job_cancelled(self, job_id: str) -> None:
        """See `PoolListener`: only `cancel` cancels, and it did not wait for this."""

    def job_lost(self, job_id: str, error: WorkerError) -> None:
        """See `PoolListener`: try again alone, so that a job that kills workers takes no other one with it."""
        with self._lock:
            live = self._live.get(job_id)
        if live is None:
            return
        try:
            job = self._store.job(job_id)
            if job.attempts >= MAX_ATTEMPTS:
                verdict = poisoned(job_id, job.attempts)
                verdict["message"] += f"; the last time: {error.message}"
                self._fail(job_id, WorkerError.from_dict({**verdict, "value": error.value or verdict["value"]}))
                return
            job = self._store.move_job(job_id, "queued", owner_id=self._owner_id)
        except DanqingError as trouble:
            self._stumble(job_id, trouble)
            return
        _log.warning("job %s is queued again: %s", job_id, error)
        self._enqueue(job)

    def queue_moved(self, positions: dict[str, int]) -> None:
        """See `PoolListener`."""
        for job_id, position in positions.items():
            channel = self.hub.channel(job_id)
            if channel is not None and channel.state is not None and channel.state.state == "queued":
                channel.publish(StateEvent(job_id=job_id, state="queued", position=position))

    # --- inside -----------------------------------------------------------------------------------------------------
    def _enqueue(self, job: Job) -> None:
        there = self._store.record_ids(job.id)
        with self._lock:
            self._live[job.id] = _Live(job, dict.fromkeys(there, 1.0))
        self.channel(job).publish(_state_event(job))
        missing = tuple(PictureWork(index=i, plan=plan) for i, plan in enumerate(job.plans) if i not in there)
        if missing:
            command = RunCommand(job_id=job.id, user=job.user, priority=job.priority, pictures=missing)
            self._pool.run(command, solo=job.attempts > 0)
            if not self.holds(job.id):  # cancelled while it was on its way
                self._pool.cancel(job.id)
            return
        try:
            self._store.move_job(job.id, "running", owner_id=self._owner_id)
        except DanqingError as error:
            self._stumble(job.id, error)
            return
        self._finish(job.id)

    def _finish(self, job_id: str) -> None:
        try:
            self._end(self._store.move_job(job_id, "done", owner_id=self._owner_id))
        except DanqingError as error:
            self._stumble(job_id, error)

    def _fail(self, job_id: str, error: DanqingError) -> None:
        try:
            self._end(self._store.move_job(job_id, "failed", owner_id=self._owner_id, error=error.as_dict()))
        except DanqingError as trouble:
            self._stumble(job_id, trouble)

    def _stumble(self, job_id: str, error: Exception) -> None:
        """The store refused: either the job is no longer ours, or it cannot be kept; then it fails."""
        _log.warning("job %s: %s", job_id, error)
        if not isinstance(error, ConflictError):
            try:
                told = (
                    error if isinstance(error, DanqingError) else DanqingError(f"the picture cannot be kept: {error}")
                )
                self._store.move_job(job_id, "failed", owner_id=self._owner_id, error=told.as_dict())
            except DanqingError as trouble:
                _log.error("job %s cannot even be marked as failed: %s", job_id, trouble)
        self._let_go(job_id)

    def _end(self, job: Job) -> None:
        with self._lock:
            held = self._live.pop(job.id, None)
        if held is not None and job.state != "done":
            self._pool.cancel(job.id)
        self.hub.publish(_state_event(job))

    def _let_go(self, job_id: str) -> None:
        with self._lock:
            self._live.pop(job_id, None)
        self._pool.cancel(job_id)
        try:
            self.hub.publish(_state_event(self._store.job(job_id)))
        except DanqingError as error:
            _log.error("job %s cannot be read: %s", job_id, error)

    def _record(self, message: PictureMessage, live: _Live) -> Record:
        if not self._blobs.exists(message.picture):
            raise WorkerError("the worker named a picture that it did not store", value=message.picture)
        thumbnail = message.thumbnail
        if thumbnail is None:
            thumbnail = self._blobs.put(thumbnail_of_bytes(self._blobs.read(message.picture)), THUMBNAIL_TYPE)
        plan = live.job.plans[message.index]
        if message.versions.precision in _PRECISIONS:  # "auto" may mean another one on the machine that repaints it
            plan = plan.model_copy(update={"precision": message.versions.precision})
        queued_s = 0.0 if live.started_at is None else (live.started_at - live.job.created_at).total_seconds()
        return Record(
            id=new_id(),
            job_id=message.job_id,
            index=message.index,
            plan=plan,
            picture=message.picture,
            thumbnail=thumbnail,
            media_type=message.media_type,
            width_px=message.width_px,
            height_px=message.height_px,
            infotext=message.infotext,
            timings=message.timings.model_copy(update={"queued_s": max(0.0, queued_s)}),
            versions=message.versions,
            parent=plan.parent,
            created_at=utc_now(),
        )

    def _record_events(self, job: Job, seen: set[int]) -> list[RecordEvent]:
        return [
            RecordEvent(job_id=job.id, index=index, record_id=record_id, picture=self._store.record(record_id).picture)
            for index, record_id in sorted(self._store.record_ids(job.id).items())
            if index not in seen
        ]


def _state_event(job: Job) -> StateEvent:
    return StateEvent(job_id=job.id, state=job.state, error=job.error)


def _whole_job(event: ProgressEvent, live: _Live) -> ProgressEvent:
    """The worker sees only the pictures it was sent; `fraction` and `eta_s` are for all of the job."""
    passes = len(live.job.plans[event.index].passes)
    part = (min(event.pass_index, passes - 1) + min(1.0, event.step / max(1, event.steps))) / passes
    live.fractions[event.index] = max(live.fractions.get(event.index, 0.0), min(part, 0.999))
    fraction, eta_s = live.fraction, event.eta_s
    if event.fraction > fraction + 0.01:  # the worker knows of fewer pictures, so its ETA is too short
        eta_s = None
    if eta_s is None and live.started_at is not None and fraction > 0:
        elapsed_s = (utc_now() - live.started_at).total_seconds()
        eta_s = elapsed_s * (1 - fraction) / fraction
    return event.model_copy(update={"fraction": fraction, "eta_s": eta_s})
