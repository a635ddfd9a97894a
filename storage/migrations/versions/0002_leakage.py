"""Each image's part of the split, and the groups that the parts share, beside a dataset."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lmf_datasets", sa.Column("parts", sa.Text(), nullable=True))
    op.add_column("lmf_datasets", sa.Column("leakage", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("lmf_datasets", "leakage")
    op.drop_column("lmf_datasets", "parts")
