"""Projects, their items, ties of jobs, shares, reviews, suggestions and events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from danqing.store.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of projects."""
    _projects()
    _shares()
    _reviews()
    op.create_table(
        "project_events",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("share_id", sa.Text),
        sa.Column("record_id", sa.Text),
        sa.Column("review_id", sa.Text),
        sa.Column("suggestion_id", sa.Text),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_project_events"),
        _within("project_events", "project_id", "projects"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_project_events_project_id_number", "project_events", ["project_id", "number"])


def _within(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    """A foreign key: the row goes with the other one."""
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=f"fk_{table}_{column}_{other}", ondelete="CASCADE")


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("brief_json", sa.Text, nullable=False),
        sa.Column("current", sa.Text),
        sa.Column("user_name", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("archived_at", UtcDateTime),
        sa.Column("deleted_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
    )
    op.create_index("ix_projects_deleted_at", "projects", ["deleted_at"])
    op.create_table(
        "project_items",
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("labels_json", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("starred", sa.Boolean, nullable=False),
        sa.Column("added_at", UtcDateTime, nullable=False),
        sa.Column("removed_at", UtcDateTime),
        sa.PrimaryKeyConstraint("project_id", "record_id", name="pk_project_items"),
        _within("project_items", "project_id", "projects"),
        _within("project_items", "record_id", "records"),
    )
    op.create_index("ix_project_items_record_id", "project_items", ["record_id"])
    op.create_table(
        "job_ties",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("suggestion_id", sa.Text),
        sa.Column("show", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_ties"),
        _within("job_ties", "job_id", "jobs"),
        _within("job_ties", "project_id", "projects"),
    )
    op.create_index("ix_job_ties_project_id", "job_ties", ["project_id"])


def _shares() -> None:
    op.create_table(
        "shares",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("follow", sa.Boolean, nullable=False),
        sa.Column("shown_json", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
        sa.Column("revoked_at", UtcDateTime),
        sa.Column("guesses", sa.Integer, nullable=False),
        sa.Column("guesses_since", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("token_hash", name="uq_shares_token_hash"),
        _within("shares", "project_id", "projects"),
    )
    op.create_index("ix_shares_project_id", "shares", ["project_id"])
    op.create_table(
        "share_records",
        sa.Column("share_id", sa.Text, nullable=False),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("added_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("share_id", "record_id", name="pk_share_records"),
        _within("share_records", "share_id", "shares"),
        _within("share_records", "record_id", "records"),
    )
    op.create_index("ix_share_records_record_id", "share_records", ["record_id"])


def _reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("share_id", sa.Text),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("picked", sa.Boolean, nullable=False),
        sa.Column("starred", sa.Boolean, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("language", sa.Text),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reviews"),
        sa.UniqueConstraint("scope", "key", name="uq_reviews_scope_key"),
        _within("reviews", "project_id", "projects"),
        _within("reviews", "share_id", "shares"),
    )
    for column in ("project_id", "share_id", "record_id"):
        op.create_index(f"ix_reviews_{column}", "reviews", [column])
    op.create_table(
        "suggestions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("review_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("body_json", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_suggestions"),
        _within("suggestions", "review_id", "reviews"),
    )
    for column in ("review_id", "job_id"):
        op.create_index(f"ix_suggestions_{column}", "suggestions", [column])


def downgrade() -> None:
    """Remove them: projects and reviews are lost, pictures are not."""
    tables = ("project_events", "suggestions", "reviews", "share_records", "shares", "job_ties", "project_items")
    for table in (*tables, "projects"):
        op.drop_table(table)
