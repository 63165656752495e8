"""The tables, as SQLAlchemy Core metadata. The CHECKs repeat `lifecycle.py`, so that no writer of any version can break its rules.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

from jupyter_jobs.lifecycle import ACTIVE, FINAL, JobState, RunState
from jupyter_jobs.model import Finding, KernelInfo, LivePath, RetryPolicy, RunError

JsonObject = dict[str, object]


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AsJson(TypeDecorator[object]):
    """A value of type `kind`, kept as JSON text."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: object) -> None:
        super().__init__()
        self.kind = kind
        self._decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(kind)

    @property
    def _static_cache_key(self) -> tuple[object, ...]:
        return (AsJson, str(self.kind))

    def process_bind_param(self, value: object | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        # msgspec's own encoder writes integers beyond 64 bits as text and NaN as null
        return json.dumps(msgspec.to_builtins(value), allow_nan=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> object | None:
        return None if value is None else self._decoder.decode(value)


def _one_of(column: str, values: type[StrEnum] | frozenset[RunState] | tuple[str, ...]) -> str:
    names = sorted(str(value) for value in values)
    return f"{column} IN ({', '.join(repr(name) for name in names)})"


_RUN_FINAL = _one_of("state", FINAL)
QUEUED_NOW = "state = 'queued' AND not_before IS NULL"
"""Runs whose turn may come. Queries that say it with literal values use the indexes that hold these runs only."""
UNDER_WAY = _one_of("state", ACTIVE)
_OUTPUT_DUE = "output_due_since IS NOT NULL"
_NO = text("false")
_ZERO = text("0")
_WHOLE = BigInteger().with_variant(Integer, "sqlite")
"""SQLite only numbers rows by itself in a column of type INTEGER."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("directory", Text, nullable=False),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("notes", AsJson(list[Finding]), nullable=False),
    CheckConstraint("files >= 0 AND bytes >= 0", name="totals"),
)

environments = Table(
    "environments",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("body", Text, nullable=False, comment="model.Environment as JSON"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(8), primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("notebook", Text, nullable=False, comment="relative to project"),
    Column("source", Text, nullable=False, comment="path as submitted"),
    Column("file", Text, nullable=False, comment="absolute path of the notebook"),
    Column("project", Text, nullable=False),
    Column("snapshot", String(64), ForeignKey("snapshots.digest"), nullable=False),
    Column("environment", String(64), ForeignKey("environments.digest")),
    Column("kernel", AsJson(KernelInfo), nullable=False, comment="values of its variables left out"),
    Column("parameter_names", AsJson(list[str]), nullable=False),
    Column("record", AsJson(list[str]), nullable=False),
    Column("record_names", AsJson(list[str]), nullable=False),
    Column("variables", AsJson(list[str]), nullable=False, comment="names only"),
    Column("live", AsJson(list[LivePath]), nullable=False),
    Column("notes", AsJson(list[Finding]), nullable=False),
    Column("spec", Text, nullable=False, comment="jobs.JobSpec as JSON: what a run needs and no list shows"),
    Column("search", Text, nullable=False, comment="case-folded text that a search looks in"),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("seq", _WHOLE, nullable=False, comment="the job's or its runs' last event"),
    Column("delete_requested_at", UtcTime),
    Column("priority", Integer, nullable=False, server_default=_ZERO),
    Column("max_parallel", Integer, nullable=False, server_default=_ZERO, comment="0: no limit of its own"),
    Column("fail_fast", Boolean, nullable=False, server_default=_NO),
    Column("retries", AsJson(RetryPolicy), comment="null: the default policy"),
    Column("time_limit", Float, comment="seconds of a run"),
    Column("cell_timeout", Float, comment="seconds of a cell"),
    Column("peak_memory", BigInteger, comment="the largest of any of its runs"),
    CheckConstraint("priority >= -100 AND priority <= 100", name="priority"),
    CheckConstraint("max_parallel >= 0", name="max_parallel"),
    CheckConstraint("time_limit > 0", name="time_limit"),
    CheckConstraint("cell_timeout > 0", name="cell_timeout"),
    CheckConstraint(_one_of("state", JobState), name="state"),
    CheckConstraint("length(id) = 8", name="id"),
    CheckConstraint("name <> ''", name="name"),
    Index("ix_jobs_created_at_id", "created_at", "id"),
    Index("ix_jobs_name_id", "name", "id"),
    Index("ix_jobs_file", "file"),
    Index("ix_jobs_snapshot", "snapshot"),
    Index("ix_jobs_environment", "environment"),
    # partial on PostgreSQL too, as the migrations say; naming that here would import its dialect into every process that uses the store
    Index("ix_jobs_max_parallel", "id", sqlite_where=text("max_parallel > 0")),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(24), primary_key=True),
    Column("job", String(8), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("combination", Integer, nullable=False),
    Column("parameters", AsJson(JsonObject), nullable=False),
    Column("label", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("progress_done", Integer, nullable=False),
    Column("progress_total", Integer, nullable=False),
    Column("progress_cell_id", Text, nullable=False),
    Column("progress_cell_number", Integer, nullable=False, comment="0: none"),
    Column("records", AsJson(JsonObject), nullable=False),
    Column("error", AsJson(RunError)),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("duration", Float, comment="seconds from started_at to ended_at"),
    Column("cancel_requested_at", UtcTime),
    Column("peak_memory", BigInteger),
    Column("workspace", String(16), nullable=False),
    Column("live", AsJson(list[LivePath]), nullable=False),
    Column("rerun_of", String(24), nullable=False),
    Column("seq", _WHOLE, nullable=False),
    Column("rank", Integer, nullable=False, server_default=_ZERO, comment="the job's priority, negated; of runs that wait"),
    Column("position", BigInteger, nullable=False, server_default=_ZERO, comment="in the queue, among runs of the same rank"),
    Column("gated", Boolean, nullable=False, server_default=_NO, comment="its job is to be asked too: it has a limit of its own, or is not active"),
    Column("not_before", UtcTime),
    Column("retried", Integer, nullable=False, server_default=_ZERO, comment="attempts that failed and were followed by another"),
    Column("extended", Float, nullable=False, server_default=_ZERO, comment="seconds on top of the job's time limit, of this attempt"),
    Column("superseded", Boolean, nullable=False, server_default=_NO, comment="a later run of the combination stands for it"),
    Column("output_due_since", UtcTime, comment="its files are still to be copied to the job's output folder"),
    CheckConstraint("not_before IS NULL OR state = 'queued'", name="not_before"),
    CheckConstraint("retried >= 0 AND retried <= attempt", name="retried"),
    CheckConstraint("extended >= 0 AND (extended = 0 OR state NOT IN ('created', 'queued'))", name="extended"),
    CheckConstraint(f"NOT superseded OR {_RUN_FINAL}", name="superseded"),
    CheckConstraint(f"output_due_since IS NULL OR {_RUN_FINAL}", name="output_due_since"),
    UniqueConstraint("job", "number"),
    CheckConstraint(_one_of("state", RunState), name="state"),
    CheckConstraint("number >= 1 AND combination >= 1", name="number"),
    CheckConstraint("attempt >= 0", name="attempt"),
    CheckConstraint(f"(ended_at IS NOT NULL) = ({_RUN_FINAL})", name="ended_at"),
    CheckConstraint("state NOT IN ('created', 'queued') OR started_at IS NULL", name="waiting_not_started"),
    CheckConstraint("state <> 'running' OR started_at IS NOT NULL", name="running_started"),
    CheckConstraint("state NOT IN ('init', 'running') OR attempt >= 1", name="active_attempt"),
    CheckConstraint("state <> 'created' OR attempt = 0", name="created_attempt"),
    CheckConstraint("state <> 'failed' OR error IS NOT NULL", name="failed_error"),
    CheckConstraint("state <> 'complete' OR error IS NULL", name="complete_error"),
    CheckConstraint("progress_done >= 0 AND progress_done <= progress_total", name="progress"),
    CheckConstraint("duration IS NULL OR (duration >= 0 AND ended_at IS NOT NULL)", name="duration"),
    Index("ix_runs_job_state", "job", "state", "superseded"),
    Index("ix_runs_job_combination", "job", "combination"),
    Index("ix_runs_queue", "gated", "rank", "position", sqlite_where=text(QUEUED_NOW)),
    Index("ix_runs_queue_of_job", "job", "position", sqlite_where=text(QUEUED_NOW)),
    Index("ix_runs_not_before", "not_before", sqlite_where=text("not_before IS NOT NULL")),
    Index("ix_runs_active", "job", sqlite_where=text(UNDER_WAY)),
    Index("ix_runs_output_due_since", "output_due_since", sqlite_where=text(_OUTPUT_DUE)),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run", String(24), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, comment="of the runner; null until it is started"),
    Column("pid_started", BigInteger, comment="the process's start time, as `backends.processes` counts it"),
    Column("handle", Text, nullable=False, comment="the backend's own name for it"),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("state", String(16), comment="how it ended"),
    Column("exit_code", Integer),
    Column("error", AsJson(RunError)),
    PrimaryKeyConstraint("run", "number"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint(f"state IS NULL OR {_RUN_FINAL}", name="state"),
    CheckConstraint("(ended_at IS NOT NULL) = (state IS NOT NULL)", name="ended_at"),
    CheckConstraint("(pid IS NULL) = (pid_started IS NULL)", name="pid"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("run", String(24), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("media_type", Text, nullable=False),
    PrimaryKeyConstraint("run", "path"),
    CheckConstraint(_one_of("kind", ("created", "changed", "deleted")), name="kind"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _WHOLE, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(32), nullable=False),
    # no foreign key: what says that a job was deleted stays
    Column("job", String(8), nullable=False),
    Column("run", String(24), nullable=False),
    Column("state", String(16), nullable=False),
    Column("data", AsJson(JsonObject), nullable=False),
    Index("ix_events_job_seq", "job", "seq"),
    Index("ix_events_run_seq", "run", "seq"),
    # a deleted event's number is never given again
    sqlite_autoincrement=True,
)

dispatcher = Table(
    "dispatcher",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", BigInteger, nullable=False),
    Column("version", Text, nullable=False),
    Column("schema", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    CheckConstraint("id = 1", name="single"),
)

pause = Table(
    "pause",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("by", Text, nullable=False),
    CheckConstraint("id = 1", name="single"),
    comment="holds its row while the queue is paused",
)
