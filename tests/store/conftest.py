"""A store for each test: SQLite, and PostgreSQL too where `JUPYTER_JOBS_TEST_DB_URL` names a database that tests may fill and empty."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from jupyter_jobs.store.database import open_store

POSTGRESQL = os.environ.get("JUPYTER_JOBS_TEST_DB_URL", "")


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRESQL else ["sqlite"])
def db_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database; empty for the default one."""
    if request.param == "sqlite":
        yield ""
        return
    schema = f"test_{secrets.token_hex(6)}"
    admin = create_engine(POSTGRESQL)
    with admin.begin() as conn:
        conn.execute(text(f"CREATE SCHEMA {schema}"))
    yield make_url(POSTGRESQL).update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with admin.begin() as conn:
        conn.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    admin.dispose()


@pytest.fixture
def engine(tmp_path: Path, db_url: str) -> Iterator[Engine]:
    engine = open_store(tmp_path / "jobs", db_url)
    yield engine
    engine.dispose()
