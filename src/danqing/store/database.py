"""One database: connections, transactions, migrations. SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from danqing.spec.errors import BadFileError, ConflictError, DanqingError, InvalidRequestError

HEAD = "0006"  # the newest migration; a test holds it to the files
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 30
_MIGRATION_LOCK = 0x64616E71  # "danq": PostgreSQL's advisory lock while migrating


class Database:
    """An engine with our rules on it: short transactions, writers one after the other, foreign keys on.

    Args:
        url: SQLAlchemy URL, or None for SQLite at `path`.
        path: The SQLite file used when there is no URL.

    Raises:
        InvalidRequestError: The URL cannot be used.
    """

    def __init__(self, url: str | None, path: Path) -> None:
        try:
            parsed = make_url(url) if url else URL.create("sqlite", database=str(path))
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            if self.is_sqlite:
                _file_of(parsed).parent.mkdir(parents=True, exist_ok=True)
            self.engine = _make_engine(parsed, is_sqlite=self.is_sqlite)
        except (ArgumentError, ModuleNotFoundError) as error:
            raise InvalidRequestError(
                f"the database URL cannot be used: {error}",
                field="database_url",
                allowed="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
                next_step="correct DANQING_DATABASE_URL; for PostgreSQL also `pip install psycopg[binary]`",
            ) from error
        self.place = parsed.render_as_string(hide_password=True)
        self._write_lock = threading.Lock()

    @contextmanager
    def read(self) -> Generator[Session]:
        """A transaction that changes nothing."""
        with self._explained(), Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Generator[Session]:
        """A transaction that is on the disk when the block is left, or not at all when it raises.

        The lock spares the threads of this process SQLite's unfair waiting; other processes wait in SQLite.
        """
        lock = self._write_lock if self.is_sqlite else nullcontext()
        writer = self.engine.execution_options(danqing_write=True)
        with self._explained(), lock, Session(writer, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the tables to this version; does nothing, and imports nothing, when they are there already.

        Raises:
            ConflictError: A newer Danqing made this database.
            BadFileError: The file is no SQLite database.
        """
        with self._explained():
            if self._revision() == HEAD:
                return
            with self.engine.connect().execution_options(danqing_write=True) as connection, connection.begin():
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                self._upgrade(connection)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _revision(self) -> str | None:
        with self.engine.connect() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConflictError(
                f"a newer Danqing made this database: {error}",
                value=self.place,
                allowed=f"schema {HEAD} or older",
                next_step="update Danqing, or start with another data folder",
            ) from error

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Turn the database's own errors into ours."""
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig)
            if "not a database" in reason or "malformed" in reason:
                raise BadFileError(
                    f"the database file is damaged: {reason}",
                    value=self.place,
                    next_step="restore it from a backup, or move it away and start anew: the pictures stay in blobs/",
                ) from error
            raise DanqingError(
                f"the database does not answer: {reason}",
                value=self.place,
                next_step="check that the disk is not full and the folder can be written, then try again",
            ) from error
        except SQLAlchemyError as error:
            raise DanqingError(f"the database does not answer: {error}", value=self.place) from error


def _file_of(url: URL) -> Path:
    if url.database in (None, "", ":memory:"):
        raise ArgumentError("a SQLite database must be a file, or the jobs would not be durable")
    return Path(url.database)


def _make_engine(url: URL, *, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, pool_size=8, max_overflow=56
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """WAL: readers never wait for the writer. FULL: a committed job survives a power cut, for one fsync a commit."""
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: a reader that turns into a writer halfway fails without waiting."""
    write = connection.get_execution_options().get("danqing_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
