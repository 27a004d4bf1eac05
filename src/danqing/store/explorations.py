"""Comparisons that were begun: which job paints which place. In a database, and in memory for tests."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from sqlalchemy import select

from danqing.spec.explore import Exploration
from danqing.store.base import no_such
from danqing.store.database import Database
from danqing.store.tables import ExplorationRow


class ExplorationStore(ABC):
    """Durable comparisons; they are added once and never change."""

    @abstractmethod
    def add(self, exploration: Exploration) -> None:
        """Durable when this returns."""

    @abstractmethod
    def get(self, exploration_id: str) -> Exploration:
        """NotFoundError if there is none."""

    @abstractmethod
    def newest(self, limit: int) -> list[Exploration]:
        """Newest first."""


class SqlExplorations(ExplorationStore):
    """Rows with the comparison's JSON.

    Args:
        database: Migrated before use.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, exploration: Exploration) -> None:
        """See `ExplorationStore.add`."""
        row = ExplorationRow(
            id=exploration.id, exploration_json=exploration.model_dump_json(), created_at=exploration.created_at
        )
        with self._database.write() as session:
            session.add(row)

    def get(self, exploration_id: str) -> Exploration:
        """See `ExplorationStore.get`."""
        with self._database.read() as session:
            row = session.get(ExplorationRow, exploration_id)
            if row is None:
                raise no_such("comparison", exploration_id)
            return Exploration.model_validate_json(row.exploration_json)

    def newest(self, limit: int) -> list[Exploration]:
        """See `ExplorationStore.newest`."""
        query = select(ExplorationRow).order_by(ExplorationRow.id.desc()).limit(limit)
        with self._database.read() as session:
            return [Exploration.model_validate_json(row.exploration_json) for row in session.scalars(query)]


class FakeExplorations(ExplorationStore):
    """A dictionary.

    Args:
        lock: The store's own.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._kept: dict[str, Exploration] = {}

    def add(self, exploration: Exploration) -> None:
        """See `ExplorationStore.add`."""
        with self._lock:
            self._kept[exploration.id] = exploration

    def get(self, exploration_id: str) -> Exploration:
        """See `ExplorationStore.get`."""
        with self._lock:
            if exploration_id not in self._kept:
                raise no_such("comparison", exploration_id)
            return self._kept[exploration_id]

    def newest(self, limit: int) -> list[Exploration]:
        """See `ExplorationStore.newest`."""
        with self._lock:
            return [self._kept[key] for key in sorted(self._kept, reverse=True)[:limit]]
