"""Training runs: which wait, who runs which, what somebody asked of them. `sql_trainings.py` keeps them in a database.

All rules stand here, once: the database and the fake only find, put and remove. A run belongs to the Studio whose
trainer process works on it, by the id of its owner, as a job does.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from danqing.spec.errors import ConflictError
from danqing.spec.training_run import RUN_FINAL_STATES, RunState, TrainingRun
from danqing.store.base import no_such
from danqing.store.owners import utc_now

Wish = Literal["pause", "cancel"]
ANY_DEVICE = "auto"
RESUMABLE: frozenset[RunState] = frozenset({"paused", "failed", "cancelled"})


@dataclass(frozen=True)
class TrainingQuery:
    """Which runs; newest first.

    Args:
        states: Only these; all for None.
        before: Only runs older than this id.
    """

    states: Collection[RunState] | None = None
    limit: int = 50
    before: str | None = None
    include_deleted: bool = False


@dataclass(frozen=True)
class TrainerMark:
    """A trainer process, so that another Studio can find it: `host` is the space in which `pid` means something."""

    host: str
    pid: int
    started: str


@dataclass(frozen=True)
class KeptRun:
    """A run as it is kept.

    Attributes:
        owner: The Studio that runs it.
        trainer: Its process.
        queued_at: Since when it waits; the order of the queue.
    """

    run: TrainingRun
    queued_at: datetime
    owner: str | None = None
    trainer: TrainerMark | None = None


class TrainingTable(Protocol):
    """What the rules need of a table, inside one transaction."""

    def find(self, run_id: str) -> KeptRun | None:
        """A row, locked until the transaction ends."""
        ...

    def put(self, kept: KeptRun) -> None:
        """Insert or replace."""
        ...

    def remove(self, run_id: str) -> None:
        """For good."""
        ...

    def of_state(self, state: RunState) -> Sequence[KeptRun]:
        """Rows of a state, also deleted ones, in the order of the queue."""
        ...

    def search(self, query: TrainingQuery) -> Sequence[KeptRun]:
        """See `TrainingQuery`."""
        ...

    def owners(self) -> Collection[str]:
        """The ids of the Studios that live."""
        ...

    def is_painting(self) -> bool:
        """Whether a job runs, or waits at a Studio that lives."""
        ...


class TrainingStore(ABC):
    """Durable training runs."""

    @abstractmethod
    def _open(self, *, write: bool) -> AbstractContextManager[TrainingTable]:
        """A transaction."""

    def add(self, run: TrainingRun) -> None:
        """Durable when this returns."""
        with self._open(write=True) as table:
            table.put(KeptRun(run, queued_at=run.created_at))

    def get(self, run_id: str) -> TrainingRun:
        """NotFoundError if there is none."""
        with self._open(write=False) as table:
            return _of(table, run_id).run

    def list(self, query: TrainingQuery) -> list[TrainingRun]:
        """Newest first."""
        with self._open(write=False) as table:
            return [kept.run for kept in table.search(query)]

    def waiting(self) -> list[str]:
        """The queue, the next one first."""
        with self._open(write=False) as table:
            return [kept.run.id for kept in _queue(table)]

    def is_painting(self) -> bool:
        """Whether pictures are painted now, or will be at once."""
        with self._open(write=False) as table:
            return table.is_painting()

    # --- asked by a person ------------------------------------------------------------------------------------------
    def ask(self, run_id: str, wish: Wish) -> TrainingRun:
        """Have it paused or cancelled: at once where nothing runs, else its owner sees the wish.

        NotFoundError; ConflictError where it makes no sense.
        """
        with self._changing(run_id) as (kept, put):
            run = kept.run
            if run.state == "running":
                return put(kept, asked="cancel" if "cancel" in (wish, run.asked) else "pause")
            if run.state == "queued" and wish == "pause":
                return put(kept, state="paused")
            if run.state in ("queued", "paused") and wish == "cancel":
                return put(kept, state="cancelled", finished_at=utc_now())
            raise _not_now(run, "running or queued" if wish == "pause" else "running, queued or paused")

    def resume(self, run_id: str) -> TrainingRun:
        """Put a run that rests or ended early at the end of the queue. NotFoundError; ConflictError."""
        with self._changing(run_id) as (kept, put):
            if kept.run.state not in RESUMABLE or kept.run.deleted_at is not None:
                raise _not_now(kept.run, "paused, failed or cancelled")
            fresh = replace(kept, queued_at=utc_now(), trainer=None)
            return put(fresh, state="queued", attempts=0, error=None, finished_at=None, note="", asked=None)

    def delete(self, run_id: str, deleted_at: datetime | None) -> TrainingRun:
        """Mark as deleted, or restore with None. NotFoundError; ConflictError if it runs, or nothing would change."""
        with self._changing(run_id) as (kept, put):
            run = kept.run
            if deleted_at is not None and run.state == "running":
                raise _not_now(run, "any state but running", "cancel it first")
            if (run.deleted_at is None) == (deleted_at is None):
                raise ConflictError(
                    f"the run is {'not deleted' if deleted_at is None else 'deleted already'}",
                    value=run_id,
                    next_step="reload the list",
                )
            resting = "paused" if run.state == "queued" else run.state
            return put(kept, deleted_at=deleted_at, state=resting)

    def published(self, run_id: str, product: str | None, files: Sequence[str]) -> TrainingRun:
        """Say where its product is now. NotFoundError."""
        with self._changing(run_id) as (kept, put):
            return put(kept, product=product, published=tuple(files))

    # --- by the Studio that runs it ---------------------------------------------------------------------------------
    def claim(self, owner_id: str, devices: Sequence[str]) -> TrainingRun | None:
        """Take the first run of the queue onto a device on which nothing is trained; None if there is none."""
        with self._open(write=True) as table:
            taken = {kept.run.device for kept in table.of_state("running")}
            free = [one for one in devices if not taken or (one not in taken and not {one, *taken} & {ANY_DEVICE})]
            queue = _queue(table)
            if not free or not queue:
                return None
            kept = queue[0]
            changes = {
                "state": "running",
                "stage": "starting",
                "note": "",
                "asked": None,
                "device": free[0],
                "attempts": kept.run.attempts + 1,
                "started_at": kept.run.started_at or utc_now(),
            }
            run = kept.run.model_copy(update=changes)
            table.put(replace(kept, run=run, owner=owner_id))
            return run

    def save(self, run: TrainingRun, owner_id: str) -> TrainingRun:
        """Keep it as it stands now; any state but `running` lets go of it. What others asked stays as it is there.

        NotFoundError; ConflictError if another Studio has it by now.
        """
        with self._changing(run.id) as (kept, put):
            _check_owner(kept, owner_id)
            held = run.state == "running"
            now = replace(kept, run=run, owner=owner_id if held else None, trainer=kept.trainer if held else None)
            there = kept.run
            stage = run.stage if held else ""
            asked = there.asked if held else None
            finished = utc_now() if run.state in RUN_FINAL_STATES else None
            return put(now, asked=asked, deleted_at=there.deleted_at, finished_at=finished, stage=stage)

    def mark_trainer(self, run_id: str, owner_id: str, trainer: TrainerMark | None) -> None:
        """Remember its process. NotFoundError; ConflictError if another Studio has it."""
        with self._changing(run_id) as (kept, put):
            _check_owner(kept, owner_id)
            put(replace(kept, trainer=trainer))

    def orphans(self) -> list[KeptRun]:
        """Those that run according to their row, but whose Studio is gone."""
        with self._open(write=False) as table:
            owners = table.owners()
            return [kept for kept in table.of_state("running") if kept.owner not in owners]

    def free(self, orphan: KeptRun, changed: TrainingRun) -> bool:
        """Let go of an orphan; False if somebody else did meanwhile."""
        with self._open(write=True) as table:
            kept = table.find(orphan.run.id)
            if kept is None or kept.owner != orphan.owner or kept.run.state != "running":
                return False
            run = changed.model_copy(update={"asked": None, "stage": ""})
            table.put(replace(kept, run=run, owner=None, trainer=None))
            return True

    def forget(self, before: datetime) -> list[TrainingRun]:
        """Remove what was deleted or cancelled before a time; gives it, so that its folder can be removed."""
        everything = TrainingQuery(limit=10_000, include_deleted=True)
        with self._open(write=True) as table:
            gone = [kept.run for kept in table.search(everything) if _is_over(kept.run, before)]
            for run in gone:
                table.remove(run.id)
            return gone

    @contextmanager
    def _changing(self, run_id: str) -> Generator[tuple[KeptRun, Callable[..., TrainingRun]]]:
        with self._open(write=True) as table:

            def put(kept: KeptRun, **changes: object) -> TrainingRun:
                run = kept.run.model_copy(update=changes)
                table.put(replace(kept, run=run))
                return run

            yield _of(table, run_id), put


class FakeTrainings(TrainingStore):
    """A dictionary.

    Args:
        lock: The store's own.
        owners: The ids of the Studios that live.
        is_painting: Whether a job runs.
    """

    def __init__(
        self, lock: threading.RLock, owners: Collection[str] = (), is_painting: Callable[[], bool] = lambda: False
    ) -> None:
        self._lock = lock
        self._owners = owners
        self._painting = is_painting
        self._kept: dict[str, KeptRun] = {}

    @contextmanager
    def _open(self, *, write: bool) -> Generator[TrainingTable]:  # noqa: ARG002 - one lock for both
        with self._lock:
            yield self

    def find(self, run_id: str) -> KeptRun | None:
        """See `TrainingTable.find`."""
        return self._kept.get(run_id)

    def put(self, kept: KeptRun) -> None:
        """See `TrainingTable.put`."""
        self._kept[kept.run.id] = kept

    def remove(self, run_id: str) -> None:
        """See `TrainingTable.remove`."""
        del self._kept[run_id]

    def of_state(self, state: RunState) -> Sequence[KeptRun]:
        """See `TrainingTable.of_state`."""
        found = [kept for kept in self._kept.values() if kept.run.state == state]
        return sorted(found, key=lambda kept: (kept.queued_at, kept.run.id))

    def search(self, query: TrainingQuery) -> Sequence[KeptRun]:
        """See `TrainingTable.search`."""
        found = [
            kept
            for key, kept in sorted(self._kept.items(), reverse=True)
            if (query.states is None or kept.run.state in query.states)
            and (query.before is None or key < query.before)
            and (query.include_deleted or kept.run.deleted_at is None)
        ]
        return found[: query.limit]

    def owners(self) -> Collection[str]:
        """See `TrainingTable.owners`."""
        return self._owners

    def is_painting(self) -> bool:
        """See `TrainingTable.is_painting`."""
        with self._lock:
            return self._painting()


def _of(table: TrainingTable, run_id: str) -> KeptRun:
    kept = table.find(run_id)
    if kept is None:
        raise no_such("training run", run_id)
    return kept


def _queue(table: TrainingTable) -> list[KeptRun]:
    return [kept for kept in table.of_state("queued") if kept.run.deleted_at is None]


def _is_over(run: TrainingRun, before: datetime) -> bool:
    if run.state == "running":
        return False
    cancelled = run.finished_at if run.state == "cancelled" else None
    return any(moment is not None and moment < before for moment in (run.deleted_at, cancelled))


def _check_owner(kept: KeptRun, owner_id: str) -> None:
    if kept.owner != owner_id or kept.run.state != "running":
        raise ConflictError(
            "this training run is no longer held by this process",
            value=kept.run.id,
            next_step="nothing: another process goes on with it, or it has ended",
        )


def _not_now(run: TrainingRun, allowed: str, next_step: str = "reload the run to see its state") -> ConflictError:
    what = "deleted" if run.deleted_at is not None else run.state
    return ConflictError(f"the training run {run.id} is {what}", value=what, allowed=allowed, next_step=next_step)
