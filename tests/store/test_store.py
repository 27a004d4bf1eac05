"""One suite holds the database and the fake to the same behaviour."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from studio_helpers import make_job, make_plan, make_record

from danqing.spec.errors import ConflictError, NotFoundError
from danqing.spec.plan import InitPlan
from danqing.spec.record import Job, JobState, Record
from danqing.store.base import MOVES, Lease, RecordQuery, Store, Upload
from danqing.store.database import Database
from danqing.store.fake import FakeStore
from danqing.store.owners import Owner, process_start
from danqing.store.sql import SqlStore

ME = Owner.of_this_process()
OTHER = Owner.of_this_process()
DEAD = replace(Owner.of_this_process(), pid=2**22 + 1)


def open_sql(path: Path) -> SqlStore:
    database = Database(None, path / "danqing.db")
    database.migrate()
    return SqlStore(database)


@pytest.fixture(params=["sql", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_sql(tmp_path) if request.param == "sql" else FakeStore()
    store.beat(ME.beating())
    yield store
    store.close()


def add(store: Store, count: int = 1, owner: str | None = ME.id, **changes: object) -> Job:
    job = make_job(count, **changes)
    store.add_job(job, owner)
    return job


def finished(store: Store, **changes: object) -> Record:
    job = add(store)
    store.move_job(job.id, "running")
    return store.add_record(make_record(job, **changes), ME.id)


def test_a_job_comes_back_as_it_was(store: Store):
    job = add(store, 2, user="mei", priority=3)
    assert store.job(job.id) == job


def test_what_is_not_there(store: Store):
    for call in (store.job, store.record, lambda i: store.move_job(i, "running")):
        with pytest.raises(NotFoundError, match="nothing-here"):
            call("nothing-here")
    with pytest.raises(NotFoundError):
        store.add_record(make_record(make_job()), ME.id)
    assert store.upload("0" * 64) is None
    assert not store.claim("nothing-here", ME.id)


@pytest.mark.parametrize("old", list(MOVES))
@pytest.mark.parametrize("new", list(MOVES))
def test_the_state_machine(store: Store, old: JobState, new: JobState):
    job = add(store, state=old)
    if new in MOVES[old]:
        assert store.move_job(job.id, new).state == new
    else:
        with pytest.raises(ConflictError, match=f"is {old} and cannot become {new}"):
            store.move_job(job.id, new)
        assert store.job(job.id).state == old


def test_times_attempts_and_errors(store: Store):
    job = add(store)
    running = store.move_job(job.id, "running")
    assert running.attempts == 1
    assert running.started_at is not None
    failed = store.move_job(job.id, "failed", error={"code": "worker", "message": "x"})
    assert failed.error == {"code": "worker", "message": "x"}
    assert failed.finished_at is not None
    assert failed.finished_at.tzinfo is not None
    assert failed.finished_at >= running.started_at


def test_only_the_holder_moves_a_job(store: Store):
    job = add(store)
    with pytest.raises(ConflictError, match="no longer held"):
        store.move_job(job.id, "running", owner_id=OTHER.id)
    assert store.move_job(job.id, "running", owner_id=ME.id).state == "running"
    assert store.leases([job.id, "x"]) == {job.id: Lease("running", ME.id)}
    store.move_job(job.id, "cancelled")
    assert store.leases([job.id]) == {job.id: Lease("cancelled", None)}


def test_lists_are_newest_first_and_filtered(store: Store):
    jobs = [add(store, user=user, state=state) for user in ("a", "b") for state in ("queued", "done")]
    assert [job.id for job in store.jobs()] == [job.id for job in reversed(jobs)]
    assert [job.id for job in store.jobs(states=["done"], user="a")] == [jobs[1].id]
    assert len(store.jobs(limit=2)) == 2
    assert store.jobs(states=[]) == []


def test_claiming_takes_a_free_job_once(store: Store):
    job = add(store, owner=None)
    urgent = add(store, owner=None, priority=1)
    add(store)
    assert store.free_jobs() == [urgent.id, job.id]
    with ThreadPoolExecutor(8) as threads:
        took = list(threads.map(lambda n: store.claim(job.id, f"owner{n}"), range(8)))
    assert took.count(True) == 1
    assert store.free_jobs() == [urgent.id]


def test_leaving_frees_the_jobs_and_the_attempt_does_not_count(store: Store):
    job, waiting, done = add(store), add(store), add(store, state="running")
    store.move_job(job.id, "running")
    store.move_job(done.id, "done")
    store.leave(ME.id)
    assert store.free_jobs() == [job.id, waiting.id]
    assert store.job(job.id).attempts == 0
    assert store.job(done.id).state == "done"


@pytest.mark.parametrize("silent", [replace(ME, id="s", heartbeat_at=datetime.now(UTC) - timedelta(seconds=60)), DEAD])
def test_reaping_frees_the_jobs_of_the_dead_only(store: Store, silent: Owner):
    store.beat(silent)
    mine, theirs, unknown = add(store), add(store, owner=silent.id), add(store, owner="never known")
    store.move_job(theirs.id, "running")
    freed = store.reap(lease_s=30)
    assert {job.id for job in freed} == {theirs.id, unknown.id}
    assert all(job.state == "queued" for job in freed)
    assert store.job(theirs.id).attempts == 1
    assert store.leases([mine.id])[mine.id].owner_id == ME.id
    assert store.reap(lease_s=30) == []


def test_the_third_death_fails_a_job(store: Store):
    job = add(store, owner=None)
    for attempt in (1, 2, 3):
        dead = replace(DEAD, id=f"dead{attempt}")
        store.beat(dead)
        assert store.claim(job.id, dead.id)
        store.move_job(job.id, "running")
        [freed] = store.reap(lease_s=30)
    assert freed.state == "failed"
    assert freed.error is not None
    assert "started 3 times" in freed.error["message"]
    assert freed.error["next_step"]


def test_a_reused_pid_is_not_mistaken():
    assert process_start(2**22 + 1) is None
    assert not ME.beating().is_dead(lease_s=30)
    assert replace(ME, process_started="long ago").is_dead(lease_s=30)
    assert not replace(ME.beating(), host="elsewhere", pid=2**22 + 1).is_dead(lease_s=30)


def test_a_picture_is_added_once(store: Store):
    job = add(store, 2)
    with pytest.raises(ConflictError):
        store.add_record(make_record(job), ME.id)  # not running
    store.move_job(job.id, "running")
    with pytest.raises(ConflictError):
        store.add_record(make_record(job), OTHER.id)
    first = store.add_record(make_record(job, 1), ME.id)
    again = store.add_record(make_record(job, 1, picture="f" * 64), ME.id)
    assert again == first
    second = store.add_record(make_record(job, 0), ME.id)
    assert store.record_ids(job.id) == {0: second.id, 1: first.id}
    now = store.job(job.id)
    assert now.records == (second.id, first.id)
    assert now.progress == 1.0
    assert store.record(first.id) == first


def test_searching_records(store: Store):
    prompts = ["a Red apple", "红苹果 with 100% sugar", "green pear_tree"]
    records = [finished(store, plan=make_plan(seed=40 + i, prompt=p)) for i, p in enumerate(prompts)]

    def found(**query: object) -> list[int]:
        return [records.index(record) for record in store.records(RecordQuery(**query))]  # type: ignore[arg-type]

    assert found() == [2, 1, 0]
    assert found(search="red APPLE") == [0]
    assert found(search="苹果") == [1]
    assert found(search="100%") == [1]
    assert found(search="%") == [1]
    assert found(search="r_t") == [2]
    assert found(search="41 sugar") == [1]
    assert found(kind="txt2img", model="danqing-mini", limit=2) == [2, 1]
    assert found(before=records[2].id, limit=1) == [1]
    assert found(kind="inpaint") == found(model="other") == []


def test_deleting_restoring_purging(store: Store):
    kept = finished(store, picture="a" * 64)
    gone = finished(store, picture="b" * 64, thumbnail="c" * 64)
    shared = finished(store, picture="a" * 64)
    now = datetime.now(UTC)
    for record in (gone, shared):
        assert store.delete_record(record.id, now).deleted_at == now
    with pytest.raises(ConflictError):
        store.delete_record(gone.id, now)
    assert [record.id for record in store.records(RecordQuery())] == [kept.id]
    assert len(store.records(RecordQuery(include_deleted=True))) == 3
    assert store.delete_record(gone.id, None).deleted_at is None
    with pytest.raises(ConflictError):
        store.delete_record(gone.id, None)
    store.delete_record(gone.id, now)
    assert store.purge(now - timedelta(seconds=1)) == []
    assert store.purge(now + timedelta(seconds=1)) == ["b" * 64, "c" * 64]
    with pytest.raises(NotFoundError):
        store.record(gone.id)


def test_purging_keeps_what_is_still_used(store: Store):
    uploaded, started_from = finished(store, picture="a" * 64), finished(store, picture="b" * 64)
    store.add_upload(Upload("a" * 64, 1, 1, "image/png"))
    add(store, plans=(make_plan(kind="img2img", init=InitPlan(image="b" * 64)),))
    for record in (uploaded, started_from):
        store.delete_record(record.id, datetime.now(UTC))
    assert store.purge(datetime.now(UTC) + timedelta(seconds=1)) == []


def test_uploads(store: Store):
    upload = Upload("a" * 64, 3, 4, "image/webp", "cat.webp")
    store.add_upload(upload)
    store.add_upload(replace(upload, name="again"))
    assert store.upload("a" * 64) == upload


def test_fifty_threads_lose_nothing(store: Store):
    barrier = threading.Barrier(50)

    def submit(number: int) -> str:
        barrier.wait()
        return add(store, seed=number).id

    with ThreadPoolExecutor(50) as threads:
        ids = list(threads.map(submit, range(50)))
    assert {job.id for job in store.jobs(limit=100)} == set(ids)


STATES: tuple[JobState, ...] = ("queued", "running", "done", "failed", "cancelled")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(STATES)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fake_and_the_database_agree(tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, JobState]]):
    stores = [open_sql(tmp_path_factory.mktemp("agree")), FakeStore()]
    jobs = [make_job() for _ in range(3)]
    for store in stores:
        for job in jobs:
            store.add_job(job, ME.id)
    for number, state in moves:
        outcomes = []
        for store in stores:
            try:
                moved = store.move_job(jobs[number].id, state, owner_id=ME.id)
                outcomes.append((moved.state, moved.attempts, moved.is_final))
            except ConflictError as error:
                outcomes.append(error.message)
        assert outcomes[0] == outcomes[1]
    for store in stores:
        store.leave(ME.id)
    assert stores[0].free_jobs() == stores[1].free_jobs()
    for store in stores:
        store.close()


def test_embeddings_belong_to_a_model_and_a_picture(store: Store):
    one, two = finished(store), finished(store, picture="2" * 64)
    twin = finished(store)
    assert store.unseen("a", 9) == [one.picture, two.picture]
    assert store.unseen("a", 1) == [one.picture], "its newest Record counts"
    store.add_embeddings("a", {one.picture: b"xx"})
    store.add_embeddings("a", {one.picture: b"yy", two.picture: b"zz"})
    store.add_embeddings("b", {two.picture: b"b"})
    store.add_embeddings("c", {})
    assert store.unseen("a", 9) == []
    assert store.unseen("b", 9) == [one.picture]
    assert store.seeing_models() == ["a", "b"]
    everything = [(twin.id, b"xx"), (two.id, b"zz"), (one.id, b"xx")]
    assert store.embeddings("a", RecordQuery()) == everything
    assert store.embeddings("a", RecordQuery(limit=1)) == everything[:1]
    assert store.embeddings("a", RecordQuery(search="apple", before=two.id)) == everything[2:]
    assert store.embeddings("a", RecordQuery(model="no such")) == []
    assert store.embeddings("d", RecordQuery()) == []


def test_embeddings_go_with_the_last_record_of_a_picture(store: Store):
    one, twin, other = finished(store), finished(store), finished(store, picture="2" * 64)
    store.add_embeddings("a", {one.picture: b"x", other.picture: b"y"})
    long_ago = datetime.now(UTC) - timedelta(days=30)
    store.delete_record(one.id, long_ago)
    assert [found for found, _ in store.embeddings("a", RecordQuery())] == [other.id, twin.id]
    assert store.unseen("a", 9) == []
    store.purge(long_ago + timedelta(days=1))
    assert len(store.embeddings("a", RecordQuery())) == 2
    store.delete_record(twin.id, long_ago)
    store.purge(long_ago + timedelta(days=1))
    store.delete_record(other.id, long_ago)
    assert store.embeddings("a", RecordQuery(include_deleted=True)) == [(other.id, b"y")]
    assert store.seeing_models() == ["a"]
