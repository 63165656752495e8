"""For `alembic` on a command line, while a migration is written; jupyter_jobs itself runs `migrations.upgrade`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from jupyter_jobs.store.tables import metadata

url = context.get_x_argument(as_dictionary=True).get("url", "sqlite://")
with create_engine(url).connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()
