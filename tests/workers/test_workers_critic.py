"""Reviews and judgements by a worker, on a small mini-CLIP with random weights."""

from __future__ import annotations

import base64
import io
import queue
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danqing.spec.errors import DanqingError, MissingWeightsError
from danqing.workers.painter import Painter, PainterOptions
from danqing.workers.protocol import (
    COMMAND,
    MESSAGE,
    JudgeCommand,
    JudgedMessage,
    PictureSource,
    ReviewCommand,
    ReviewedMessage,
    TaskFailedMessage,
)
from easel import photo
from tiny_clip import build_clip


def given(image: Image.Image) -> PictureSource:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return PictureSource(data_base64=base64.b64encode(buffer.getvalue()).decode())


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    build_clip(root / "mini-clip")
    return root


def ask(tmp_path: Path, models: Path, *commands: Any) -> list[Any]:
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    painter = Painter(PainterOptions(tmp_path, models, device="cpu", precision="float32"), heard.put)
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for command in (*commands, None):
        waiting.put(COMMAND.validate_json(command.model_dump_json()) if command else None)
    painter.run(waiting)
    return [MESSAGE.validate_json(heard.get(timeout=30).model_dump_json()) for _ in commands]


def test_reviews_and_judgements(tmp_path: Path, models_dir: Path):
    image = photo()
    review = ReviewCommand(task_id="r", picture=given(image), brief="a cat, blue background")
    judge = JudgeCommand(task_id="j", brief="a cat", pictures=(given(image), given(image.rotate(90)), given(image)))
    answers = {answer.task_id: answer for answer in ask(tmp_path, models_dir, review, judge)}
    found, judged = answers["r"], answers["j"]
    assert isinstance(found, ReviewedMessage)
    assert found.findings.reviewer == "builtin"
    for one in found.findings.suggestions:
        assert one.box is None or (one.box.right_px <= image.width and one.box.bottom_px <= image.height)
    assert isinstance(judged, JudgedMessage)
    first, turned, same = judged.scores
    assert first == same
    assert first.similarity == pytest.approx(1.0)
    assert turned.similarity < 1.0
    assert first.judge.startswith("mini-clip ")
    assert "photometric" in first.judge


def test_what_cannot_be_answered_is_told(tmp_path: Path, models_dir: Path):
    broken = PictureSource(data_base64=base64.b64encode(b"no picture").decode())
    answers = ask(
        tmp_path,
        models_dir,
        ReviewCommand(task_id="a", picture=broken, brief="x"),
        ReviewCommand(task_id="b", picture=given(photo()), brief="x", reviewer="qwen"),
        JudgeCommand(task_id="c", brief="x", pictures=(PictureSource(sha256="0" * 64),)),
    )
    assert all(isinstance(answer, TaskFailedMessage) for answer in answers)
    errors = {answer.task_id: DanqingError.from_dict(answer.error) for answer in answers}
    assert isinstance(errors["b"], MissingWeightsError)
    assert "VLM" in (errors["b"].next_step or "")
