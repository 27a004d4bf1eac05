"""What is written beside a job or a Record, in the same transaction: items, shown versions, events."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from danqing.spec.record import Record
from danqing.spec.share import MAX_SHARED, EventKind
from danqing.store.base import no_such
from danqing.store.owners import utc_now
from danqing.store.projects_base import LONGEST_LINE, MAX_ITEMS, Tie, applied_already, check_room, too_many
from danqing.store.tables import (
    JobRow,
    JobTieRow,
    ProjectEventRow,
    ProjectItemRow,
    ProjectRow,
    RecordRow,
    ReviewRow,
    ShareRecordRow,
    ShareRow,
    SuggestionRow,
)

_EVENT_LOCK = 0x64616E72  # PostgreSQL: events become visible in the order of their numbers


def note(session: Session, kind: EventKind, project_id: str, **about: str | None) -> None:
    """Add an event; `about` is some of `share_id, record_id, review_id, suggestion_id`."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _EVENT_LOCK})
    session.add(ProjectEventRow(kind=kind, project_id=project_id, at=utc_now(), **about))


def tie_job(session: Session, job_id: str, tie: Tie) -> None:
    """Bind a new job to a project, and claim the suggestion it carries out.

    Raises:
        NotFoundError: There is no such project or suggestion.
        ConflictError: Another job carries the suggestion out already.
    """
    if session.get(ProjectRow, tie.project) is None:
        raise no_such("project", tie.project)
    session.flush()
    session.add(JobTieRow(job_id=job_id, project_id=tie.project, suggestion_id=tie.suggestion, show=tie.show))
    if tie.suggestion is None:
        return
    row = session.get(SuggestionRow, tie.suggestion, with_for_update=True)
    if row is None:
        raise no_such("suggestion", tie.suggestion)
    if row.state == "applied" and row.job_id is not None:
        before = session.get(JobRow, row.job_id)
        if before is not None and before.state not in ("failed", "cancelled"):
            raise applied_already(row.id)
    row.state, row.job_id = "applied", job_id
    note_suggestion(session, row, tie.project)


def note_suggestion(session: Session, row: SuggestionRow, project_id: str) -> None:
    """Tell that the state of a suggestion has changed."""
    review = session.get(ReviewRow, row.review_id)
    note(
        session,
        "suggestion",
        project_id,
        share_id=None if review is None else review.share_id,
        record_id=None if review is None else review.record_id,
        review_id=row.review_id,
        suggestion_id=row.id,
    )


def join_record(session: Session, record: Record) -> None:
    """Let a new Record join what its job is tied to."""
    tie = session.get(JobTieRow, record.job_id)
    if tie is None:
        return
    session.flush()
    put_items(session, tie.project_id, [record.id])
    if tie.suggestion_id is None:
        return
    row = session.get(SuggestionRow, tie.suggestion_id)
    review = None if row is None else session.get(ReviewRow, row.review_id)
    if row is None or review is None:
        return
    if tie.show and review.share_id is not None:
        show(session, review.share_id, [record.id])
    note_suggestion(session, row, tie.project_id)


def put_items(session: Session, project_id: str, record_ids: Collection[str]) -> list[ProjectItemRow]:
    """See `ProjectStore.put_items`."""
    if session.get(ProjectRow, project_id) is None:
        raise no_such("project", project_id)
    rows: list[ProjectItemRow] = []
    fresh: list[str] = []
    for record_id in dict.fromkeys(record_ids):
        record = session.get(RecordRow, record_id)
        if record is None or record.deleted_at is not None:
            raise no_such("record", record_id)
        row = session.get(ProjectItemRow, (project_id, record_id))
        if row is None:
            row = ProjectItemRow(
                project_id=project_id, record_id=record_id, labels_json="[]", note="", starred=False, added_at=utc_now()
            )
            session.add(row)
            fresh.append(record_id)
        elif row.removed_at is not None:
            row.removed_at = None
            fresh.append(record_id)
        rows.append(row)
    session.flush()
    there = select(func.count()).where(ProjectItemRow.project_id == project_id, ProjectItemRow.removed_at.is_(None))
    if fresh and (session.scalar(there) or 0) > MAX_ITEMS:
        raise too_many("versions in one project", MAX_ITEMS)
    for record_id in fresh:
        note(session, "version", project_id, record_id=record_id)
        _follow(session, project_id, record_id)
    return rows


def show(session: Session, share_id: str, record_ids: Collection[str]) -> None:
    """See `ShareStore.show`."""
    share = session.get(ShareRow, share_id)
    if share is None:
        raise no_such("share", share_id)
    query = select(ShareRecordRow.record_id).where(ShareRecordRow.share_id == share_id)
    there = set(session.scalars(query))
    fresh = [record_id for record_id in dict.fromkeys(record_ids) if record_id not in there]
    check_room(len(there), len(fresh))
    for record_id in fresh:
        item = session.get(ProjectItemRow, (share.project_id, record_id))
        if item is None or item.removed_at is not None:
            raise no_such("version of this project", record_id)
        session.add(ShareRecordRow(share_id=share_id, record_id=record_id, added_at=utc_now()))
        note(session, "shown", share.project_id, share_id=share_id, record_id=record_id)
    session.flush()


def _follow(session: Session, project_id: str, record_id: str) -> None:
    """Show a new version on the shares that follow the one it came of."""
    shares = select(ShareRow.id).where(
        ShareRow.project_id == project_id, ShareRow.follow.is_(True), ShareRow.revoked_at.is_(None)
    )
    following = list(session.scalars(shares))
    parent = _parent_in(session, project_id, record_id) if following else None
    if parent is None:
        return
    for share_id in following:
        shown = select(func.count()).where(ShareRecordRow.share_id == share_id)
        full = (session.scalar(shown) or 0) >= MAX_SHARED
        if session.get(ShareRecordRow, (share_id, parent)) is not None and not full:
            show(session, share_id, [record_id])


def _parent_in(session: Session, project_id: str, record_id: str) -> str | None:
    """The nearest ancestor that is in the project."""
    row = session.get(RecordRow, record_id)
    for _ in range(LONGEST_LINE):
        if row is None or row.parent is None:
            return None
        item = session.get(ProjectItemRow, (project_id, row.parent))
        if item is not None and item.removed_at is None:
            return row.parent
        row = session.get(RecordRow, row.parent)
    return None
