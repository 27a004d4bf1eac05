"""The painter's side of sight, on a small mini-CLIP with random weights; and once through a real worker process."""

from __future__ import annotations

import base64
import io
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.models import clip, clip_files
from danqing.models.interrogators import opening
from danqing.spec.errors import MissingWeightsError
from danqing.store.vectors import from_text
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.painter import Painter, PainterOptions
from danqing.workers.protocol import (
    MESSAGE,
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    PictureSource,
    TaskFailedMessage,
)
from danqing.workers.sight import CACHE_DIR
from easel import photo
from tiny_clip import DIM, build_clip


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    build_clip(root / "mini-clip")
    return root


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def given(image: Image.Image) -> PictureSource:
    return PictureSource(data_base64=base64.b64encode(png(image)).decode())


@pytest.fixture
def ask(tmp_path: Path, models_dir: Path) -> Callable[..., list[Any]]:
    def run(*commands: Any, models: Path | None = models_dir) -> list[Any]:
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        painter = Painter(PainterOptions(tmp_path, models, device="cpu", precision="float32"), heard.put)
        waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for command in (*commands, None):
            waiting.put(command)
        painter.run(waiting)
        return [heard.get(timeout=30) for _ in commands]

    return run


def test_pictures_and_texts_are_embedded(ask, tmp_path: Path, models_dir: Path):
    from danqing.store.blobs import BlobStore

    image = photo()
    sha256 = BlobStore(tmp_path).put(png(image))
    lost, broken = PictureSource(sha256="0" * 64), PictureSource(data_base64=base64.b64encode(b"no picture").decode())
    pictures = (PictureSource(sha256=sha256), lost, given(image), broken)
    (answer,) = ask(EmbedCommand(task_id="t", texts=("the cat", "猫"), pictures=pictures))
    assert isinstance(answer, EmbeddedMessage)
    eye = clip.load(models_dir / "mini-clip")
    assert (answer.model, answer.dim) == (eye.sha256, DIM)
    assert answer.scale == pytest.approx(np.exp(2.0))
    seen = from_text(answer.pictures, DIM)
    assert np.allclose(seen[[0, 2]], eye.embed_images([image])[0], atol=1e-5)
    assert not seen[[1, 3]].any(), "what cannot be read is zeros"
    assert np.allclose(from_text(answer.texts, DIM), eye.embed_texts(["the cat", "猫"]), atol=1e-5)
    assert MESSAGE.validate_json(answer.model_dump_json()) == answer


def test_a_picture_is_put_into_words_and_the_words_are_kept(ask, tmp_path: Path):
    commands = [InterrogateCommand(task_id=f"t{i}", picture=given(photo(seed=i)), tags=3) for i in (5, 5, 9)]
    first, again, _ = ask(*commands)
    assert isinstance(first, InterrogatedMessage)
    assert first.interrogation == again.interrogation
    assert len(first.interrogation.wording("en").tags) <= 3
    (kept,) = (tmp_path / CACHE_DIR).iterdir()
    before = kept.stat().st_mtime_ns
    (third,) = ask(commands[0])
    assert third.interrogation == first.interrogation, "from the file as from the model"
    assert kept.stat().st_mtime_ns == before


def test_failures_are_told(ask, tmp_path: Path, models_dir: Path, monkeypatch):
    broken = PictureSource(data_base64=base64.b64encode(b"no picture").decode())
    lost, damaged = ask(
        InterrogateCommand(task_id="a", picture=PictureSource(sha256="0" * 64)),
        InterrogateCommand(task_id="b", picture=broken),
    )
    assert isinstance(lost, TaskFailedMessage)
    assert (lost.task_id, lost.error["code"], damaged.error["code"]) == ("a", "not_found", "bad_file")
    monkeypatch.setattr(clip_files, "BUILTIN_DIR", tmp_path / "nowhere")
    (missing,) = ask(EmbedCommand(task_id="c", texts=("x",)), models=None)
    assert missing.error["code"] == "missing_weights"
    assert missing.error["next_step"]
    monkeypatch.setattr(clip.MiniClip, "embed_texts", lambda *_: 1 / 0)
    (bug,) = ask(EmbedCommand(task_id="d", texts=("x",)))
    assert bug.error["code"] == "worker"


def test_from_the_studio_through_a_worker_process(tmp_path: Path):
    """What is missing is said; once it is there, the same worker sees."""
    models = tmp_path / "models"
    (models / "mini-clip").mkdir(parents=True)
    settings = load_settings(data_dir=tmp_path, models_dir=models, device="cpu", precision="float32")
    with Studio(settings) as studio:
        with pytest.raises(MissingWeightsError, match="mini-CLIP") as caught:
            studio.interrogate(png(photo()))
        assert str(models / "mini-clip") in str(caught.value.value)
        build_clip(models / "mini-clip")
        found = studio.interrogate(png(photo()))
        assert set(found.words) == {"en", "zh-Hans", "zh-Hant"}
        assert found.model == clip_files.find_clip(models).sha256()
        assert studio.search("the cat") == []
        assert 0.0 <= studio.score(png(photo()), "the cat") <= 1.0


def test_a_named_interrogator_answers_and_needs_no_mini_clip(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from danqing.models.interrogators.wording import interrogation
    from danqing.spec.sight import Tag

    asked: list[Any] = []

    class Stand:
        def look(self, picture: Image.Image, how: Any) -> Any:
            asked.append((picture.size, how))
            return interrogation("wd14", picture, "1girl", [Tag(text="1girl", score=0.9)], "a" * 64)

    monkeypatch.setattr("danqing.workers.sight.open_interrogator", lambda name, *_: Stand())
    monkeypatch.setattr(clip_files, "find_clip", None)  # would fail if it were asked
    question = InterrogateCommand(
        task_id="t", picture=given(photo()), tags=7, interrogator="wd14", threshold=0.2, character_threshold=0.6
    )
    (answer,) = ask(question, models=tmp_path)
    assert isinstance(answer, InterrogatedMessage), answer
    assert answer.interrogation.wording("zh-Hant").caption == "1girl"
    assert asked == [(photo().size, opening.Look(7, 0.2, 0.6))]


def test_a_named_interrogator_that_is_missing_is_said(ask, tmp_path: Path):
    (answer,) = ask(InterrogateCommand(task_id="t", picture=given(photo()), interrogator="wd14"), models=tmp_path)
    assert isinstance(answer, TaskFailedMessage)
    assert (answer.error["code"], answer.error["field"]) == ("missing_weights", "interrogator")
