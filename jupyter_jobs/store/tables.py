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
)
from sqlalchemy.types import TypeDecorator

from jupyter_jobs.lifecycle import FINAL, JobState, RunState
from jupyter_jobs.model import Finding, KernelInfo, LivePath, RunError

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
    CheckConstraint(_one_of("state", JobState), name="state"),
    CheckConstraint("length(id) = 8", name="id"),
    CheckConstraint("name <> ''", name="name"),
    Index("ix_jobs_created_at_id", "created_at", "id"),
    Index("ix_jobs_name_id", "name", "id"),
    Index("ix_jobs_file", "file"),
    Index("ix_jobs_snapshot", "snapshot"),
    Index("ix_jobs_environment", "environment"),
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
    Column("queued_seq", _WHOLE, nullable=False, comment="the event that queued it last: the queue's order"),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("duration", Float, comment="seconds from started_at to ended_at"),
    Column("cancel_requested_at", UtcTime),
    Column("peak_memory", BigInteger),
    Column("workspace", String(16), nullable=False),
    Column("live", AsJson(list[LivePath]), nullable=False),
    Column("rerun_of", String(24), nullable=False),
    Column("seq", _WHOLE, nullable=False),
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
    Index("ix_runs_job_state", "job", "state"),
    Index("ix_runs_state_queued_seq", "state", "queued_seq", "number"),
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
