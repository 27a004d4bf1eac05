"""Refinements, so that they survive the server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from danqing.store.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of refinements."""
    op.create_table(
        "refinements",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("refinement_json", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refinements"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_refinements_project_id_projects", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_refinements_project_id", "refinements", ["project_id"])
    op.create_index("ix_refinements_state", "refinements", ["state"])


def downgrade() -> None:
    """Remove it; accepted versions stay in the gallery."""
    op.drop_table("refinements")
