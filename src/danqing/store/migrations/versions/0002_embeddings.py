"""How mini-CLIP sees the pictures of Records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of embeddings; they are computed when a search needs them."""
    op.create_table(
        "embeddings",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("picture", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("model", "picture", name="pk_embeddings"),
    )
    op.create_index("ix_embeddings_picture", "embeddings", ["picture"])


def downgrade() -> None:
    """Remove it: nothing is lost that cannot be computed again."""
    op.drop_table("embeddings")
