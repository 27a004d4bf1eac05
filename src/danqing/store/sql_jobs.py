"""Owners and jobs in a database."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, cast

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from danqing.spec.record import FINAL_STATES, Job, JobState
from danqing.store.base import MAX_ATTEMPTS, Lease, Store, check_move, lease_lost, no_such, poisoned
from danqing.store.database import Database
from danqing.store.owners import Owner, utc_now
from danqing.store.projects_base import Tie
from danqing.store.rows import job_of, job_row, owner_of
from danqing.store.sql_ties import tie_job
from danqing.store.tables import JobRow, OwnerRow, RecordRow

_LIVE: tuple[JobState, ...] = ("queued", "running")


class SqlJobs(Store):
    """The half of the SQL store that is about work to do."""

    database: Database

    def beat(self, owner: Owner) -> None:
        """See `Store.beat`."""
        with self.database.write() as session:
            session.merge(
                OwnerRow(
                    id=owner.id,
                    host=owner.host,
                    pid=owner.pid,
                    process_started=owner.process_started,
                    heartbeat_at=owner.heartbeat_at,
                )
            )

    def leave(self, owner_id: str) -> None:
        """See `Store.leave`."""
        held = (JobRow.owner_id == owner_id, JobRow.state.in_(_LIVE))
        with self.database.write() as session:
            session.execute(
                update(JobRow)
                .where(*held, JobRow.state == "running", JobRow.attempts > 0)
                .values(attempts=JobRow.attempts - 1)
            )
            session.execute(update(JobRow).where(*held).values(state="queued", owner_id=None, started_at=None))
            session.execute(delete(OwnerRow).where(OwnerRow.id == owner_id))

    def reap(self, *, lease_s: float) -> list[Job]:
        """See `Store.reap`."""
        with self.database.read() as session:  # first without the write lock: almost always there is nothing to do
            held = set(
                session.scalars(
                    select(JobRow.owner_id).where(JobRow.state.in_(_LIVE), JobRow.owner_id.is_not(None)).distinct()
                )
            )
            owners = [owner_of(row) for row in session.scalars(select(OwnerRow))]
        dead = {owner.id for owner in owners if owner.is_dead(lease_s=lease_s)}
        gone = held - {owner.id for owner in owners}
        return self._free(dead, gone, lease_s) if dead or gone else []

    def _free(self, dead: Collection[str | None], gone: Collection[str | None], lease_s: float) -> list[Job]:
        with self.database.write() as session:
            rows = session.scalars(select(OwnerRow).where(OwnerRow.id.in_(dead))).all()
            still_dead = {row.id for row in rows if owner_of(row).is_dead(lease_s=lease_s)}
            known = set(session.scalars(select(OwnerRow.id).where(OwnerRow.id.in_(gone))))
            losers = still_dead | (set(gone) - known)
            jobs = session.scalars(
                select(JobRow).where(JobRow.state.in_(_LIVE), JobRow.owner_id.in_(losers)).with_for_update()
            ).all()
            for row in jobs:
                _requeue(row)
            session.execute(delete(OwnerRow).where(OwnerRow.id.in_(still_dead)))
            session.flush()
            return _with_records(session, jobs)

    def add_job(self, job: Job, owner_id: str | None, tie: Tie | None = None) -> None:
        """See `Store.add_job`."""
        with self.database.write() as session:
            session.add(job_row(job, owner_id))
            if tie is not None:
                tie_job(session, job.id, tie)

    def job(self, job_id: str) -> Job:
        """See `Store.job`."""
        with self.database.read() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise no_such("job", job_id)
            return _with_records(session, [row])[0]

    def jobs(
        self, *, states: Collection[JobState] | None = None, limit: int = 50, user: str | None = None
    ) -> list[Job]:
        """See `Store.jobs`."""
        query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
        if states is not None:
            query = query.where(JobRow.state.in_(states))
        if user is not None:
            query = query.where(JobRow.user_name == user)
        with self.database.read() as session:
            return _with_records(session, session.scalars(query).all())

    def move_job(
        self, job_id: str, state: JobState, *, owner_id: str | None = None, error: dict[str, Any] | None = None
    ) -> Job:
        """See `Store.move_job`."""
        with self.database.write() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None:
                raise no_such("job", job_id)
            check_move(job_id, cast("JobState", row.state), state)
            if owner_id is not None and row.owner_id != owner_id:
                raise lease_lost(job_id)
            row.state = state
            if state == "running":
                row.attempts += 1
                row.started_at = utc_now()
            if state in FINAL_STATES:
                row.finished_at = utc_now()
                row.owner_id = None
                row.error_json = None if error is None else json.dumps(error)
            session.flush()
            return _with_records(session, [row])[0]

    def forget_user(self, user: str, *, ended_before: datetime) -> int:
        """See `Store.forget_user`."""
        own = JobRow.user_name == user
        ended = func.coalesce(JobRow.finished_at, JobRow.created_at) < ended_before
        old = own & JobRow.state.in_(FINAL_STATES) & ended
        with self.database.write() as session:
            free = own & JobRow.state.not_in(FINAL_STATES) & JobRow.owner_id.is_(None)
            session.execute(update(JobRow).where(free).values(state="cancelled", finished_at=utc_now()))
            shown = RecordRow.deleted_at.is_(None) & RecordRow.job_id.in_(select(JobRow.id).where(old))
            marked = list(session.scalars(select(RecordRow.id).where(shown)))
            session.execute(update(RecordRow).where(shown).values(deleted_at=utc_now()))
            kept = select(RecordRow.id).where(RecordRow.job_id == JobRow.id).exists()
            session.execute(delete(JobRow).where(old, ~kept))
            return len(marked)

    def claim(self, job_id: str, owner_id: str) -> bool:
        """See `Store.claim`."""
        with self.database.write() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None or row.state != "queued" or row.owner_id is not None:
                return False
            row.owner_id = owner_id
            return True

    def free_jobs(self, limit: int = 50) -> list[str]:
        """See `Store.free_jobs`."""
        query = (
            select(JobRow.id)
            .where(JobRow.state == "queued", JobRow.owner_id.is_(None))
            .order_by(JobRow.priority.desc(), JobRow.id)
            .limit(limit)
        )
        with self.database.read() as session:
            return list(session.scalars(query))

    def leases(self, job_ids: Collection[str]) -> dict[str, Lease]:
        """See `Store.leases`."""
        query = select(JobRow.id, JobRow.state, JobRow.owner_id).where(JobRow.id.in_(job_ids))
        with self.database.read() as session:
            return {row.id: Lease(cast("JobState", row.state), row.owner_id) for row in session.execute(query)}


def _requeue(row: JobRow) -> None:
    row.owner_id = None
    if row.state == "running" and row.attempts >= MAX_ATTEMPTS:
        row.state = "failed"
        row.finished_at = utc_now()
        row.error_json = json.dumps(poisoned(row.id, row.attempts))
        return
    row.state = "queued"


def _with_records(session: Session, rows: Iterable[JobRow]) -> list[Job]:
    rows = list(rows)
    found: defaultdict[str, dict[int, str]] = defaultdict(dict)
    query = select(RecordRow.job_id, RecordRow.picture_index, RecordRow.id)
    for job_id, index, record_id in session.execute(query.where(RecordRow.job_id.in_([row.id for row in rows]))):
        found[job_id][index] = record_id
    return [job_of(row, found[row.id]) for row in rows]
