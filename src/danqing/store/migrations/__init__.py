"""Alembic migrations, one file each; run by `Database.migrate`."""
