"""The store in a database: `SqlJobs` for the work, this file for Records and uploads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from danqing.spec.errors import ConflictError
from danqing.spec.record import Record
from danqing.store.base import RecordQuery, Upload, lease_lost, no_such
from danqing.store.database import Database
from danqing.store.explorations import SqlExplorations
from danqing.store.owners import utc_now
from danqing.store.refinements import SqlRefinements
from danqing.store.rows import record_of, record_row
from danqing.store.sql_jobs import SqlJobs
from danqing.store.sql_projects import SqlProjects
from danqing.store.sql_ties import join_record
from danqing.store.sql_trainings import SqlTrainings
from danqing.store.tables import EmbeddingRow, JobRow, ProjectRow, RecordRow, UploadRow

_HASH = re.compile(r"[0-9a-f]{64}")
_TEXTS = 200


class SqlStore(SqlJobs):
    """Jobs, Records and uploads in one database.

    Args:
        database: Migrated before use.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = SqlProjects(database)
        self.explorations = SqlExplorations(database)
        self.refinements = SqlRefinements(database)
        self.trainings = SqlTrainings(database)

    def add_record(self, record: Record, owner_id: str) -> Record:
        """See `Store.add_record`."""
        with self.database.write() as session:
            job = session.get(JobRow, record.job_id, with_for_update=True)
            if job is None:
                raise no_such("job", record.job_id)
            there = session.scalar(
                select(RecordRow).where(RecordRow.job_id == record.job_id, RecordRow.picture_index == record.index)
            )
            if there is not None:
                return record_of(there)
            if job.state != "running" or job.owner_id != owner_id:
                raise lease_lost(record.job_id)
            session.add(record_row(record))
            join_record(session, record)
        return record

    def record(self, record_id: str) -> Record:
        """See `Store.record`."""
        with self.database.read() as session:
            return record_of(_get(session, record_id))

    def records(self, query: RecordQuery) -> list[Record]:
        """See `Store.records`."""
        found = select(RecordRow).where(*_conditions(query)).order_by(RecordRow.id.desc()).limit(query.limit)
        with self.database.read() as session:
            return [record_of(row) for row in session.scalars(found)]

    def record_ids(self, job_id: str) -> dict[int, str]:
        """See `Store.record_ids`."""
        query = select(RecordRow.picture_index, RecordRow.id).where(RecordRow.job_id == job_id)
        with self.database.read() as session:
            return {row.picture_index: row.id for row in session.execute(query)}

    def delete_record(self, record_id: str, deleted_at: datetime | None) -> Record:
        """See `Store.delete_record`."""
        with self.database.write() as session:
            row = _get(session, record_id)
            if (row.deleted_at is None) == (deleted_at is None):
                raise ConflictError(
                    f"the picture is {'not deleted' if deleted_at is None else 'deleted already'}",
                    value=record_id,
                    next_step="reload the gallery",
                )
            row.deleted_at = deleted_at
            session.flush()
            return record_of(row)

    def purge(self, deleted_before: datetime) -> list[str]:
        """See `Store.purge`."""
        with self.database.write() as session:
            rows = session.scalars(select(RecordRow).where(RecordRow.deleted_at < deleted_before)).all()
            blobs = {blob for row in rows for blob in (row.picture, row.thumbnail) if blob}
            pictures = {row.picture for row in rows}
            session.execute(delete(RecordRow).where(RecordRow.id.in_([row.id for row in rows])))
            kept = exists().where(RecordRow.picture == EmbeddingRow.picture)
            session.execute(delete(EmbeddingRow).where(EmbeddingRow.picture.in_(pictures), ~kept))
            return sorted(_unused(session, blobs))

    def add_embeddings(self, model: str, vectors: Mapping[str, bytes]) -> None:
        """See `Store.add_embeddings`."""
        if not vectors:
            return
        # Two processes may have looked at the same pictures: the second one's rows are not needed.
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        rows = [{"model": model, "picture": picture, "vector": vector} for picture, vector in vectors.items()]
        with self.database.write() as session:
            session.execute(insert(EmbeddingRow).on_conflict_do_nothing(), rows)

    def embeddings(self, model: str, query: RecordQuery) -> list[tuple[str, bytes]]:
        """See `Store.embeddings`."""
        found = (
            select(RecordRow.id, EmbeddingRow.vector)
            .join(EmbeddingRow, EmbeddingRow.picture == RecordRow.picture)
            .where(EmbeddingRow.model == model, *_conditions(query))
            .order_by(RecordRow.id.desc())
            .limit(query.limit)
        )
        with self.database.read() as session:
            return [(row.id, row.vector) for row in session.execute(found)]

    def unseen(self, model: str, limit: int) -> list[str]:
        """See `Store.unseen`."""
        seen = exists().where(EmbeddingRow.model == model, EmbeddingRow.picture == RecordRow.picture)
        newest = func.max(RecordRow.id)
        found = (
            select(RecordRow.picture)
            .where(RecordRow.deleted_at.is_(None), ~seen)
            .group_by(RecordRow.picture)
            .order_by(newest.desc())
            .limit(limit)
        )
        with self.database.read() as session:
            return list(session.scalars(found))

    def seeing_models(self) -> list[str]:
        """See `Store.seeing_models`."""
        with self.database.read() as session:
            return sorted(session.scalars(select(EmbeddingRow.model).distinct()))

    def add_upload(self, upload: Upload) -> None:
        """See `Store.add_upload`."""
        with self.database.write() as session:
            row = session.get(UploadRow, upload.sha256)
            if row is not None:
                row.created_at = utc_now()
            else:
                session.add(
                    UploadRow(
                        sha256=upload.sha256,
                        name=upload.name,
                        media_type=upload.media_type,
                        width_px=upload.width_px,
                        height_px=upload.height_px,
                        created_at=utc_now(),
                    )
                )

    def upload(self, sha256: str) -> Upload | None:
        """See `Store.upload`."""
        with self.database.read() as session:
            row = session.get(UploadRow, sha256)
            return row and Upload(row.sha256, row.width_px, row.height_px, row.media_type, row.name)

    def sweep_uploads(self, before: datetime) -> list[str]:
        """See `Store.sweep_uploads`."""
        with self.database.write() as session:
            old = set(session.scalars(select(UploadRow.sha256).where(UploadRow.created_at < before)))
            if old:
                old -= set(session.scalars(select(RecordRow.picture)))
                old -= set(session.scalars(select(RecordRow.thumbnail)))
            # One look at every text, not one search through all of them for each upload.
            for column in (RecordRow.plan_json, JobRow.plans_json, JobRow.request_json, ProjectRow.brief_json):
                for text in session.scalars(select(column).execution_options(yield_per=_TEXTS)) if old else ():
                    old.difference_update(_HASH.findall(text))
            for start in range(0, len(old), _TEXTS):
                part = sorted(old)[start : start + _TEXTS]
                session.execute(delete(UploadRow).where(UploadRow.sha256.in_(part)))
            return sorted(old)

    def close(self) -> None:
        """See `Store.close`."""
        self.database.close()


def _conditions(query: RecordQuery) -> list[ColumnElement[bool]]:
    """What `RecordQuery` asks of a row, but for its limit."""
    words = query.search.casefold().split()
    found: list[ColumnElement[bool]] = [RecordRow.search_text.contains(word, autoescape=True) for word in words]
    if query.kind is not None:
        found.append(RecordRow.kind == query.kind)
    if query.model is not None:
        found.append(RecordRow.model == query.model)
    if query.before is not None:
        found.append(RecordRow.id < query.before)
    if not query.include_deleted:
        found.append(RecordRow.deleted_at.is_(None))
    return found


def _get(session: Session, record_id: str) -> RecordRow:
    row = session.get(RecordRow, record_id)
    if row is None:
        raise no_such("record", record_id)
    return row


def _unused(session: Session, blobs: Iterable[str]) -> Iterable[str]:
    """The blobs that no Record shows, nobody uploaded, and no Plan starts from."""
    for blob in blobs:
        places = (
            exists().where((RecordRow.picture == blob) | (RecordRow.thumbnail == blob)),
            exists().where(UploadRow.sha256 == blob),
            exists().where(JobRow.plans_json.contains(blob)),
            exists().where(RecordRow.plan_json.contains(blob)),
            exists().where(ProjectRow.brief_json.contains(blob)),
        )
        if not any(session.scalar(select(place)) for place in places):
            yield blob
