"""Comparisons along up to three axes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of comparisons."""
    op.create_table(
        "explorations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("exploration_json", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_explorations"),
    )


def downgrade() -> None:
    """Remove it; the pictures stay in the gallery."""
    op.drop_table("explorations")
