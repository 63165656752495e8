"""Numbered migrations, run by Alembic inside a transaction of the caller's."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection


def upgrade(conn: Connection, revision: str = "head") -> None:
    """Bring the schema of `conn`'s database to `revision`; the caller commits."""
    # Alembic is only imported when there is something to migrate
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, scripts, fn=lambda current, _context: scripts._upgrade_revs(revision, current)) as environment:
        # SQLite's schema changes are transactional; Alembic does not count on it by itself
        environment.configure(connection=conn, transactional_ddl=True)
        environment.run_migrations()
