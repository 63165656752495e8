"""The queue: priorities, limits of a job, retries, re-runs, and a pause.

Columns are added one by one, each with its CHECK: SQLite would have to make the table again for anything else, and dropping the old one would
delete what refers to it.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FINAL = "state IN ('canceled', 'complete', 'failed')"
QUEUED_NOW = "state = 'queued' AND not_before IS NULL"
GAP = 1 << 12
SPAN = 1 << 30

JOB_COLUMNS = (
    ("priority", "INTEGER NOT NULL DEFAULT 0", "priority >= -100 AND priority <= 100"),
    ("max_parallel", "INTEGER NOT NULL DEFAULT 0", "max_parallel >= 0"),
    ("fail_fast", "BOOLEAN NOT NULL DEFAULT false", ""),
    ("retries", "TEXT", ""),
    ("time_limit", "FLOAT", "time_limit > 0"),
    ("cell_timeout", "FLOAT", "cell_timeout > 0"),
    ("peak_memory", "BIGINT", ""),
)
RUN_COLUMNS = (
    ("rank", "INTEGER NOT NULL DEFAULT 0", ""),
    ("position", "BIGINT NOT NULL DEFAULT 0", ""),
    ("gated", "BOOLEAN NOT NULL DEFAULT false", ""),
    ("not_before", "{time}", "not_before IS NULL OR state = 'queued'"),
    ("retried", "INTEGER NOT NULL DEFAULT 0", "retried >= 0 AND retried <= attempt"),
    ("extended", "FLOAT NOT NULL DEFAULT 0", "extended >= 0 AND (extended = 0 OR state NOT IN ('created', 'queued'))"),
    ("superseded", "BOOLEAN NOT NULL DEFAULT false", f"NOT superseded OR {FINAL}"),
)


def upgrade() -> None:
    bind = op.get_bind()
    time = sa.DateTime(timezone=True).compile(dialect=bind.dialect)
    for table, columns in (("jobs", JOB_COLUMNS), ("runs", RUN_COLUMNS)):
        for name, kind, check in columns:
            rule = f" CONSTRAINT ck_{table}_{name} CHECK ({check})" if check else ""
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind.format(time=time)}{rule}")
    op.execute(f"UPDATE runs SET position = queued_seq * {SPAN} + number * {GAP}")
    op.execute("UPDATE runs SET gated = true WHERE job IN (SELECT id FROM jobs WHERE state <> 'active')")
    op.execute("UPDATE jobs SET peak_memory = (SELECT max(runs.peak_memory) FROM runs WHERE runs.job = jobs.id)")
    _take_limits_out_of_spec(bind)
    op.drop_index("ix_runs_state_queued_seq", "runs")
    op.drop_index("ix_runs_job_state", "runs")
    op.drop_column("runs", "queued_seq")
    _index("ix_runs_job_state", "runs", ["job", "state", "superseded"])
    _index("ix_runs_job_combination", "runs", ["job", "combination"])
    _index("ix_runs_queue", "runs", ["gated", "rank", "position"], QUEUED_NOW)
    _index("ix_runs_queue_of_job", "runs", ["job", "position"], QUEUED_NOW)
    _index("ix_runs_not_before", "runs", ["not_before"], "not_before IS NOT NULL")
    _index("ix_runs_active", "runs", ["job"], "state IN ('init', 'running')")
    _index("ix_jobs_max_parallel", "jobs", ["id"], "max_parallel > 0")
    op.create_table(
        "pause",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_pause_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pause")),
        comment="holds its row while the queue is paused",
    )


def _take_limits_out_of_spec(bind: sa.Connection) -> None:
    jobs = sa.table("jobs", sa.column("id"), sa.column("spec"), sa.column("time_limit"), sa.column("cell_timeout"))
    for job, text in bind.execute(sa.select(jobs.c.id, jobs.c.spec)).all():
        spec = json.loads(text)
        limits = {name: spec.pop(name) for name in ("time_limit", "cell_timeout") if spec.get(name) is not None}
        if limits:
            bind.execute(sa.update(jobs).where(jobs.c.id == job).values(limits))


def _index(name: str, table: str, columns: list[str], where: str = "") -> None:
    only = sa.text(where) if where else None
    op.create_index(name, table, columns, unique=False, sqlite_where=only, postgresql_where=only)
