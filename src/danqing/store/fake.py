"""The store in memory, for tests of what stands on it; the same behaviour, nothing durable."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from danqing.spec.errors import ConflictError
from danqing.spec.record import FINAL_STATES, Job, JobState, Record
from danqing.store.base import (
    MAX_ATTEMPTS,
    Lease,
    RecordQuery,
    Store,
    Upload,
    check_move,
    lease_lost,
    no_such,
    plan_text,
    poisoned,
)
from danqing.store.explorations import FakeExplorations
from danqing.store.fake_projects import FakeProjects
from danqing.store.owners import Owner, utc_now
from danqing.store.projects_base import Tie
from danqing.store.refinements import FakeRefinements
from danqing.store.trainings import FakeTrainings


class FakeStore(Store):
    """Dictionaries behind a lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owners: dict[str, Owner] = {}
        self._jobs: dict[str, Job] = {}
        self._leases: dict[str, str | None] = {}
        self._records: dict[str, Record] = {}
        self._uploads: dict[str, Upload] = {}
        self._uploaded_at: dict[str, datetime] = {}
        self._embeddings: dict[str, dict[str, bytes]] = {}
        self.explorations = FakeExplorations(self._lock)
        self.projects = FakeProjects(self._lock, self._jobs, self._records)
        self.refinements = FakeRefinements(
            self._lock,
            self._owners,
            lambda project, record: self.projects.note("refinement", project, record=record),
        )
        self.trainings = FakeTrainings(self._lock, self._owners, lambda: bool(self._held_by(self._owners)))

    def beat(self, owner: Owner) -> None:
        """See `Store.beat`."""
        with self._lock:
            self._owners[owner.id] = owner

    def leave(self, owner_id: str) -> None:
        """See `Store.leave`."""
        with self._lock:
            self._owners.pop(owner_id, None)
            for job in self._held_by({owner_id}):
                attempts = max(0, job.attempts - (job.state == "running"))
                self._set(job, state="queued", attempts=attempts, started_at=None)
                self._leases[job.id] = None

    def reap(self, *, lease_s: float) -> list[Job]:
        """See `Store.reap`."""
        with self._lock:
            dead = {owner.id for owner in self._owners.values() if owner.is_dead(lease_s=lease_s)}
            gone = {holder for holder in self._leases.values() if holder is not None} - self._owners.keys()
            jobs = self._held_by(dead | gone)
            for job in jobs:
                self._leases[job.id] = None
                if job.state == "running" and job.attempts >= MAX_ATTEMPTS:
                    self._set(job, state="failed", finished_at=utc_now(), error=poisoned(job.id, job.attempts))
                else:
                    self._set(job, state="queued")
            for owner_id in dead:
                del self._owners[owner_id]
            return [self.job(job.id) for job in jobs]

    def add_job(self, job: Job, owner_id: str | None, tie: Tie | None = None) -> None:
        """See `Store.add_job`."""
        with self._lock:
            if tie is not None:
                self.projects.tie_job(job.id, tie)
            self._jobs[job.id] = job
            self._leases[job.id] = owner_id

    def job(self, job_id: str) -> Job:
        """See `Store.job`."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                raise no_such("job", job_id)
            ids = self.record_ids(job_id)
            progress = 1.0 if job.state == "done" else min(1.0, len(ids) / max(1, len(job.plans)))
            return job.model_copy(update={"records": tuple(ids[i] for i in sorted(ids)), "progress": progress})

    def jobs(
        self, *, states: Collection[JobState] | None = None, limit: int = 50, user: str | None = None
    ) -> list[Job]:
        """See `Store.jobs`."""
        with self._lock:
            found = [
                job_id
                for job_id, job in sorted(self._jobs.items(), reverse=True)
                if (states is None or job.state in states) and (user is None or job.user == user)
            ]
            return [self.job(job_id) for job_id in found[:limit]]

    def move_job(
        self, job_id: str, state: JobState, *, owner_id: str | None = None, error: dict[str, Any] | None = None
    ) -> Job:
        """See `Store.move_job`."""
        with self._lock:
            job = self.job(job_id)
            check_move(job_id, job.state, state)
            if owner_id is not None and self._leases[job_id] != owner_id:
                raise lease_lost(job_id)
            if state == "running":
                self._set(job, state=state, attempts=job.attempts + 1, started_at=utc_now())
            elif state in FINAL_STATES:
                self._set(job, state=state, finished_at=utc_now(), error=error)
                self._leases[job_id] = None
            else:
                self._set(job, state=state)
            return self.job(job_id)

    def claim(self, job_id: str, owner_id: str) -> bool:
        """See `Store.claim`."""
        with self._lock:
            if job_id not in self._jobs or self._jobs[job_id].state != "queued" or self._leases[job_id] is not None:
                return False
            self._leases[job_id] = owner_id
            return True

    def free_jobs(self, limit: int = 50) -> list[str]:
        """See `Store.free_jobs`."""
        with self._lock:
            free = [job for job in self._jobs.values() if job.state == "queued" and self._leases[job.id] is None]
            return [job.id for job in sorted(free, key=lambda job: (-job.priority, job.id))][:limit]

    def leases(self, job_ids: Collection[str]) -> dict[str, Lease]:
        """See `Store.leases`."""
        with self._lock:
            return {
                job_id: Lease(self._jobs[job_id].state, self._leases[job_id]) for job_id in job_ids & self._jobs.keys()
            }

    def add_record(self, record: Record, owner_id: str) -> Record:
        """See `Store.add_record`."""
        with self._lock:
            job = self.job(record.job_id)
            there = self.record_ids(record.job_id).get(record.index)
            if there is not None:
                return self._records[there]
            if job.state != "running" or self._leases[job.id] != owner_id:
                raise lease_lost(job.id)
            self._records[record.id] = record
            self.projects.join_record(record)
            return record

    def record(self, record_id: str) -> Record:
        """See `Store.record`."""
        with self._lock:
            if record_id not in self._records:
                raise no_such("record", record_id)
            return self._records[record_id]

    def records(self, query: RecordQuery) -> list[Record]:
        """See `Store.records`."""
        with self._lock:
            return self._found(query)[: query.limit]

    def _found(self, query: RecordQuery) -> list[Record]:
        words = query.search.casefold().split()
        return [
            record
            for record in sorted(self._records.values(), key=lambda record: record.id, reverse=True)
            if all(word in plan_text(record) for word in words)
            and query.kind in (None, record.plan.kind)
            and query.model in (None, record.plan.base.model.name)
            and (query.before is None or record.id < query.before)
            and (query.include_deleted or record.deleted_at is None)
        ]

    def record_ids(self, job_id: str) -> dict[int, str]:
        """See `Store.record_ids`."""
        with self._lock:
            return {record.index: record.id for record in self._records.values() if record.job_id == job_id}

    def delete_record(self, record_id: str, deleted_at: datetime | None) -> Record:
        """See `Store.delete_record`."""
        with self._lock:
            record = self.record(record_id)
            if (record.deleted_at is None) == (deleted_at is None):
                raise ConflictError("the picture is deleted already, or not deleted", value=record_id)
            self._records[record_id] = record.model_copy(update={"deleted_at": deleted_at})
            return self._records[record_id]

    def purge(self, deleted_before: datetime) -> list[str]:
        """See `Store.purge`."""
        with self._lock:
            gone = [r for r in self._records.values() if r.deleted_at is not None and r.deleted_at < deleted_before]
            for record in gone:
                del self._records[record.id]
                self.projects.forget_record(record.id)
            kept = self._records.values()
            shown = {record.picture for record in kept}
            for seen in self._embeddings.values():
                for picture in {record.picture for record in gone} - shown:
                    seen.pop(picture, None)
            used = {blob for record in kept for blob in (record.picture, record.thumbnail)} | self._uploads.keys()
            plans = "".join(plan.model_dump_json() for job in self._jobs.values() for plan in job.plans)
            plans += self.projects.briefs()
            blobs = {blob for record in gone for blob in (record.picture, record.thumbnail) if blob}
            return sorted(blob for blob in blobs - used if blob not in plans)

    def add_embeddings(self, model: str, vectors: Mapping[str, bytes]) -> None:
        """See `Store.add_embeddings`."""
        with self._lock:
            self._embeddings[model] = {**vectors, **self._embeddings.get(model, {})}

    def embeddings(self, model: str, query: RecordQuery) -> list[tuple[str, bytes]]:
        """See `Store.embeddings`."""
        with self._lock:
            seen = self._embeddings.get(model, {})
            found = [(record.id, seen[record.picture]) for record in self._found(query) if record.picture in seen]
            return found[: query.limit]

    def unseen(self, model: str, limit: int) -> list[str]:
        """See `Store.unseen`."""
        with self._lock:
            seen = self._embeddings.get(model, {})
            pictures = dict.fromkeys(record.picture for record in self._found(RecordQuery()))
            return [picture for picture in pictures if picture not in seen][:limit]

    def seeing_models(self) -> list[str]:
        """See `Store.seeing_models`."""
        with self._lock:
            return sorted(model for model, seen in self._embeddings.items() if seen)

    def add_upload(self, upload: Upload) -> None:
        """See `Store.add_upload`."""
        with self._lock:
            self._uploads.setdefault(upload.sha256, upload)
            self._uploaded_at[upload.sha256] = utc_now()

    def upload(self, sha256: str) -> Upload | None:
        """See `Store.upload`."""
        with self._lock:
            return self._uploads.get(sha256)

    def sweep_uploads(self, before: datetime) -> list[str]:
        """See `Store.sweep_uploads`."""
        with self._lock:
            old = [sha256 for sha256 in self._uploads if self._uploaded_at[sha256] < before]
            texts = [record.model_dump_json() for record in self._records.values()]
            texts += [*(job.model_dump_json() for job in self._jobs.values()), self.projects.briefs()]
            swept = sorted(sha256 for sha256 in old if not any(sha256 in text for text in texts))
            for sha256 in swept:
                del self._uploads[sha256]
            return swept

    def forget_user(self, user: str, *, ended_before: datetime) -> int:
        """See `Store.forget_user`."""
        with self._lock:
            own = [job for job in self._jobs.values() if job.user == user]
            for job in own:
                if not job.is_final and self._leases[job.id] is None:
                    self._set(job, state="cancelled", finished_at=utc_now())
            old = {job.id for job in own if job.is_final and (job.finished_at or job.created_at) < ended_before}
            shown = [one for one in self._records.values() if one.job_id in old and one.deleted_at is None]
            for record in shown:
                self._records[record.id] = record.model_copy(update={"deleted_at": utc_now()})
            for job_id in old - {record.job_id for record in self._records.values()}:
                del self._jobs[job_id]
            return len(shown)

    def close(self) -> None:
        """See `Store.close`."""

    def _held_by(self, owner_ids: Collection[str]) -> list[Job]:
        return [job for job in self._jobs.values() if not job.is_final and self._leases[job.id] in owner_ids]

    def _set(self, job: Job, **values: Any) -> None:
        self._jobs[job.id] = job.model_copy(update=values)
