from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from studio_helpers import picture

from danqing.spec.errors import BadFileError, ConflictError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.events import RecordEvent, StateEvent
from danqing.spec.painting import Img2ImgRequest, InpaintRequest, Txt2ImgRequest
from danqing.studio.service import Studio
from danqing.workers.pool import FakePool

APPLE = Txt2ImgRequest(prompt="a red apple", seed=7)


def paint(studio: Studio, request: Txt2ImgRequest = APPLE) -> str:
    job = studio.wait(studio.submit(request).id, 10)
    assert job.state == "done"
    return job.records[0]


def states(events: list[tuple[int, Any]]) -> list[str]:
    return [event.state for _, event in events if isinstance(event, StateEvent)]


def test_from_words_to_a_picture(open_studio):
    studio = open_studio()
    job = studio.submit(APPLE.model_copy(update={"count": 3}), user="mei", priority=2)
    assert (job.state, len(job.plans), job.user, job.priority) == ("queued", 3, "mei", 2)
    done = studio.wait(job.id)
    assert (done.state, done.progress, len(done.records), done.attempts) == ("done", 1.0, 3, 1)
    record = studio.record(done.records[0])
    assert record.plan == job.plans[0]
    assert record.versions.danqing == "fake"
    data = studio.picture_bytes(record.picture)
    assert Image.open(io.BytesIO(data)).size == (32, 32)
    assert studio.picture_path(record.picture).read_bytes() == data
    with Image.open(io.BytesIO(studio.thumbnail_bytes(record.id))) as thumbnail:
        assert thumbnail.format == "WEBP"
    assert [r.id for r in studio.records(search="apple", limit=2)] == list(done.records[:0:-1])
    assert studio.records(before=done.records[1])[0].id == done.records[0]


def test_everything_survives_a_restart(open_studio):
    first = open_studio()
    record_id = paint(first)
    first.close()
    second = open_studio()
    record = second.record(record_id)
    events = list(second.watch(record.job_id))
    assert [type(event) for _, event in events] == [RecordEvent, StateEvent]
    assert second.job(record.job_id).state == "done"


def test_watching_from_the_start_and_late(open_studio):
    pool = FakePool(held=True)
    studio = open_studio(pool)
    job = studio.submit(APPLE.model_copy(update={"count": 2}))
    watch = studio.watch(job.id)
    assert next(watch)[1].state == "queued"
    pool.release()
    events = list(watch)
    assert states(events) == ["running", "done"]
    numbers = [number for number, _ in events]
    assert numbers == sorted(set(numbers))
    fractions = [event.fraction for _, event in events if event.type == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.9
    late = list(studio.watch(job.id))
    assert [event.type for _, event in late] == ["record", "record", "state"]
    [first_record] = [number for number, event in late if event.type == "record" and event.index == 0]
    assert [event.type for _, event in studio.watch(job.id, after=first_record)] == ["record", "state"]
    assert states(list(studio.watch(job.id, after=10_000))) == ["done"]


def test_a_watch_with_a_time_limit_ends_quietly(open_studio):
    studio = open_studio(FakePool(held=True))
    job = studio.submit(APPLE)
    assert states(list(studio.watch(job.id, timeout_s=0.1))) == ["queued"]
    assert studio.wait(job.id, 0.1).state == "queued"


def test_watching_what_is_not_there_fails_at_once(open_studio):
    studio = open_studio()
    with pytest.raises(NotFoundError):
        studio.watch("nothing")
    with pytest.raises(NotFoundError):
        studio.awatch("nothing")


def test_many_async_watchers(open_studio):
    pool = FakePool(held=True, delay_s=0.005)
    studio = open_studio(pool)
    job = studio.submit(APPLE.model_copy(update={"count": 4}))

    async def follow() -> list[str]:
        return states([item async for item in studio.awatch(job.id)])

    async def all_of_them() -> list[list[str]]:
        followers = [asyncio.create_task(follow()) for _ in range(20)]
        quitter = asyncio.create_task(follow())
        await asyncio.sleep(0.05)
        quitter.cancel()
        pool.release()
        return await asyncio.gather(*followers)

    with ThreadPoolExecutor(1) as threads:  # a browser's test may have left its event loop in this one
        assert threads.submit(lambda: asyncio.run(all_of_them())).result() == [["queued", "running", "done"]] * 20


def test_closing_lets_watchers_go_and_frees_the_jobs(open_studio):
    studio = open_studio(FakePool(held=True))
    job = studio.submit(APPLE)
    watched, ended = threading.Event(), threading.Event()

    def watch():
        for _ in studio.watch(job.id):
            watched.set()
        ended.set()

    thread = threading.Thread(target=watch)
    thread.start()
    assert watched.wait(20)  # its first event is the job as it is
    studio.close()
    assert ended.wait(20)
    thread.join()
    with pytest.raises(ConflictError, match="closed"):
        studio.job(job.id)
    second = open_studio(eager=True)
    assert second.wait(job.id, 10).state == "done"


def test_a_lazy_studio_paints_what_it_is_asked_to_wait_for(open_studio):
    first = open_studio(FakePool(held=True))
    job = first.submit(APPLE)
    other = first.submit(APPLE)
    first.close()
    second = open_studio()
    assert second.wait(job.id, 10).state == "done"
    assert second.job(other.id).state == "queued"


def test_cancelling(open_studio):
    pool = FakePool(delay_s=0.05)
    studio = open_studio(pool)
    running, waiting = studio.submit(APPLE), studio.submit(APPLE)
    watch = studio.watch(running.id)
    while next(watch)[1].type != "progress":
        pass
    assert studio.cancel(waiting.id).state == "cancelled"
    assert studio.cancel(running.id).state == "cancelled"
    assert states(list(watch)) == ["cancelled"]
    assert studio.wait(waiting.id).records == ()
    with pytest.raises(ConflictError, match="is cancelled"):
        studio.cancel(running.id)
    again = studio.retry(running.id)
    assert again.plans == running.plans
    assert studio.wait(again.id, 10).state == "done"
    with pytest.raises(ConflictError):
        studio.cancel(again.id)
    with pytest.raises(ConflictError):
        studio.retry(again.id)
    assert len(studio.records()) == 1


def test_a_failure_is_told(open_studio):
    studio = open_studio(FakePool(error=InvalidRequestError("too blue", field="prompt")))
    job = studio.submit(APPLE)
    *_, (_, last) = studio.watch(job.id)
    assert last.error == {"code": "invalid_request", "message": "too blue", "field": "prompt"}
    assert studio.job(job.id).error == last.error


def test_a_picture_that_cannot_be_kept_fails_the_job(open_studio, monkeypatch):
    studio = open_studio()
    monkeypatch.setattr(studio.blobs, "exists", lambda _: False)
    job = studio.wait(studio.submit(APPLE).id, 10)
    assert job.state == "failed"
    assert "did not store" in job.error["message"]
    monkeypatch.undo()
    assert paint(studio)


def test_deleting_restoring_purging(open_studio):
    studio = open_studio(undo_window_s=0)
    kept, gone = paint(studio), paint(studio, APPLE.model_copy(update={"seed": 8}))
    sha256 = studio.record(gone).picture
    assert studio.delete_record(gone).deleted_at is not None
    assert [record.id for record in studio.records()] == [kept]
    assert studio.restore_record(gone).deleted_at is None
    studio.delete_record(gone)
    os.utime(studio.picture_path(sha256), (0, 0))
    time.sleep(0.01)
    assert studio.purge() == 1
    with pytest.raises(NotFoundError):
        studio.picture_bytes(sha256)
    assert studio.picture_bytes(studio.record(kept).picture)


def test_the_undo_window_protects(open_studio):
    studio = open_studio()
    record_id = paint(studio)
    studio.delete_record(record_id)
    assert studio.purge() == 0
    assert studio.restore_record(record_id).deleted_at is None


def test_a_thumbnail_that_was_lost_is_made_again(open_studio):
    studio = open_studio()
    record = studio.record(paint(studio))
    studio.blobs.remove(record.thumbnail)
    assert studio.thumbnail_bytes(record.id)[8:12] == b"WEBP"


def test_pictures_as_input(open_studio):
    studio = open_studio()
    record_id = paint(studio)
    sha256 = studio.record(record_id).picture
    job = studio.submit(Img2ImgRequest(image=f"record:{record_id}"))
    assert job.plans[0].init.image == sha256
    assert job.plans[0].parent == record_id
    assert studio.record(studio.wait(job.id).records[0]).parent == record_id
    upload = studio.upload(picture())
    mask = studio.upload(picture(16, 16))
    inpaint = InpaintRequest(image=f"sha256:{upload.sha256}", mask=f"sha256:{mask.sha256}", parent=record_id)
    assert studio.submit(inpaint).plans[0].mask.mask == mask.sha256


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Img2ImgRequest(image="record:nothing"), "image"),
        (Img2ImgRequest(image="sha256:" + "0" * 64), "image"),
        (Txt2ImgRequest(parent="nothing"), "parent"),
    ],
)
def test_inputs_that_are_not_there(open_studio, request_, field):
    studio = open_studio()
    with pytest.raises(NotFoundError) as caught:
        studio.submit(request_)
    assert caught.value.field == field
    assert caught.value.next_step
    assert studio.jobs() == []


def test_deleted_pictures_are_no_input(open_studio):
    studio = open_studio()
    record_id = paint(studio)
    studio.delete_record(record_id)
    with pytest.raises(NotFoundError, match="deleted"):
        studio.submit(Img2ImgRequest(image=f"record:{record_id}"))


def test_pictures_too_large_to_paint_on(open_studio):
    studio = open_studio()
    upload = studio.upload(picture(5000, 20))
    with pytest.raises(InvalidRequestError, match="size") as caught:
        studio.submit(Img2ImgRequest(image=f"sha256:{upload.sha256}"))
    assert caught.value.value == "5000×20 px"


def test_fifty_submits_at_once(open_studio):
    studio = open_studio()
    barrier = threading.Barrier(50)

    def submit(number: int) -> str:
        barrier.wait()
        return studio.submit(Txt2ImgRequest(prompt=f"apple {number}", seed=number), user=f"u{number % 5}").id

    with ThreadPoolExecutor(50) as threads:
        ids = list(threads.map(submit, range(50)))
        done = list(threads.map(lambda job_id: studio.wait(job_id, 30), ids))
    assert {job.state for job in done} == {"done"}
    assert len({job.records for job in done}) == 50
    assert len(studio.records(limit=100)) == 50


def test_two_studios_on_one_folder(open_studio):
    slow, quick = FakePool(delay_s=0.05), FakePool()
    server = open_studio(slow, eager=True)
    long_job = server.submit(APPLE.model_copy(update={"count": 2}))
    cli = open_studio(quick, eager=True)  # looks for orphans as it starts
    own = cli.submit(APPLE)
    assert cli.wait(own.id, 10).state == "done"
    assert cli.job(long_job.id).state in ("queued", "running")
    events = list(cli.watch(long_job.id, timeout_s=10))  # through the database: the other process runs it
    assert [event.type for _, event in events][-3:] == ["record", "record", "state"]
    assert states(events)[-1] == "done"
    assert [command.job_id for command in slow.ran] == [long_job.id]
    assert [command.job_id for command in quick.ran] == [own.id]


def test_a_job_is_cancelled_from_another_studio(open_studio):
    server, cli = open_studio(FakePool(delay_s=0.5, steps=8)), open_studio()
    job = server.submit(APPLE)
    assert cli.cancel(job.id).state == "cancelled"
    assert states(list(server.watch(job.id, timeout_s=3)))[-1] == "cancelled"  # long before its first picture
    server.pool.delay_s = 0.0
    again = server.submit(APPLE)
    assert server.wait(again.id, 5).state == "done"  # the pool did stop


def test_start_and_close(open_studio, tmp_path: Path):
    studio = open_studio(start=False)
    with pytest.raises(ConflictError, match="closed"):
        studio.submit(APPLE)
    studio.close()
    with studio:
        with pytest.raises(ConflictError, match="open already"):
            studio.start()
        assert paint(studio)
    studio.close()


def test_a_data_folder_that_cannot_be_made(tmp_path: Path, open_studio):
    (tmp_path / "file").write_text("")
    studio = Studio(open_studio().settings.model_copy(update={"data_dir": tmp_path / "file" / "data"}), FakePool())
    with pytest.raises(DanqingError, match="data folder"):
        studio.start()


def test_request_of_a_picture_without_metadata(open_studio):
    studio = open_studio()
    with pytest.raises(BadFileError):
        studio.request_of_picture(b"no picture")


def test_an_upload_on_a_full_disk(open_studio, monkeypatch):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    studio = open_studio()
    monkeypatch.setattr(studio.blobs, "put", full)
    with pytest.raises(DanqingError, match="No space left") as caught:
        studio.upload(picture())
    assert caught.value.next_step
