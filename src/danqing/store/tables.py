"""The tables. Requests, Plans and errors are kept as the JSON of their models; columns only for what is searched."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone; kept as naive UTC where the database has no zones (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables, with names for constraints so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, str: Text}  # noqa: RUF012 - SQLAlchemy reads it as a plain dict


class OwnerRow(Base):
    """A live Studio."""

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    process_started: Mapped[str]
    heartbeat_at: Mapped[datetime]


class JobRow(Base):
    """A job. `owner_id` is the lease: who runs it, or None when it is free or ended."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"),
        Index(None, "state", "owner_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    owner_id: Mapped[str | None]
    user_name: Mapped[str] = mapped_column(index=True)
    priority: Mapped[int]
    attempts: Mapped[int]
    request_json: Mapped[str]
    plans_json: Mapped[str]
    error_json: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RecordRow(Base):
    """A finished picture. Only `deleted_at` ever changes."""

    __tablename__ = "records"
    __table_args__ = (UniqueConstraint("job_id", "picture_index"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    picture_index: Mapped[int]
    kind: Mapped[str]
    model: Mapped[str] = mapped_column(index=True)
    search_text: Mapped[str]
    plan_json: Mapped[str]
    picture: Mapped[str] = mapped_column(index=True)
    thumbnail: Mapped[str | None] = mapped_column(index=True)
    media_type: Mapped[str]
    width_px: Mapped[int]
    height_px: Mapped[int]
    infotext: Mapped[str]
    timings_json: Mapped[str]
    versions_json: Mapped[str]
    parent: Mapped[str | None] = mapped_column(index=True)
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None] = mapped_column(index=True)


class EmbeddingRow(Base):
    """How a mini-CLIP (by its content hash) sees a picture: float16 numbers, or no bytes if it cannot be read."""

    __tablename__ = "embeddings"

    model: Mapped[str] = mapped_column(primary_key=True)
    picture: Mapped[str] = mapped_column(primary_key=True, index=True)
    vector: Mapped[bytes]


class UploadRow(Base):
    """A picture somebody brought."""

    __tablename__ = "uploads"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    media_type: Mapped[str]
    width_px: Mapped[int]
    height_px: Mapped[int]
    created_at: Mapped[datetime]


class ProjectRow(Base):
    """A project. Its items, shares, reviews, ties and events go with it."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    search_text: Mapped[str]
    brief_json: Mapped[str]
    current: Mapped[str | None]
    user_name: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    archived_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None] = mapped_column(index=True)


class ProjectItemRow(Base):
    """A Record in a project; `removed_at` where it was taken out."""

    __tablename__ = "project_items"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"), primary_key=True, index=True)
    labels_json: Mapped[str]
    note: Mapped[str]
    starred: Mapped[bool]
    added_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class JobTieRow(Base):
    """What a job's Records join when they come, and the suggestion it carries out."""

    __tablename__ = "job_ties"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    suggestion_id: Mapped[str | None]
    show: Mapped[bool]


class ShareRow(Base):
    """A share. Of token and password only hashes are kept."""

    __tablename__ = "shares"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    follow: Mapped[bool]
    shown_json: Mapped[str]
    language: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    guesses: Mapped[int]
    guesses_since: Mapped[datetime | None]


class ShareRecordRow(Base):
    """A Record that a share shows."""

    __tablename__ = "share_records"

    share_id: Mapped[str] = mapped_column(ForeignKey("shares.id", ondelete="CASCADE"), primary_key=True)
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"), primary_key=True, index=True)
    added_at: Mapped[datetime]


class ReviewRow(Base):
    """A review. The client makes `key`; (`scope`, `key`) is unique, so that what is sent twice is kept once."""

    __tablename__ = "reviews"
    __table_args__ = (UniqueConstraint("scope", "key"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    share_id: Mapped[str | None] = mapped_column(ForeignKey("shares.id", ondelete="CASCADE"), index=True)
    record_id: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    key: Mapped[str]
    fingerprint: Mapped[str]
    reviewer: Mapped[str]
    source: Mapped[str]
    picked: Mapped[bool]
    starred: Mapped[bool]
    approved: Mapped[bool]
    note: Mapped[str]
    language: Mapped[str | None]
    created_at: Mapped[datetime]


class SuggestionRow(Base):
    """A suggestion of a review; what was drawn and said never changes, only what came of it."""

    __tablename__ = "suggestions"

    id: Mapped[str] = mapped_column(primary_key=True)
    review_id: Mapped[str] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    state: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(index=True)
    body_json: Mapped[str]


class ProjectEventRow(Base):
    """What happened in a project, in order; written in the same transaction as what it tells of."""

    __tablename__ = "project_events"
    __table_args__ = (Index(None, "project_id", "number"), {"sqlite_autoincrement": True})

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    share_id: Mapped[str | None]
    record_id: Mapped[str | None]
    review_id: Mapped[str | None]
    suggestion_id: Mapped[str | None]
    at: Mapped[datetime]


class ExplorationRow(Base):
    """A comparison: its axes and which job paints which place."""

    __tablename__ = "explorations"

    id: Mapped[str] = mapped_column(primary_key=True)
    exploration_json: Mapped[str]
    created_at: Mapped[datetime]


class RefinementRow(Base):
    """A refinement and the Studio that runs it; `owner_id` may name one that has gone."""

    __tablename__ = "refinements"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("projects.id", ondelete="SET NULL"), index=True)
    state: Mapped[str] = mapped_column(index=True)
    owner_id: Mapped[str]
    refinement_json: Mapped[str]
    created_at: Mapped[datetime]


class TrainingRow(Base):
    """A training run; `owner_id` is the Studio that runs it, `trainer_json` the process."""

    __tablename__ = "trainings"

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    owner_id: Mapped[str | None]
    trainer_json: Mapped[str | None]
    run_json: Mapped[str]
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
