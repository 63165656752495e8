"""The engine: files, connections, transactions and the schema's version. The only file that knows which database it is."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from jupyter_jobs.errors import BadInput, Unavailable
from jupyter_jobs.store import integrity, reserve
from jupyter_jobs.store.refusal import refusal, refusal_of_system

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA_VERSION = 3
"""The newest migration. Revisions are named by their number with four digits."""

BUSY_SECONDS = 10.0
"""How long a writer waits for another one before it gives up (`store_busy`)."""
_WRITE_LOCK = 0x6A6F6273  # "jobs"
_WRITES = "jupyter_jobs_write"

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "acfs", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"}
)


def open_store(data_dir: str | Path, db_url: str = "") -> Engine:
    """Open the store below `data_dir` (or at `db_url`), making and migrating it as needed, and return its engine.

    A SQLite file is looked at for damage, when that is due. Raises `Unavailable` (`schema_newer`, `store_corrupt`, `store_busy`, `store_read_only`,
    `no_room`, `store_unreachable`) or `BadInput` (`db_url`).
    """
    engine = unopened(data_dir, db_url)
    try:
        try:
            _make_ready(engine)
        except (DBAPIError, Unavailable) as error:
            # who only reads needs room too, for the files that SQLite keeps beside the store
            cause = error if isinstance(error, DBAPIError) else error.__cause__
            if not isinstance(cause, DBAPIError | sqlite3.Error) or not reserve.give_up_for(engine, cause):
                raise
            _make_ready(engine)
            # they go when the last one closes the store
            event.listen(engine, "engine_disposed", partial(reserve.keep, left=0))
    except DBAPIError as error:
        engine.dispose()
        raise refusal(shown(engine), error) from error
    except BaseException:
        engine.dispose()
        raise
    reserve.keep(engine)
    return engine


def _make_ready(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        integrity.check(Path(str(engine.url.database)))
    bring_up_to_date(engine)


def unopened(data_dir: str | Path, db_url: str = "") -> Engine:
    """The engine of a store that nobody has looked at yet, for those who say what is wrong with it. Raises as `open_store` does."""
    directory = Path(data_dir)
    _private_directory(directory)
    try:
        url = make_url(db_url) if db_url else URL.create("sqlite", database=str(directory / "jobs.sqlite"))
        engine = _sqlite_engine(url) if url.get_backend_name() == "sqlite" else create_engine(url, pool_pre_ping=True)
    except (ArgumentError, ImportError) as error:
        # the URL itself stays unsaid: it may hold a password
        what = f"needs the module {error.name}" if isinstance(error, ImportError) else "is not a SQLAlchemy URL"
        raise BadInput(f"`Jobs.db_url` {what}.", code="db_url", mend="Write it like postgresql+psycopg://user@host/name.") from None
    return engine


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the right to write from its beginning, so that what it reads stays true until it commits."""
    # never `conn.commit()` inside: where that fails SQLite's transaction stays open, and the pool takes it for ended
    with engine.connect().execution_options(**{_WRITES: True}) as conn, conn.begin():
        if engine.dialect.name == "postgresql":
            # one writer at a time: event numbers then become visible in their order
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
        yield conn


def write_in_need(engine: Engine, work: Callable[[Connection], T]) -> T:
    """`work(connection)` in a transaction that may write; once more, from its beginning, in the reserve's place where the disk is full."""
    try:
        with write(engine) as conn:
            return work(conn)
    except DBAPIError as error:
        if not reserve.give_up_for(engine, error):
            raise
    with write(engine) as conn:
        return work(conn)


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the store; it is rolled back."""
    options = {} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    with engine.connect().execution_options(**options) as conn, conn.begin() as transaction:
        yield conn
        transaction.rollback()


def shown(engine: Engine) -> str:
    """The store as messages name it, without a password."""
    url = engine.url
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def schema_version(conn: Connection) -> int:
    """The schema's number in this database; 0 for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return 0
    found = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return int(found) if found else 0


def bring_up_to_date(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction; before that, copy a SQLite store beside itself.

    Raises `Unavailable` (`schema_newer`) when the store is of a newer jupyter_jobs.
    """
    with read(engine) as conn:
        found = schema_version(conn)
    if found == SCHEMA_VERSION:
        return
    if found < SCHEMA_VERSION:
        with write(engine) as conn:
            # another process may have been first
            found = schema_version(conn)
            if found < SCHEMA_VERSION:
                if found:
                    _back_up(engine)
                from jupyter_jobs.store.migrations import upgrade

                upgrade(conn)
                return
    if found > SCHEMA_VERSION:
        raise Unavailable(
            f"The store {shown(engine)} has schema {found}; this jupyter_jobs knows {SCHEMA_VERSION} and older.",
            code="schema_newer",
            mend="Update jupyter_jobs in this environment, or set `Jobs.data_dir` to another folder.",
            found=found,
            known=SCHEMA_VERSION,
        )


def journal_mode_for(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> str:
    """`wal`, or `delete` (a rollback journal) where `path` lies on a network file system, whose hosts share no memory.

    `mounts`: (mount point, file system type), as the system lists them; default: this host's.
    """
    return "delete" if is_network_file_system(file_system_of(path, mounts)) else "wal"


def file_system_of(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> str:
    """The type of the file system where `path` lies or would lie; empty when it is not known."""
    if mounts is None:
        mounts = _mounts()
    place = path.resolve()
    found, depth = "", -1
    for point, kind in mounts:
        mount = Path(point)
        # later entries cover earlier ones at the same place; autofs only stands where something else is mounted
        if kind != "autofs" and place.is_relative_to(mount) and len(mount.parts) >= depth:
            found, depth = kind, len(mount.parts)
    return found


def _mounts() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        import psutil

        return [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    fields = [line.split(" ") for line in lines]
    # blanks and the like are written as octal numbers
    return [(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point), kind) for _, point, kind, *_ in fields]


def is_network_file_system(kind: str) -> bool:
    """Whether a file system type is one that several hosts share; any FUSE one counts, except a local disk's (`fuseblk`)."""
    return kind in NETWORK_FILE_SYSTEMS or kind == "fuse" or kind.startswith("fuse.")


def _private_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_mode & 0o077 and status.st_uid == os.getuid():
            directory.chmod(0o700)
    except OSError as error:
        raise refusal_of_system(directory, error) from error


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise BadInput(
            "`Jobs.db_url` names no file; the store is shared by several processes.", code="db_url", mend="Write sqlite:////folder/jobs.sqlite."
        )
    path = Path(url.database)
    try:
        # made here, so that it and the files that SQLite puts beside it are never readable by others. One that exists must not be opened:
        # closing it would drop the locks that SQLite holds for this process's other connections
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise refusal_of_system(path, error) from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    journal = journal_mode_for(path)

    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # BEGIN is said below, not by the driver
        for pragma in (f"journal_mode = {journal}", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    def begin(conn: Connection) -> None:
        writes = conn.get_execution_options().get(_WRITES, False)
        conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _back_up(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        copy = integrity.back_up(Path(str(engine.url.database)), SCHEMA_VERSION)
        log.info("before it is migrated to schema %d, the store was copied to %s", SCHEMA_VERSION, copy)
    else:
        log.warning("the store %s is migrated to schema %d; its backups are its administrator's", shown(engine), SCHEMA_VERSION)
