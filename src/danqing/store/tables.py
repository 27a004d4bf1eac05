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
