"""The database: tables, migrations, and plain functions on a connection, one file a table."""
