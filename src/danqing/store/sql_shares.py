"""Shares in a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from danqing.spec.record import Record
from danqing.spec.share import Share
from danqing.store.base import no_such
from danqing.store.database import Database
from danqing.store.project_rows import share_of
from danqing.store.projects_base import OpenShare, ProjectsStore, Secrets, check_keys
from danqing.store.rows import record_of
from danqing.store.sql_ties import note, show
from danqing.store.tables import ProjectItemRow, ProjectRow, RecordRow, ShareRecordRow, ShareRow

_FIELDS = ("name", "follow", "shown", "language", "expires_at", "revoked_at", "token_hash", "password_hash")


class SqlShares(ProjectsStore):
    """The part of the SQL store that is about shares."""

    database: Database

    def add_share(self, share: Share, secrets: Secrets) -> Share:
        """See `ShareStore.add_share`."""
        with self.database.write() as session:
            if session.get(ProjectRow, share.project) is None:
                raise no_such("project", share.project)
            session.add(
                ShareRow(
                    id=share.id,
                    project_id=share.project,
                    name=share.name,
                    follow=share.follow,
                    shown_json=share.shown.model_dump_json(),
                    language=share.language,
                    token_hash=secrets.token_hash,
                    password_hash=secrets.password_hash,
                    created_at=share.created_at,
                    expires_at=share.expires_at,
                    revoked_at=share.revoked_at,
                    guesses=0,
                )
            )
            session.flush()
            show(session, share.id, share.records)
            note(session, "share", share.project, share_id=share.id)
            return _share(session, _get(session, share.id))

    def share(self, share_id: str) -> Share:
        """See `ShareStore.share`."""
        with self.database.read() as session:
            return _share(session, _get(session, share_id))

    def shares(self, project_id: str) -> list[Share]:
        """See `ShareStore.shares`."""
        query = select(ShareRow).where(ShareRow.project_id == project_id).order_by(ShareRow.id.desc())
        with self.database.read() as session:
            return [_share(session, row) for row in session.scalars(query)]

    def open_share(self, token_hash: str, moment: datetime) -> OpenShare | None:
        """See `ShareStore.open_share`."""
        query = (
            select(ShareRow)
            .join(ProjectRow, ProjectRow.id == ShareRow.project_id)
            .where(
                ShareRow.token_hash == token_hash,
                ShareRow.revoked_at.is_(None),
                ShareRow.expires_at.is_(None) | (ShareRow.expires_at > moment),
                ProjectRow.archived_at.is_(None),
                ProjectRow.deleted_at.is_(None),
            )
        )
        with self.database.read() as session:
            row = session.scalar(query)
            if row is None:
                return None
            return OpenShare(_share(session, row), Secrets(row.token_hash, row.password_hash))

    def change_share(self, share_id: str, changes: Mapping[str, Any]) -> Share:
        """See `ShareStore.change_share`."""
        check_keys(changes, _FIELDS)
        with self.database.write() as session:
            row = _get(session, share_id)
            for key, value in changes.items():
                if key == "shown":
                    row.shown_json = value.model_dump_json()
                else:
                    setattr(row, key, value)
            if "password_hash" in changes:
                row.guesses, row.guesses_since = 0, None
            note(session, "share", row.project_id, share_id=share_id)
            session.flush()
            return _share(session, row)

    def show(self, share_id: str, record_ids: Sequence[str]) -> Share:
        """See `ShareStore.show`."""
        with self.database.write() as session:
            show(session, share_id, record_ids)
            return _share(session, _get(session, share_id))

    def hide(self, share_id: str, record_id: str) -> Share:
        """See `ShareStore.hide`."""
        with self.database.write() as session:
            row = _get(session, share_id)
            there = session.get(ShareRecordRow, (share_id, record_id))
            if there is not None:
                session.execute(
                    delete(ShareRecordRow).where(
                        ShareRecordRow.share_id == share_id, ShareRecordRow.record_id == record_id
                    )
                )
                note(session, "hidden", row.project_id, share_id=share_id, record_id=record_id)
            session.flush()
            return _share(session, row)

    def shown_records(self, share_id: str) -> list[tuple[Record, datetime]]:
        """See `ShareStore.shown_records`."""
        query = (
            select(RecordRow, ShareRecordRow.added_at)
            .join(ShareRecordRow, ShareRecordRow.record_id == RecordRow.id)
            .where(ShareRecordRow.share_id == share_id, RecordRow.deleted_at.is_(None))
            .order_by(ShareRecordRow.added_at, RecordRow.id)
        )
        with self.database.read() as session:
            return [(record_of(row), added_at) for row, added_at in session.execute(query)]

    def take_guess(self, share_id: str, moment: datetime, *, limit: int, window_s: float) -> float:
        """See `ShareStore.take_guess`."""
        with self.database.write() as session:
            row = session.get(ShareRow, share_id, with_for_update=True)
            if row is None:
                raise no_such("share", share_id)
            ends = None if row.guesses_since is None else row.guesses_since + timedelta(seconds=window_s)
            if ends is None or ends <= moment:
                row.guesses, row.guesses_since = 1, moment
                return 0.0
            if row.guesses >= limit:
                return (ends - moment).total_seconds()
            row.guesses += 1
            return 0.0

    def forget_guesses(self, share_id: str) -> None:
        """See `ShareStore.forget_guesses`."""
        with self.database.write() as session:
            row = _get(session, share_id)
            row.guesses, row.guesses_since = 0, None


def _get(session: Session, share_id: str) -> ShareRow:
    row = session.get(ShareRow, share_id)
    if row is None:
        raise no_such("share", share_id)
    return row


def _share(session: Session, row: ShareRow) -> Share:
    query = (
        select(ShareRecordRow.record_id)
        .join(RecordRow, RecordRow.id == ShareRecordRow.record_id)
        .join(
            ProjectItemRow,
            (ProjectItemRow.record_id == ShareRecordRow.record_id) & (ProjectItemRow.project_id == row.project_id),
        )
        .where(ShareRecordRow.share_id == row.id, RecordRow.deleted_at.is_(None), ProjectItemRow.removed_at.is_(None))
        .order_by(ShareRecordRow.added_at, ShareRecordRow.record_id)
    )
    return share_of(row, list(session.scalars(query)))
