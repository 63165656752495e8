"""Files that are still to be copied to their job's output folder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FINAL = "state IN ('canceled', 'complete', 'failed')"
DUE = "output_due_since IS NOT NULL"


def upgrade() -> None:
    time = sa.DateTime(timezone=True).compile(dialect=op.get_bind().dialect)
    rule = f"CONSTRAINT ck_runs_output_due_since CHECK (output_due_since IS NULL OR {FINAL})"
    op.execute(f"ALTER TABLE runs ADD COLUMN output_due_since {time} {rule}")
    op.create_index("ix_runs_output_due_since", "runs", ["output_due_since"], sqlite_where=sa.text(DUE), postgresql_where=sa.text(DUE))
