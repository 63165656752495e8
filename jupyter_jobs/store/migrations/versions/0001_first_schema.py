"""The first schema: snapshots, environments, jobs, runs, attempts, artifacts, events and the dispatcher's lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dispatcher",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("schema", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_dispatcher_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatcher")),
    )
    op.create_table(
        "environments",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.Text(), nullable=False, comment="model.Environment as JSON"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_environments")),
    )
    op.create_table(
        "events",
        sa.Column("seq", WHOLE, autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("run", sa.String(length=24), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job_seq", "events", ["job", "seq"], unique=False)
    op.create_index("ix_events_run_seq", "events", ["run", "seq"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.CheckConstraint("files >= 0 AND bytes >= 0", name=op.f("ck_snapshots_totals")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("notebook", sa.Text(), nullable=False, comment="relative to project"),
        sa.Column("source", sa.Text(), nullable=False, comment="path as submitted"),
        sa.Column("file", sa.Text(), nullable=False, comment="absolute path of the notebook"),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.String(length=64), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=True),
        sa.Column("kernel", sa.Text(), nullable=False, comment="values of its variables left out"),
        sa.Column("parameter_names", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("record_names", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False, comment="names only"),
        sa.Column("live", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False, comment="jobs.JobSpec as JSON: what a run needs and no list shows"),
        sa.Column("search", sa.Text(), nullable=False, comment="case-folded text that a search looks in"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("seq", WHOLE, nullable=False, comment="the job's or its runs' last event"),
        sa.Column("delete_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("name <> ''", name=op.f("ck_jobs_name")),
        sa.CheckConstraint("state IN ('active', 'archived', 'draft', 'paused')", name=op.f("ck_jobs_state")),
        sa.CheckConstraint("length(id) = 8", name=op.f("ck_jobs_id")),
        sa.ForeignKeyConstraint(["environment"], ["environments.digest"], name=op.f("fk_jobs_environment")),
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.digest"], name=op.f("fk_jobs_snapshot")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_created_at_id", "jobs", ["created_at", "id"], unique=False)
    op.create_index("ix_jobs_environment", "jobs", ["environment"], unique=False)
    op.create_index("ix_jobs_file", "jobs", ["file"], unique=False)
    op.create_index("ix_jobs_name_id", "jobs", ["name", "id"], unique=False)
    op.create_index("ix_jobs_snapshot", "jobs", ["snapshot"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("job", sa.String(length=8), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("combination", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("progress_done", sa.Integer(), nullable=False),
        sa.Column("progress_total", sa.Integer(), nullable=False),
        sa.Column("progress_cell_id", sa.Text(), nullable=False),
        sa.Column("progress_cell_number", sa.Integer(), nullable=False, comment="0: none"),
        sa.Column("records", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queued_seq", WHOLE, nullable=False, comment="the event that queued it last: the queue's order"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration", sa.Float(), nullable=True, comment="seconds from started_at to ended_at"),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("peak_memory", sa.BigInteger(), nullable=True),
        sa.Column("workspace", sa.String(length=16), nullable=False),
        sa.Column("live", sa.Text(), nullable=False),
        sa.Column("rerun_of", sa.String(length=24), nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.CheckConstraint("(ended_at IS NOT NULL) = (state IN ('canceled', 'complete', 'failed'))", name=op.f("ck_runs_ended_at")),
        sa.CheckConstraint("state <> 'complete' OR error IS NULL", name=op.f("ck_runs_complete_error")),
        sa.CheckConstraint("state <> 'created' OR attempt = 0", name=op.f("ck_runs_created_attempt")),
        sa.CheckConstraint("state <> 'failed' OR error IS NOT NULL", name=op.f("ck_runs_failed_error")),
        sa.CheckConstraint("state <> 'running' OR started_at IS NOT NULL", name=op.f("ck_runs_running_started")),
        sa.CheckConstraint("state IN ('canceled', 'complete', 'created', 'failed', 'init', 'queued', 'running')", name=op.f("ck_runs_state")),
        sa.CheckConstraint("state NOT IN ('created', 'queued') OR started_at IS NULL", name=op.f("ck_runs_waiting_not_started")),
        sa.CheckConstraint("state NOT IN ('init', 'running') OR attempt >= 1", name=op.f("ck_runs_active_attempt")),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_runs_attempt")),
        sa.CheckConstraint("duration IS NULL OR (duration >= 0 AND ended_at IS NOT NULL)", name=op.f("ck_runs_duration")),
        sa.CheckConstraint("number >= 1 AND combination >= 1", name=op.f("ck_runs_number")),
        sa.CheckConstraint("progress_done >= 0 AND progress_done <= progress_total", name=op.f("ck_runs_progress")),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_runs_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("job", "number", name=op.f("uq_runs_job_number")),
    )
    op.create_index("ix_runs_job_state", "runs", ["job", "state"], unique=False)
    op.create_index("ix_runs_state_queued_seq", "runs", ["state", "queued_seq", "number"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("run", sa.String(length=24), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('changed', 'created', 'deleted')", name=op.f("ck_artifacts_kind")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_artifacts_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "path", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "attempts",
        sa.Column("run", sa.String(length=24), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True, comment="of the runner; null until it is started"),
        sa.Column("pid_started", sa.BigInteger(), nullable=True, comment="the process's start time, as `backends.processes` counts it"),
        sa.Column("handle", sa.Text(), nullable=False, comment="the backend's own name for it"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=True, comment="how it ended"),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IS NULL OR state IN ('canceled', 'complete', 'failed')", name=op.f("ck_attempts_state")),
        sa.CheckConstraint("(ended_at IS NOT NULL) = (state IS NOT NULL)", name=op.f("ck_attempts_ended_at")),
        sa.CheckConstraint("(pid IS NULL) = (pid_started IS NULL)", name=op.f("ck_attempts_pid")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempts_number")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_attempts_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "number", name=op.f("pk_attempts")),
    )
