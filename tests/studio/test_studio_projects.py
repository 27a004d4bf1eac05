"""Projects in the Studio: joining, retrying, applying once, purging, following events in a loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from danqing.spec.errors import ConflictError, DanqingError, InvalidRequestError, NotFoundError, WorkerError
from danqing.spec.project import Brief
from danqing.spec.request import parse_request
from danqing.spec.review import ReviewBody
from danqing.spec.share import ShareChanges, ShareOrder
from danqing.store.projects_base import ReviewQuery, Tie
from danqing.studio import feed
from danqing.studio.projects import ItemNotes
from danqing.studio.sharing import TooManyError
from danqing.workers.pool import FakePool

APPLE = {"prompt": "red apple, 3d", "seed": 1}


def paint(studio, tie=None, **fields):
    job = studio.submit(parse_request({**APPLE, **fields}), tie=tie)
    return studio.wait(job.id, timeout_s=20).records[0]


def said(studio, project, record, key="key-00000001"):
    body = ReviewBody(key=key, record=record, reviewer="me", suggestions=[{"prompt": "in the snow"}])
    return studio.add_review(project.id, body)[0].suggestions[0].id


def test_a_job_for_a_project_that_is_not_there_is_refused(open_studio):
    studio = open_studio()
    with pytest.raises(NotFoundError):
        studio.submit(parse_request(APPLE), tie=Tie("nobody"))
    assert studio.jobs() == []


def test_a_job_that_is_tried_again_stays_with_its_project(open_studio):
    pool = FakePool(error=WorkerError("the worker fell over"))
    studio = open_studio(pool)
    project = studio.create_project("Tea")
    job = studio.submit(parse_request(APPLE), tie=Tie(project.id))
    assert studio.wait(job.id, timeout_s=20).state == "failed"
    pool.error = None
    again = studio.wait(studio.retry(job.id).id, timeout_s=20)
    assert [one.record for one in studio.version_tree(project.id).versions] == list(again.records)


def test_a_job_of_a_studio_that_went_away_still_joins(open_studio):
    first = open_studio(FakePool(held=True))
    project = first.create_project("Tea")
    job = first.submit(parse_request(APPLE), tie=Tie(project.id))
    first.close()
    second = open_studio()
    done = second.wait(job.id, timeout_s=20)
    assert [one.record for one in second.version_tree(project.id).versions] == list(done.records)


def test_two_who_apply_at_once_get_one_job(open_studio):
    studio = open_studio()
    project = studio.create_project("Tea")
    record = paint(studio, Tie(project.id))
    wanted = said(studio, project, record)

    def apply(_):
        try:
            return studio.apply_suggestion(wanted)
        except ConflictError:
            return None

    with ThreadPoolExecutor(6) as threads:
        jobs = [job for job in threads.map(apply, range(6)) if job is not None]
    assert len(jobs) == 1
    (result,) = studio.wait(jobs[0].id, timeout_s=20).records
    assert studio.record(result).parent == record
    assert len(studio.jobs()) == 2


def test_a_suggestion_whose_job_failed_can_be_applied_again(open_studio):
    pool = FakePool()
    studio = open_studio(pool)
    project = studio.create_project("Tea")
    wanted = said(studio, project, paint(studio, Tie(project.id)))
    pool.error = WorkerError("the worker fell over")
    job = studio.apply_suggestion(wanted)
    assert studio.wait(job.id, timeout_s=20).state == "failed"
    pool.error = None
    again = studio.wait(studio.apply_suggestion(wanted).id, timeout_s=20)
    assert studio.suggestion(wanted)[1].results == again.records


def test_what_cannot_be_applied(open_studio):
    studio = open_studio()
    project = studio.create_project("Tea")
    record = paint(studio, Tie(project.id))
    wanted = said(studio, project, record)
    with pytest.raises(InvalidRequestError):
        studio.set_suggestion(wanted, "applied")
    with pytest.raises(InvalidRequestError, match="colour"):
        studio.apply_suggestion(wanted, {"colour": "red"})
    studio.delete_record(record)
    with pytest.raises(NotFoundError):
        studio.apply_suggestion(wanted)
    studio.restore_record(record)
    studio.delete_project(project.id)
    with pytest.raises(ConflictError, match="deleted"):
        studio.apply_suggestion(wanted)
    assert studio.suggestion(wanted)[1].state == "open"


def test_a_deleted_project_goes_after_its_undo_window(open_studio):
    studio = open_studio(undo_window_s=0)
    project = studio.create_project("Tea", Brief(words="x"))
    record = paint(studio, Tie(project.id))
    studio.delete_project(project.id)
    studio.purge()
    with pytest.raises(NotFoundError):
        studio.project(project.id)
    assert studio.record(record).deleted_at is None


def test_a_share_of_the_current_version_or_of_all(open_studio):
    studio = open_studio()
    project = studio.create_project("Tea")
    first, second = paint(studio, Tie(project.id)), paint(studio, Tie(project.id))
    assert studio.create_share(project.id, ShareOrder(name="All")).share.records == (first, second)
    studio.set_current(project.id, second)
    assert studio.create_share(project.id, ShareOrder(name="One")).share.records == (second,)
    studio.annotate(project.id, second, ItemNotes(note="n"))
    made = studio.create_share(project.id, ShareOrder(name="None", records=()))
    assert made.share.records == ()
    assert made.token not in repr(made)
    assert "secret" not in repr(ShareOrder(name="x", password="secret"))  # noqa: S106
    assert studio.change_share(made.share.id, ShareChanges()) == made.share


def test_reviews_of_what_is_not_there(open_studio):
    studio = open_studio()
    for query in (ReviewQuery(project="nobody"), ReviewQuery(share="nobody")):
        with pytest.raises(NotFoundError):
            studio.reviews(query)


def test_too_many_says_how_long_to_wait():
    error = TooManyError("too many", wait_s=2.4)
    assert (error.http_status, error.wait_s) == (429, 2.4)
    assert isinstance(DanqingError.from_dict(error.as_dict()), DanqingError)


def test_events_are_followed_from_the_past_into_the_future(open_studio, monkeypatch):
    monkeypatch.setattr(feed, "LOOK_S", 0.02)
    studio = open_studio()
    project, other = studio.create_project("Tea"), studio.create_project("Other")
    for _ in range(3):
        studio.change_project(project.id, name="Tea")
        studio.change_project(other.id, name="Other")

    async def watch(after, count):
        found = []
        async for event in studio.project_events(project.id, after=after):
            found.append(event)
            if len(found) == count:
                break
        return found

    async def both():
        past = asyncio.create_task(watch(0, 5))
        now = asyncio.create_task(watch(-1, 2))
        while len(studio._feed._wakers) < 2:  # both know from which number on
            await asyncio.sleep(0.005)
        for _ in range(2):
            await asyncio.to_thread(studio.change_project, project.id, name="Tea")
        return await asyncio.wait_for(asyncio.gather(past, now), 10)

    with ThreadPoolExecutor(1) as threads:  # a browser's test may have left its event loop in this one
        past, now = threads.submit(lambda: asyncio.run(both())).result()
    numbers = [event.number for event in past]
    assert numbers == sorted(set(numbers))
    assert numbers[-2:] == [event.number for event in now]
    assert {event.project for event in past} == {project.id}
    with pytest.raises(NotFoundError):
        studio.project_events("nobody")


def test_a_closing_studio_lets_its_watchers_go(open_studio):
    studio = open_studio()
    project = studio.create_project("Tea")

    async def watch():
        return [event async for event in studio.project_events(project.id, after=-1)]

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(lambda: asyncio.run(watch()))
        while not studio._feed._wakers:
            pass
        studio.close()
        assert watching.result(timeout=10) == []
