"""Training runs in a database."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from danqing.spec.training_run import RunState, TrainingRun
from danqing.store.database import Database
from danqing.store.tables import JobRow, OwnerRow, TrainingRow
from danqing.store.trainings import KeptRun, TrainerMark, TrainingQuery, TrainingStore, TrainingTable


class SqlTrainings(TrainingStore):
    """Rows with the run's JSON.

    Args:
        database: Migrated before use.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _open(self, *, write: bool) -> Generator[TrainingTable]:
        with self._database.write() if write else self._database.read() as session:
            yield _Rows(session)


class _Rows:
    """See `TrainingTable`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, run_id: str) -> KeptRun | None:
        row = self._session.get(TrainingRow, run_id, with_for_update=True)
        return None if row is None else _kept(row)

    def put(self, kept: KeptRun) -> None:
        run = kept.run
        row = TrainingRow(
            id=run.id,
            state=run.state,
            owner_id=kept.owner,
            trainer_json=None if kept.trainer is None else json.dumps(asdict(kept.trainer)),
            run_json=run.model_dump_json(),
            created_at=run.created_at,
            queued_at=kept.queued_at,
            deleted_at=run.deleted_at,
        )
        self._session.merge(row)

    def remove(self, run_id: str) -> None:
        self._session.delete(self._session.get_one(TrainingRow, run_id))

    def of_state(self, state: RunState) -> Sequence[KeptRun]:
        found = select(TrainingRow).where(TrainingRow.state == state).order_by(TrainingRow.queued_at, TrainingRow.id)
        return [_kept(row) for row in self._session.scalars(found)]

    def search(self, query: TrainingQuery) -> Sequence[KeptRun]:
        found = select(TrainingRow).order_by(TrainingRow.id.desc()).limit(query.limit)
        if query.states is not None:
            found = found.where(TrainingRow.state.in_(query.states))
        if query.before is not None:
            found = found.where(TrainingRow.id < query.before)
        if not query.include_deleted:
            found = found.where(TrainingRow.deleted_at.is_(None))
        return [_kept(row) for row in self._session.scalars(found)]

    def owners(self) -> Collection[str]:
        return set(self._session.scalars(select(OwnerRow.id)))

    def is_painting(self) -> bool:
        held = JobRow.owner_id.in_(select(OwnerRow.id))
        found = exists().where(held, or_(JobRow.state == "running", JobRow.state == "queued"))
        return bool(self._session.scalar(select(found)))


def _kept(row: TrainingRow) -> KeptRun:
    return KeptRun(
        run=TrainingRun.model_validate_json(row.run_json),
        queued_at=row.queued_at,
        owner=row.owner_id,
        trainer=None if row.trainer_json is None else TrainerMark(**json.loads(row.trainer_json)),
    )
