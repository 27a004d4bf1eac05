from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from danqing.spec.errors import BadFileError, ConflictError, DanqingError, InvalidRequestError
from danqing.store.database import HEAD, MIGRATIONS, Database
from danqing.store.tables import Base


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "danqing.db"


def test_migrations_make_exactly_the_tables(path: Path):
    database = Database(None, path)
    database.migrate()
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_the_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_settings_of_sqlite(path: Path):
    database = Database(None, path)
    database.migrate()
    with database.engine.connect() as connection:
        pragmas = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in PRAGMAS}
    assert pragmas == PRAGMAS
    database.close()


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_a_failed_transaction_leaves_nothing(path: Path):
    database = Database(None, path)
    database.migrate()
    upload = "INSERT INTO uploads VALUES ('a', '', '', 1, 1, '2026-01-01')"

    def fail() -> None:
        with database.write() as session:
            session.execute(text(upload))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.write() as session:
        session.execute(text(upload))
    with pytest.raises(DanqingError) as caught, database.write() as session:
        session.execute(text(upload))
    assert isinstance(caught.value.__cause__, IntegrityError)
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM uploads")).scalar() == 1
    database.close()


def test_a_newer_database_is_refused(path: Path):
    database = Database(None, path)
    database.migrate()
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConflictError, match="newer Danqing"):
        database.migrate()
    database.close()


def test_a_file_that_is_no_database(path: Path):
    path.write_bytes(b"this is a shopping list, not a database" * 100)
    database = Database(None, path)
    with pytest.raises(BadFileError, match="damaged"):
        database.migrate()
    database.close()


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "postgresql+nodriver://x/y", "mysql+none://"]
)
def test_urls_that_cannot_be_used(path: Path, url: str):
    with pytest.raises(InvalidRequestError, match="database"):
        Database(url, path)


def test_a_password_is_not_shown(path: Path):
    with pytest.raises(InvalidRequestError) as caught:
        Database(f"sqlite://user:secret@/{path}", path)
    assert "secret" not in str(caught.value)


def test_four_processes_open_a_new_folder_at_once(path: Path):
    code = (
        "import sys; from pathlib import Path; from danqing.store.database import Database\n"
        "d = Database(None, Path(sys.argv[1])); d.migrate()\n"
        "with d.read() as s: print('ok')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (out.strip(), process.returncode) == (b"ok", 0), err.decode()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    connection.close()


def test_the_tables_can_be_made_in_postgresql():
    engine = create_engine("sqlite://")
    from sqlalchemy.dialects import postgresql

    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))
    engine.dispose()


def test_a_database_of_the_first_version_is_brought_up(path: Path):
    database = Database(None, path)
    database.migrate()
    with database.write() as session:  # as version 0001 left it
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in {"owners", "jobs", "records", "uploads"}:
                session.execute(text(f"DROP TABLE {table.name}"))
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        session.execute(text("INSERT INTO uploads VALUES ('a', '', '', 1, 1, '2026-01-01')"))
    database.close()
    again = Database(None, path)
    again.migrate()
    with again.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 1
        assert connection.execute(text("SELECT count(*) FROM embeddings")).scalar() == 0
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    again.close()
