"""Clearing up: drafts and uploads go, and nothing that a Record or a job names."""

from __future__ import annotations

from datetime import timedelta

import pytest
from studio_helpers import make_job, make_plan, make_record

from danqing.spec.errors import NotFoundError
from danqing.spec.painting import Img2ImgRequest
from danqing.spec.plan import InitPlan
from danqing.store.base import RecordQuery, Upload
from danqing.store.database import Database
from danqing.store.fake import FakeStore
from danqing.store.owners import Owner, utc_now
from danqing.store.sql import SqlStore

ME = Owner.of_this_process()


@pytest.fixture(params=["sql", "fake"])
def store(request, tmp_path):
    store = FakeStore()
    if request.param == "sql":
        database = Database(None, tmp_path / "danqing.db")
        database.migrate()
        store = SqlStore(database)
    store.beat(ME.beating())
    yield store
    store.close()


def soon():
    return utc_now() + timedelta(seconds=5)


def upload(store, letter):
    store.add_upload(Upload(letter * 64, 3, 4, "image/png"))
    return letter * 64


def done(store, user="local", **changes):
    """A finished job with one Record."""
    job = make_job(user=user, **changes)
    store.add_job(job, ME.id)
    store.move_job(job.id, "running")
    record = store.add_record(make_record(store.job(job.id), picture="9" * 64), ME.id)
    store.move_job(job.id, "done")
    return record


def test_an_upload_that_anything_names_stays(store):
    free = upload(store, "0")
    for_record, for_job, as_picture = upload(store, "a"), upload(store, "b"), upload(store, "c")
    in_map = upload(store, "d")
    done(store, plans=(make_plan(init=InitPlan(image=for_record)),))
    waiting = make_job(request=Img2ImgRequest(image=f"sha256:{for_job}"))
    store.add_job(waiting, None)
    shown = make_job()
    store.add_job(shown, ME.id)
    store.move_job(shown.id, "running")
    store.add_record(make_record(shown, picture=as_picture, thumbnail=in_map), ME.id)
    assert store.sweep_uploads(soon()) == [free]
    assert store.upload(free) is None
    for sha256 in (for_record, for_job, as_picture, in_map):
        assert store.upload(sha256).sha256 == sha256
    assert store.sweep_uploads(soon()) == []


def test_an_upload_stays_while_it_is_new_and_is_new_again_when_it_comes_again(store):
    upload(store, "a")
    between = utc_now()
    assert store.sweep_uploads(between - timedelta(days=1)) == []
    upload(store, "a")
    assert store.sweep_uploads(between) == []
    assert store.sweep_uploads(soon()) == ["a" * 64]


def test_a_deleted_record_still_holds_what_it_names_until_it_is_purged(store):
    sketch = upload(store, "a")
    record = done(store, user="drafts", plans=(make_plan(init=InitPlan(image=sketch)),))
    assert store.forget_user("drafts", ended_before=soon()) == 1
    assert store.record(record.id).deleted_at is not None
    assert store.sweep_uploads(soon()) == []
    store.purge(soon())
    assert store.sweep_uploads(soon()) == []  # its job is there still
    assert store.forget_user("drafts", ended_before=soon()) == 0
    assert store.sweep_uploads(soon()) == [sketch]


def test_only_this_users_ended_or_free_jobs_are_cleared(store):
    mine = done(store)
    draft = done(store, user="drafts")
    held = make_job(user="drafts")
    free = make_job(user="drafts")
    foreign_free = make_job()
    store.add_job(held, ME.id)
    store.add_job(free, None)
    store.add_job(foreign_free, None)
    assert store.forget_user("drafts", ended_before=utc_now() - timedelta(hours=1)) == 0
    assert store.record(draft.id).deleted_at is None
    assert store.free_jobs() == [foreign_free.id]
    assert store.forget_user("drafts", ended_before=soon()) == 1
    assert [record.id for record in store.records(RecordQuery())] == [mine.id]
    assert store.job(held.id).state == "queued"
    with pytest.raises(NotFoundError):  # it was cancelled, and had no Record
        store.job(free.id)
    assert store.job(draft.job_id).state == "done"
    assert store.delete_record(draft.id, None).deleted_at is None  # as long as the undo window is open


def test_many_uploads_are_one_look(store):
    names = [f"{number:064x}" for number in range(205)]
    for sha256 in names:
        store.add_upload(Upload(sha256, 1, 1, "image/png"))
    done(store, plans=(make_plan(init=InitPlan(image=names[7])),))
    swept = store.sweep_uploads(soon())
    assert len(swept) == len(names) - 1
    assert names[7] not in swept
