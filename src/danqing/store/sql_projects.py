"""Projects, items and events in a database; with `SqlReviews`, the whole of `ProjectsStore`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from danqing.spec.project import Brief, Project, ProjectItem
from danqing.spec.record import Record
from danqing.spec.share import ProjectEvent
from danqing.store.base import no_such
from danqing.store.database import Database
from danqing.store.owners import utc_now
from danqing.store.project_rows import event_of, item_of, labels_json, project_of, project_row, search_text
from danqing.store.projects_base import Counts, ProjectQuery, Tie, check_keys
from danqing.store.rows import record_of
from danqing.store.sql_reviews import SqlReviews
from danqing.store.sql_shares import SqlShares
from danqing.store.sql_ties import note, put_items
from danqing.store.tables import (
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

_PROJECT_FIELDS = ("name", "brief", "current", "archived_at", "deleted_at")
_ITEM_FIELDS = ("labels", "note", "starred", "removed_at")


class SqlProjects(SqlShares, SqlReviews):
    """Projects, shares and reviews in one database.

    Args:
        database: Migrated before use.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def add_project(self, project: Project) -> None:
        """See `ProjectStore.add_project`."""
        with self.database.write() as session:
            session.add(project_row(project))

    def project(self, project_id: str) -> Project:
        """See `ProjectStore.project`."""
        with self.database.read() as session:
            return project_of(_get(session, project_id))

    def projects(self, query: ProjectQuery) -> list[Project]:
        """See `ProjectStore.projects`."""
        found = select(ProjectRow).where(*_conditions(query)).order_by(ProjectRow.id.desc()).limit(query.limit)
        with self.database.read() as session:
            return [project_of(row) for row in session.scalars(found)]

    def change_project(self, project_id: str, changes: Mapping[str, Any]) -> Project:
        """See `ProjectStore.change_project`."""
        check_keys(changes, _PROJECT_FIELDS)
        with self.database.write() as session:
            row = _get(session, project_id)
            for key, value in changes.items():
                if key == "brief":
                    row.brief_json = value.model_dump_json()
                else:
                    setattr(row, key, value)
            row.search_text = search_text(row.name, Brief.model_validate_json(row.brief_json))
            row.updated_at = utc_now()
            note(session, "project", project_id)
            session.flush()
            return project_of(row)

    def purge_projects(self, deleted_before: datetime) -> list[str]:
        """See `ProjectStore.purge_projects`."""
        with self.database.write() as session:
            gone = list(session.scalars(select(ProjectRow.id).where(ProjectRow.deleted_at < deleted_before)))
            session.execute(delete(ProjectRow).where(ProjectRow.id.in_(gone)))
            return gone

    def counts(self, project_ids: Collection[str]) -> dict[str, Counts]:
        """See `ProjectStore.counts`."""
        wanted = list(project_ids)
        live = (ProjectItemRow.removed_at.is_(None), RecordRow.deleted_at.is_(None))
        items = select(ProjectItemRow.project_id, func.count(), func.max(ProjectItemRow.record_id)).join(
            RecordRow, RecordRow.id == ProjectItemRow.record_id
        )
        reviews = select(ReviewRow.project_id, func.count(), func.max(ReviewRow.id))
        waiting = (
            select(ReviewRow.project_id, func.count(), func.max(SuggestionRow.id))
            .join(SuggestionRow, SuggestionRow.review_id == ReviewRow.id)
            .where(SuggestionRow.state == "open")
        )
        unexpired = ShareRow.expires_at.is_(None) | (ShareRow.expires_at > utc_now())
        shares = select(ShareRow.project_id, func.count(), func.max(ShareRow.id)).where(
            ShareRow.revoked_at.is_(None), unexpired
        )
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        with self.database.read() as session:
            for name, query, column in (
                ("versions", items.where(*live), ProjectItemRow.project_id),
                ("reviews", reviews, ReviewRow.project_id),
                ("open_suggestions", waiting, ReviewRow.project_id),
                ("shares", shares, ShareRow.project_id),
            ):
                for project_id, count, newest in session.execute(query.where(column.in_(wanted)).group_by(column)):
                    found[project_id][name] = count
                    if name == "versions":
                        found[project_id]["newest"] = newest
        return {project_id: Counts(**found[project_id]) for project_id in wanted}

    def put_items(self, project_id: str, record_ids: Sequence[str]) -> list[ProjectItem]:
        """See `ProjectStore.put_items`."""
        with self.database.write() as session:
            return [item_of(row) for row in put_items(session, project_id, record_ids)]

    def items(self, project_id: str) -> list[ProjectItem]:
        """See `ProjectStore.items`."""
        query = (
            select(ProjectItemRow)
            .join(RecordRow, RecordRow.id == ProjectItemRow.record_id)
            .where(*_live(project_id))
            .order_by(RecordRow.id)
        )
        with self.database.read() as session:
            return [item_of(row) for row in session.scalars(query)]

    def item_records(self, project_id: str) -> list[Record]:
        """See `ProjectStore.item_records`."""
        query = (
            select(RecordRow)
            .join(ProjectItemRow, RecordRow.id == ProjectItemRow.record_id)
            .where(*_live(project_id))
            .order_by(RecordRow.id)
        )
        with self.database.read() as session:
            return [record_of(row) for row in session.scalars(query)]

    def change_item(self, project_id: str, record_id: str, changes: Mapping[str, Any]) -> ProjectItem:
        """See `ProjectStore.change_item`."""
        check_keys(changes, _ITEM_FIELDS)
        with self.database.write() as session:
            row = session.get(ProjectItemRow, (project_id, record_id))
            if row is None or row.removed_at is not None:
                raise no_such("version of this project", record_id)
            for key, value in changes.items():
                if key == "labels":
                    row.labels_json = labels_json(value)
                else:
                    setattr(row, key, value)
            if row.removed_at is not None:
                _take_off(session, project_id, record_id)
            note(session, "project" if row.removed_at is None else "removed", project_id, record_id=record_id)
            session.flush()
            return item_of(row)

    def tie(self, job_id: str) -> Tie | None:
        """See `ProjectStore.tie`."""
        with self.database.read() as session:
            row = session.get(JobTieRow, job_id)
            return None if row is None else Tie(row.project_id, row.suggestion_id, row.show)

    def events(self, after: int, *, project_id: str | None = None, limit: int = 500) -> list[ProjectEvent]:
        """See `ProjectStore.events`."""
        query = select(ProjectEventRow).where(ProjectEventRow.number > after).order_by(ProjectEventRow.number)
        if project_id is not None:
            query = query.where(ProjectEventRow.project_id == project_id)
        with self.database.read() as session:
            return [event_of(row) for row in session.scalars(query.limit(limit))]

    def last_event(self) -> int:
        """See `ProjectStore.last_event`."""
        with self.database.read() as session:
            return session.scalar(select(func.max(ProjectEventRow.number))) or 0


def _get(session: Session, project_id: str) -> ProjectRow:
    row = session.get(ProjectRow, project_id)
    if row is None:
        raise no_such("project", project_id)
    return row


def _live(project_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        ProjectItemRow.project_id == project_id,
        ProjectItemRow.removed_at.is_(None),
        RecordRow.deleted_at.is_(None),
    )


def _conditions(query: ProjectQuery) -> list[ColumnElement[bool]]:
    words = query.search.casefold().split()
    found: list[ColumnElement[bool]] = [ProjectRow.search_text.contains(word, autoescape=True) for word in words]
    if query.before is not None:
        found.append(ProjectRow.id < query.before)
    if query.state == "deleted":
        return [*found, ProjectRow.deleted_at.is_not(None)]
    archived = ProjectRow.archived_at.is_not(None)
    return [*found, ProjectRow.deleted_at.is_(None), archived if query.state == "archived" else ~archived]


def _take_off(session: Session, project_id: str, record_id: str) -> None:
    """A version that left its project is shown on none of its shares."""
    shares = select(ShareRecordRow).join(ShareRow, ShareRow.id == ShareRecordRow.share_id)
    for row in session.scalars(
        shares.where(ShareRow.project_id == project_id, ShareRecordRow.record_id == record_id)
    ).all():
        session.delete(row)
        note(session, "hidden", project_id, share_id=row.share_id, record_id=record_id)
