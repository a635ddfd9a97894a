"""Whether a study may be worked on: open, paused or cancelled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lmf_studies", sa.Column("state", sa.String(16), nullable=False, server_default="open"))


def downgrade() -> None:
    op.drop_column("lmf_studies", "state")
