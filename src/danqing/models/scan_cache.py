"""What earlier scans found, in SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from danqing.models.identity import rules_stamp
from danqing.spec.files import FileIdentity

_SCHEMA = "CREATE TABLE IF NOT EXISTS scanned (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, found BLOB NOT NULL)"
_BUSY_S = 5.0


@dataclass(frozen=True)
class Seen:
    """What looking into a file gave.

    Attributes:
        problem: Why it cannot be read; then there is no identity.
        alias: Its trainer's name for it.
        hashes: Those that its own metadata says.
    """

    identity: FileIdentity | None = None
    problem: str = ""
    alias: str = ""
    trigger_words: tuple[str, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict[str, str])


class ScanCache:
    """Path and stamp → what was seen. Use as a context manager; a cache that cannot be used is as good as none.

    Args:
        store: The SQLite file, or None for nothing remembered.
    """

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._rules = rules_stamp()
        self._known: dict[str, tuple[str, bytes]] = {}
        self._new: list[tuple[str, str, bytes]] = []

    def __enter__(self) -> Self:
        if self._store is not None and self._store.is_file():
            with suppress(sqlite3.Error), self._connection() as connection:
                connection.execute(_SCHEMA)
                rows = connection.execute("SELECT path, stamp, found FROM scanned")
                self._known = {path: (stamp, found) for path, stamp, found in rows}
                connection.close()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is new, also after an exception: what was looked at stays known."""
        if self._store is None or not self._new:
            return
        with suppress(sqlite3.Error, OSError):
            self._store.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute(_SCHEMA)
                connection.executemany("INSERT OR REPLACE INTO scanned VALUES (?, ?, ?)", self._new)
            connection.close()

    def get(self, path: str, stamp: str) -> Seen | None:
        """What was seen of this very state of a file."""
        known = self._known.get(path)
        if known is None or known[0] != f"{self._rules}|{stamp}":
            return None
        try:
            problem, alias, words, hashes, identity = orjson.loads(known[1])
            found = None if identity is None else FileIdentity.model_validate_json(identity)
        except (ValueError, TypeError):
            return None
        return Seen(found, problem, alias, tuple(words), hashes)

    def put(self, path: str, stamp: str, seen: Seen) -> None:
        """Remember what was seen; written when the scan ends."""
        identity = None if seen.identity is None else seen.identity.model_dump_json(exclude_defaults=True)
        found: list[Any] = [seen.problem, seen.alias, seen.trigger_words, seen.hashes, identity]
        with suppress(orjson.JSONEncodeError):  # a name with lone surrogates: looked at again next time
            self._new.append((path, f"{self._rules}|{stamp}", orjson.dumps(found)))

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(str(self._store), timeout=_BUSY_S)
