"""Finished pictures are encoded and written beside the painting: it goes on, order and bytes stay, errors arrive."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from test_painter import Front, job

from danqing.spec.events import ProgressEvent
from danqing.store.blobs import BlobStore
from danqing.workers import painter as painter_module
from danqing.workers.protocol import JobDoneMessage, JobFailedMessage, PictureMessage
from danqing.workers.saving import Saved, save
from easel import Easel

QUICK = {"sampling": {"sampler": "euler", "steps": 2}}


@pytest.fixture
def front(tmp_path: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> Front:
    monkeypatch.setattr(painter_module, "_savers", lambda: 3)
    return Front(tmp_path, tiny_sd)


def test_the_next_picture_is_painted_while_one_is_saved(front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch):
    late, waited = threading.Event(), list[bool]()
    hear = front._hear

    def watch(message: Any) -> None:
        if isinstance(message, ProgressEvent) and message.job_id == "long" and message.step >= 6:
            late.set()
        hear(message)

    def slow(blobs: BlobStore, finished: Saved) -> Saved:
        if finished.job_id == "short":
            waited.append(late.wait(60))
        return save(blobs, finished)

    front.painter._send = watch
    monkeypatch.setattr(painter_module, "save", slow)
    front.run(job(easel, "short", **QUICK), job(easel, "long", sampling={"sampler": "euler", "steps": 8}))
    assert waited == [True], "the longer job stood still while the shorter one was saved"
    assert {message.job_id for message in front.all(JobDoneMessage)} == {"short", "long"}


def test_the_front_hears_of_pictures_in_the_order_they_were_painted(
    front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch
):
    saved: list[int] = []
    others = threading.Event()

    def first_is_last(blobs: BlobStore, finished: Saved) -> Saved:
        if not saved and finished.index == painted[0]:
            others.wait(60)
        found = save(blobs, finished)
        saved.append(finished.index)
        if len(saved) == 2:
            others.set()
        return found

    painted: list[int] = []
    finish = front.painter._finished

    def note(running: Any, index: int, plan: Any, event: Any) -> None:
        painted.append(index)
        finish(running, index, plan, event)

    monkeypatch.setattr(front.painter, "_finished", note)
    monkeypatch.setattr(painter_module, "save", first_is_last)
    front.run(job(easel, "j", count=3, **QUICK))
    assert saved != painted
    assert [message.index for message in front.all(PictureMessage)] == painted
    assert isinstance(front.heard[-1], JobDoneMessage)


def test_the_bytes_are_those_of_saving_at_once(front: Front, easel: Easel, tmp_path: Path):
    kept: list[Saved] = []
    submit = front.painter._saver.submit
    front.painter._saver.submit = lambda work, blobs, finished: (kept.append(finished), submit(work, blobs, finished))[
        1
    ]
    front.run(job(easel, "j", count=2, **QUICK))
    told = {message.index: message for message in front.all(PictureMessage)}
    for finished in kept:
        again = save(BlobStore(tmp_path / "again"), finished)
        assert (again.picture, again.thumbnail) == (told[finished.index].picture, told[finished.index].thumbnail)


def test_an_error_of_one_picture_reaches_its_job(front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch):
    def full(blobs: BlobStore, finished: Saved) -> Saved:
        if finished.job_id == "bad" and finished.index == 1:
            raise OSError(28, "No space left on device")
        return save(blobs, finished)

    monkeypatch.setattr(painter_module, "save", full)
    front.run(job(easel, "bad", count=3, **QUICK), job(easel, "good", count=2, **QUICK))
    (failed,) = front.all(JobFailedMessage)
    assert failed.job_id == "bad"
    assert [message.job_id for message in front.all(JobDoneMessage)] == ["good"]
