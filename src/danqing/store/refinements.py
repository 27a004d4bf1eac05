"""Refinements: what was tried and kept, round by round. In a database, and in memory for tests.

A refinement belongs to the Studio that runs it, by the id of its owner, as a job does. One whose owner is gone can be
found by `orphans`; nobody else writes to it meanwhile.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from danqing.spec.errors import ConflictError
from danqing.spec.refine import Refinement
from danqing.store.base import no_such
from danqing.store.database import Database
from danqing.store.owners import utc_now
from danqing.store.sql_ties import note
from danqing.store.tables import OwnerRow, RefinementRow


@dataclass(frozen=True)
class RefinementQuery:
    """Which refinements; newest first.

    Args:
        project: Only those whose versions join this project.
        before: Only refinements older than this id.
    """

    project: str | None = None
    limit: int = 50
    before: str | None = None


class RefinementStore(ABC):
    """Durable refinements. Every change is told as an event of the project, in the same transaction."""

    @abstractmethod
    def add(self, refinement: Refinement, owner_id: str) -> Refinement:
        """Durable when this returns; gives it with its times."""

    @abstractmethod
    def save(self, refinement: Refinement, owner_id: str) -> Refinement:
        """Keep it as it stands now. NotFoundError; ConflictError if it has ended or another process took it."""

    @abstractmethod
    def change(self, refinement_id: str, **changes: Any) -> Refinement:
        """Change `stopping` or `continued_by`, whoever holds it. NotFoundError."""

    @abstractmethod
    def get(self, refinement_id: str) -> Refinement:
        """NotFoundError if there is none."""

    @abstractmethod
    def newest(self, query: RefinementQuery) -> list[Refinement]:
        """Newest first."""

    @abstractmethod
    def orphans(self) -> list[tuple[Refinement, str]]:
        """Those that run according to their row, but whose owner is gone; with the owner that they had."""


class SqlRefinements(RefinementStore):
    """Rows with the refinement's JSON.

    Args:
        database: Migrated before use.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, refinement: Refinement, owner_id: str) -> Refinement:
        """See `RefinementStore.add`."""
        begun = _dated(refinement)
        with self._database.write() as session:
            row = RefinementRow(
                id=begun.id,
                project_id=begun.project,
                state=begun.state,
                owner_id=owner_id,
                refinement_json=begun.model_dump_json(),
                created_at=begun.created_at,
            )
            session.add(row)
            if begun.project is not None:
                note(session, "refinement", begun.project, record_id=begun.record)
        return begun

    def save(self, refinement: Refinement, owner_id: str) -> Refinement:
        """See `RefinementStore.save`."""
        with self._database.write() as session:
            row = session.get(RefinementRow, refinement.id, with_for_update=True)
            if row is None:
                raise no_such("refinement", refinement.id)
            if row.owner_id != owner_id or row.state != "running":
                raise _taken(refinement.id, row.state)
            saved = _merged(Refinement.model_validate_json(row.refinement_json), refinement)
            row.state, row.refinement_json = saved.state, saved.model_dump_json()
            if row.project_id is not None:
                note(session, "refinement", row.project_id, record_id=saved.best)
        return saved

    def change(self, refinement_id: str, **changes: Any) -> Refinement:
        """See `RefinementStore.change`."""
        with self._database.write() as session:
            row = session.get(RefinementRow, refinement_id, with_for_update=True)
            if row is None:
                raise no_such("refinement", refinement_id)
            changed = Refinement.model_validate_json(row.refinement_json).model_copy(update=changes)
            row.refinement_json = changed.model_dump_json()
            if row.project_id is not None:
                note(session, "refinement", row.project_id, record_id=changed.best)
        return changed

    def get(self, refinement_id: str) -> Refinement:
        """See `RefinementStore.get`."""
        with self._database.read() as session:
            row = session.get(RefinementRow, refinement_id)
            if row is None:
                raise no_such("refinement", refinement_id)
            return Refinement.model_validate_json(row.refinement_json)

    def newest(self, query: RefinementQuery) -> list[Refinement]:
        """See `RefinementStore.newest`."""
        found = select(RefinementRow).order_by(RefinementRow.id.desc()).limit(query.limit)
        if query.project is not None:
            found = found.where(RefinementRow.project_id == query.project)
        if query.before is not None:
            found = found.where(RefinementRow.id < query.before)
        with self._database.read() as session:
            return [Refinement.model_validate_json(row.refinement_json) for row in session.scalars(found)]

    def orphans(self) -> list[tuple[Refinement, str]]:
        """See `RefinementStore.orphans`."""
        living = select(OwnerRow.id)
        found = select(RefinementRow).where(RefinementRow.state == "running", RefinementRow.owner_id.not_in(living))
        with self._database.read() as session:
            rows = session.scalars(found).all()
            return [(Refinement.model_validate_json(row.refinement_json), row.owner_id) for row in rows]


class FakeRefinements(RefinementStore):
    """A dictionary.

    Args:
        lock: The store's own.
        owners: The ids of the Studios that live.
        tell: Notes an event of a project.
    """

    def __init__(self, lock: threading.RLock, owners: Collection[str], tell: Callable[[str, str | None], None]) -> None:
        self._lock = lock
        self._owners = owners
        self._tell = tell
        self._kept: dict[str, tuple[Refinement, str]] = {}

    def add(self, refinement: Refinement, owner_id: str) -> Refinement:
        """See `RefinementStore.add`."""
        return self._put(_dated(refinement), owner_id)

    def save(self, refinement: Refinement, owner_id: str) -> Refinement:
        """See `RefinementStore.save`."""
        with self._lock:
            there, owner = self._row(refinement.id)
            if owner != owner_id or there.state != "running":
                raise _taken(refinement.id, there.state)
            return self._put(_merged(there, refinement), owner)

    def change(self, refinement_id: str, **changes: Any) -> Refinement:
        """See `RefinementStore.change`."""
        with self._lock:
            there, owner = self._row(refinement_id)
            return self._put(there.model_copy(update=changes), owner)

    def get(self, refinement_id: str) -> Refinement:
        """See `RefinementStore.get`."""
        with self._lock:
            return self._row(refinement_id)[0]

    def newest(self, query: RefinementQuery) -> list[Refinement]:
        """See `RefinementStore.newest`."""
        with self._lock:
            found = [self._kept[key][0] for key in sorted(self._kept, reverse=True)]
        wanted = [one for one in found if query.project in (None, one.project)]
        return [one for one in wanted if query.before is None or one.id < query.before][: query.limit]

    def orphans(self) -> list[tuple[Refinement, str]]:
        """See `RefinementStore.orphans`."""
        with self._lock:
            return [
                (one, owner)
                for one, owner in self._kept.values()
                if one.state == "running" and owner not in self._owners
            ]

    def _row(self, refinement_id: str) -> tuple[Refinement, str]:
        if refinement_id not in self._kept:
            raise no_such("refinement", refinement_id)
        return self._kept[refinement_id]

    def _put(self, refinement: Refinement, owner_id: str) -> Refinement:
        with self._lock:
            self._kept[refinement.id] = (refinement, owner_id)
            if refinement.project is not None:
                self._tell(refinement.project, refinement.best or refinement.record)
        return refinement


def _dated(refinement: Refinement) -> Refinement:
    moment = utc_now()
    return refinement.model_copy(update={"created_at": moment, "updated_at": moment})


def _merged(there: Refinement, now: Refinement) -> Refinement:
    """What the runner says, and what others have asked meanwhile."""
    return now.model_copy(
        update={
            "stopping": there.stopping and now.state == "running",
            "continued_by": there.continued_by,
            "updated_at": utc_now(),
        }
    )


def _taken(refinement_id: str, state: str) -> ConflictError:
    return ConflictError(
        "this refinement has ended, or another process took it over",
        value=f"{refinement_id}: {state}",
        next_step="look at its versions, and go on from the best one",
    )
