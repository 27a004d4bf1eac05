"""Training runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from danqing.store.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of training runs."""
    op.create_table(
        "trainings",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text),
        sa.Column("trainer_json", sa.Text),
        sa.Column("run_json", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("queued_at", UtcDateTime, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name="pk_trainings"),
    )
    op.create_index("ix_trainings_state", "trainings", ["state"])


def downgrade() -> None:
    """Remove it; the runs' folders and what they made stay."""
    op.drop_table("trainings")
