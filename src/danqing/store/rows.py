"""Rows to models and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from pydantic import TypeAdapter

from danqing.spec.plan import Plan
from danqing.spec.record import Job, JobState, Record, Timings, Versions
from danqing.spec.request import REQUEST
from danqing.store.base import plan_text
from danqing.store.owners import Owner
from danqing.store.tables import JobRow, OwnerRow, RecordRow

PLANS: TypeAdapter[tuple[Plan, ...]] = TypeAdapter(tuple[Plan, ...])


def job_row(job: Job, owner_id: str | None) -> JobRow:
    """The row of a new job."""
    return JobRow(
        id=job.id,
        state=job.state,
        owner_id=owner_id,
        user_name=job.user,
        priority=job.priority,
        attempts=job.attempts,
        request_json=job.request.model_dump_json(),
        plans_json=PLANS.dump_json(job.plans).decode(),
        error_json=None if job.error is None else json.dumps(job.error),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def job_of(row: JobRow, record_ids: Mapping[int, str]) -> Job:
    """The job of a row; progress by finished pictures."""
    plans = PLANS.validate_json(row.plans_json)
    return Job(
        id=row.id,
        state=cast("JobState", row.state),
        request=REQUEST.validate_json(row.request_json),
        plans=plans,
        user=row.user_name,
        priority=row.priority,
        attempts=row.attempts,
        progress=1.0 if row.state == "done" else min(1.0, len(record_ids) / max(1, len(plans))),
        records=tuple(record_ids[index] for index in sorted(record_ids)),
        error=None if row.error_json is None else json.loads(row.error_json),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def record_row(record: Record) -> RecordRow:
    """The row of a new Record."""
    return RecordRow(
        id=record.id,
        job_id=record.job_id,
        picture_index=record.index,
        kind=record.plan.kind,
        model=record.plan.base.model.name,
        search_text=plan_text(record),
        plan_json=record.plan.model_dump_json(),
        picture=record.picture,
        thumbnail=record.thumbnail,
        media_type=record.media_type,
        width_px=record.width_px,
        height_px=record.height_px,
        infotext=record.infotext,
        timings_json=record.timings.model_dump_json(),
        versions_json=record.versions.model_dump_json(),
        parent=record.parent,
        created_at=record.created_at,
        deleted_at=record.deleted_at,
    )


def record_of(row: RecordRow) -> Record:
    """The Record of a row."""
    return Record(
        id=row.id,
        job_id=row.job_id,
        index=row.picture_index,
        plan=Plan.model_validate_json(row.plan_json),
        picture=row.picture,
        thumbnail=row.thumbnail,
        media_type=row.media_type,
        width_px=row.width_px,
        height_px=row.height_px,
        infotext=row.infotext,
        timings=Timings.model_validate_json(row.timings_json),
        versions=Versions.model_validate_json(row.versions_json),
        parent=row.parent,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )


def owner_of(row: OwnerRow) -> Owner:
    """The owner of a row."""
    return Owner(row.id, row.host, row.pid, row.process_started, row.heartbeat_at)
