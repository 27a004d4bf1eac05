"""Interrogation, search by look and scores on fake workers whose embeddings are known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio_helpers import picture

from danqing.spec.errors import BadFileError, InvalidRequestError, MissingWeightsError, NotFoundError, WorkerError
from danqing.spec.painting import Txt2ImgRequest
from danqing.studio import sight
from danqing.studio.service import Studio
from danqing.workers.fake_sight import FakeSight
from danqing.workers.pool import FakePool
from danqing.workers.protocol import EmbedCommand, EmbeddedMessage


@pytest.fixture
def seeing(open_studio, tmp_path: Path):
    def begin(planted=None, *, eager=False, **options) -> Studio:
        return open_studio(FakePool(sight=FakeSight(tmp_path, planted, **options).answer), eager=eager)

    return begin


def paint(studio: Studio, seed: int) -> str:
    job = studio.wait(studio.submit(Txt2ImgRequest(prompt=f"number {seed}", seed=seed)).id, 10)
    return job.records[0]


def flat(colour: tuple[int, ...], size=(64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def looked_at(studio: Studio) -> int:
    return sum(len(c.pictures) for c in studio.pool.asked if isinstance(c, EmbedCommand))


def test_records_are_found_by_planted_embeddings(seeing):
    planted = {"east": (1, 0, 0), "north": (0, 1, 0), "between": (1, 1, 0)}
    studio = seeing(planted)
    ids = [paint(studio, seed) for seed in (1, 2, 3)]
    by_picture = {studio.record(i).picture: v for i, v in zip(ids, ((1, 0.1, 0), (0.1, 1, 0), (0, 0, 1)), strict=True)}
    studio.pool.sight.__self__._planted.update(by_picture)
    found = studio.search("east")
    assert [one.record.id for one in found] == [ids[0], ids[1], ids[2]]
    assert found[0].score == pytest.approx(1 / np.hypot(1, 0.1), abs=2e-3)
    assert [one.record.id for one in studio.search("north", limit=1)] == [ids[1]]
    like = studio.search(like=f"record:{ids[2]}")
    assert (like[0].record.id, like[0].score) == (ids[2], pytest.approx(1.0, abs=1e-6))
    both = studio.search("north", like=f"record:{ids[2]}")
    assert {one.record.id for one in both[:2]} == {ids[1], ids[2]}
    assert both[0].score == pytest.approx(0.5, abs=0.02)


def test_each_picture_is_looked_at_once(seeing):
    studio = seeing()
    paint(studio, 1)
    paint(studio, 1)  # the same picture, another Record
    paint(studio, 2)
    assert looked_at(studio) == 0, "nothing is looked at before somebody searches"
    assert len(studio.search("red")) == 3
    assert looked_at(studio) == 2
    studio.search("blue")
    assert looked_at(studio) == 2
    new = paint(studio, 3)
    assert new in {one.record.id for one in studio.search("blue")}
    assert looked_at(studio) == 3
    studio.close()
    other = seeing(model="another mini-CLIP")
    other.search("blue")
    assert looked_at(other) == 3, "another mini-CLIP has its own embeddings"


def test_many_pictures_come_in_batches(seeing, monkeypatch):
    monkeypatch.setattr(sight, "BATCH", 2)
    studio = seeing()
    for seed in range(5):
        paint(studio, seed)
    assert len(studio.search("red", limit=100)) == 5
    assert [len(c.pictures) for c in studio.pool.asked] == [0, 2, 2, 1]


def test_deleted_and_filtered_records(seeing):
    studio = seeing()
    first, second = paint(studio, 1), paint(studio, 2)
    studio.delete_record(first)
    assert [one.record.id for one in studio.search("red")] == [second]
    assert looked_at(studio) == 1
    studio.restore_record(first)
    assert len(studio.search("red")) == 2
    assert studio.search("red", kind="inpaint") == []
    assert studio.search("red", model="danqing-mini")
    studio.delete_record(first)
    with pytest.raises(NotFoundError, match="deleted"):
        studio.search(like=f"record:{first}")


def test_purging_forgets_embeddings(seeing):
    studio = seeing()
    record_id = paint(studio, 1)
    studio.search("red")
    assert studio._store.seeing_models()
    studio.delete_record(record_id)
    studio.settings = studio.settings.model_copy(update={"undo_window_s": -1.0})
    studio.purge()
    assert studio._store.seeing_models() == []


def test_a_lost_picture_does_not_stop_the_search(seeing):
    studio = seeing()
    lost, kept = paint(studio, 1), paint(studio, 2)
    studio.picture_path(studio.record(lost).picture).unlink()
    assert [one.record.id for one in studio.search("red")] == [kept]
    count = looked_at(studio)
    assert [one.record.id for one in studio.search("red")] == [kept]
    assert looked_at(studio) == count, "it is not tried again every time"


def test_search_by_a_file(seeing):
    studio = seeing()
    ids = [paint(studio, seed) for seed in range(6)]
    target = studio.picture_bytes(studio.record(ids[4]).picture)
    assert studio.search(like=target)[0].record.id == ids[4]
    assert studio.search(like=flat((9, 9, 9)), limit=0) == []
    with pytest.raises(BadFileError):
        studio.search(like=b"no picture")
    with pytest.raises(InvalidRequestError, match="words or a picture"):
        studio.search("  ")
    with pytest.raises(InvalidRequestError, match="too long"):
        studio.search("x" * 3000)


def test_a_question_leaves_nothing_in_the_store(seeing, tmp_path: Path):
    studio = seeing()
    studio.interrogate(picture(900, 700))
    studio.score(picture(900, 700), "red")
    assert not list((tmp_path / "blobs").rglob("*.png"))


def test_interrogation(seeing):
    studio = seeing()
    found = studio.interrogate(flat((22, 42, 118)))
    assert found.background.model_dump() == {"kind": "plain", "colors": ("dark blue",)}
    assert found.wording("en").caption.endswith("on a dark blue background")
    assert found.wording("zh-Hant").background == "深藍色背景"
    clear = studio.interrogate(flat((200, 0, 0, 0)))
    assert clear.background.kind == "transparent"
    record = f"record:{paint(studio, 1)}"
    assert studio.interrogate(record) == studio.interrogate(f"sha256:{studio.record(record[7:]).picture}")
    for wrong, kind in (
        ("record:none", NotFoundError),
        (f"sha256:{'0' * 64}", NotFoundError),
        ("x", InvalidRequestError),
    ):
        with pytest.raises(kind):
            studio.interrogate(wrong)


def test_scores_rank_prompts(seeing):
    studio = seeing()
    red = flat((226, 58, 54))
    right, wrong = studio.score(red, "a red apple"), studio.score(red, "a blue car")
    assert 0.0 <= wrong < right <= 1.0
    assert right == pytest.approx(1 / (1 + np.exp(-(10.0 - 5.0))), abs=1e-3)


def test_without_mini_clip(open_studio):
    studio = open_studio()
    for ask in (
        lambda: studio.interrogate(picture()),
        lambda: studio.search("x"),
        lambda: studio.score(picture(), "x"),
    ):
        with pytest.raises(MissingWeightsError):
            ask()


def test_the_gallery_is_kept_up_with_after_the_first_search(seeing):
    studio = seeing()
    paint(studio, 1)
    studio._sight.keep_up()
    assert studio.pool.asked == [], "who never searches pays nothing"
    studio.search("red")
    asked = len(studio.pool.asked)
    studio._sight.keep_up()
    assert len(studio.pool.asked) == asked, "nothing is new"
    paint(studio, 2)
    studio._sight.keep_up()
    assert studio._store.unseen(studio._store.seeing_models()[0], 9) == []


def test_workers_that_disagree_or_answer_too_little(seeing, tmp_path: Path):
    studio = seeing()
    paint(studio, 1)
    answers = iter([FakeSight(tmp_path, model="a"), FakeSight(tmp_path, model="b")])
    studio.pool.sight = lambda command: next(answers).answer(command)
    with pytest.raises(WorkerError, match="different"):
        studio.search("red")
    honest = FakeSight(tmp_path)

    def lazy(command):
        answer = honest.answer(command)
        return answer.model_copy(update={"texts": ""}) if isinstance(answer, EmbeddedMessage) else answer

    studio.pool.sight = lazy
    with pytest.raises(WorkerError, match="everything"):
        studio.search("red")
