"""Training runs: one suite holds the database and the fake to the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from studio_helpers import make_job

from danqing.spec.errors import ConflictError, NotFoundError
from danqing.spec.training import parse_training
from danqing.spec.training_run import TrainingRun
from danqing.store.base import Store
from danqing.store.database import Database
from danqing.store.fake import FakeStore
from danqing.store.ids import new_id
from danqing.store.owners import Owner
from danqing.store.sql import SqlStore
from danqing.store.trainings import TrainerMark, TrainingQuery, TrainingStore

ME, OTHER = Owner.of_this_process(), Owner.of_this_process()
MARK = TrainerMark("here", 123, "456")


@pytest.fixture(params=["sql", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sql":
        database = Database(None, tmp_path / "danqing.db")
        database.migrate()
        store: Store = SqlStore(database)
    else:
        store = FakeStore()
    store.beat(ME.beating())
    yield store
    store.close()


@pytest.fixture
def runs(store: Store) -> TrainingStore:
    return store.trainings


def add(runs: TrainingStore, name: str = "style") -> TrainingRun:
    run_id = new_id()
    request = parse_training({"method": "lora", "name": name, "dataset": "s"})
    run = TrainingRun(
        id=run_id, state="queued", request=request, folder=f"training/runs/{run_id}", created_at=datetime.now(UTC)
    )
    runs.add(run)
    return run


def claimed(runs: TrainingStore, owner: Owner = ME, devices: tuple[str, ...] = ("cpu",)) -> TrainingRun | None:
    return runs.claim(owner.id, devices)


def test_a_run_comes_back_as_it_was(runs: TrainingStore):
    run = add(runs)
    assert runs.get(run.id) == run
    with pytest.raises(NotFoundError):
        runs.get("nothing")


def test_runs_are_listed_newest_first_in_pages(runs: TrainingStore):
    first, second, third = (add(runs) for _ in range(3))
    assert [run.id for run in runs.list(TrainingQuery(limit=2))] == [third.id, second.id]
    assert [run.id for run in runs.list(TrainingQuery(before=second.id))] == [first.id]
    runs.ask(second.id, "pause")
    assert [run.id for run in runs.list(TrainingQuery(states=("paused",)))] == [second.id]
    runs.delete(third.id, datetime.now(UTC))
    assert [run.id for run in runs.list(TrainingQuery())] == [second.id, first.id]
    assert len(runs.list(TrainingQuery(include_deleted=True))) == 3


def test_one_run_on_each_device_in_the_order_of_the_queue(runs: TrainingStore):
    first, second, third = (add(runs) for _ in range(3))
    taken = claimed(runs, devices=("cuda:0", "cuda:1"))
    assert taken is not None
    assert (taken.id, taken.state, taken.device, taken.attempts) == (first.id, "running", "cuda:0", 1)
    other = claimed(runs, OTHER, devices=("cuda:0", "cuda:1"))
    assert other is not None
    assert (other.id, other.device) == (second.id, "cuda:1")
    assert claimed(runs, devices=("cuda:0", "cuda:1")) is None
    assert claimed(runs, devices=("auto",)) is None  # nobody knows which device that is
    assert runs.waiting() == [third.id]
    runs.save(taken.model_copy(update={"state": "done"}), ME.id)
    assert claimed(runs, devices=("cuda:0",)).id == third.id


def test_two_threads_never_take_the_same_run(runs: TrainingStore):
    for _ in range(4):
        add(runs)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda number: runs.claim(ME.id, (f"cuda:{number}",)), range(4)))
    assert len({run.id for run in taken if run is not None}) == 4


def test_what_is_asked_of_a_run(runs: TrainingStore):
    waiting, running = add(runs), None
    assert runs.ask(waiting.id, "pause").state == "paused"
    with pytest.raises(ConflictError, match="paused"):
        runs.ask(waiting.id, "pause")
    assert runs.resume(waiting.id).state == "queued"
    running = claimed(runs)
    assert running is not None
    assert runs.ask(running.id, "pause").asked == "pause"
    assert runs.ask(running.id, "cancel").asked == "cancel"
    assert runs.ask(running.id, "pause").asked == "cancel"  # what ends it is not taken back
    with pytest.raises(ConflictError, match="running"):
        runs.resume(running.id)
    saved = runs.save(running.model_copy(update={"step": 5}), ME.id)
    assert (saved.asked, saved.step, saved.finished_at) == ("cancel", 5, None)
    ended = runs.save(saved.model_copy(update={"state": "cancelled", "stage": "stopping"}), ME.id)
    assert (ended.asked, ended.stage) == (None, "")
    assert ended.finished_at is not None
    fresh = runs.resume(running.id)
    assert (fresh.state, fresh.attempts, fresh.finished_at, fresh.step) == ("queued", 0, None, 5)


def test_only_its_owner_writes_to_a_run(runs: TrainingStore):
    add(runs)
    run = claimed(runs)
    assert run is not None
    for wrong in (lambda: runs.save(run, OTHER.id), lambda: runs.mark_trainer(run.id, OTHER.id, MARK)):
        with pytest.raises(ConflictError, match="no longer held"):
            wrong()
    runs.save(run.model_copy(update={"state": "paused"}), ME.id)
    with pytest.raises(ConflictError, match="no longer held"):
        runs.save(run, ME.id)


def test_a_resumed_run_waits_at_the_end(runs: TrainingStore):
    first, second = add(runs), add(runs)
    runs.ask(first.id, "pause")
    runs.resume(first.id)
    assert runs.waiting() == [second.id, first.id]


def test_orphans_are_found_with_their_process(runs: TrainingStore, store: Store):
    add(runs)
    run = claimed(runs, OTHER)
    assert run is not None
    runs.mark_trainer(run.id, OTHER.id, MARK)
    store.beat(OTHER.beating())
    assert runs.orphans() == []
    store.leave(OTHER.id)
    (orphan,) = runs.orphans()
    assert (orphan.run.id, orphan.trainer) == (run.id, MARK)
    assert runs.free(orphan, orphan.run.model_copy(update={"state": "queued"}))
    assert not runs.free(orphan, orphan.run)
    assert runs.orphans() == []
    assert runs.get(run.id).state == "queued"


def test_deleting_has_a_way_back(runs: TrainingStore):
    run = add(runs)
    assert runs.delete(run.id, datetime.now(UTC)).state == "paused"  # nobody takes it meanwhile
    assert claimed(runs) is None
    with pytest.raises(ConflictError):
        runs.delete(run.id, datetime.now(UTC))
    with pytest.raises(ConflictError, match="deleted"):
        runs.resume(run.id)
    assert runs.delete(run.id, None).deleted_at is None
    runs.resume(run.id)
    claimed(runs)
    with pytest.raises(ConflictError) as caught:
        runs.delete(run.id, datetime.now(UTC))
    assert caught.value.next_step == "cancel it first"


def test_what_is_over_is_forgotten_after_the_undo_window(runs: TrainingStore):
    kept, cancelled, deleted = (add(runs) for _ in range(3))
    runs.ask(cancelled.id, "cancel")
    runs.delete(deleted.id, datetime.now(UTC))
    assert runs.forget(datetime.now(UTC) - timedelta(minutes=1)) == []
    gone = runs.forget(datetime.now(UTC) + timedelta(minutes=1))
    assert {run.id for run in gone} == {cancelled.id, deleted.id}
    assert [run.id for run in runs.list(TrainingQuery(include_deleted=True))] == [kept.id]


def test_painting_is_seen_while_a_living_studio_holds_a_job(runs: TrainingStore, store: Store):
    assert not runs.is_painting()
    job = make_job()
    store.add_job(job, ME.id)
    assert runs.is_painting()
    store.move_job(job.id, "running")
    assert runs.is_painting()
    store.move_job(job.id, "done")
    assert not runs.is_painting()
    store.add_job(make_job(), None)  # nobody paints it
    assert not runs.is_painting()
    gone = replace(OTHER, id="gone")
    store.add_job(make_job(), gone.id)
    assert not runs.is_painting()
