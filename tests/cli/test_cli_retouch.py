"""`danqing retouch` over the studio in memory: the order of the steps, what they mean, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from danqing.cli.step_option import STEP_OPTIONS, parse_step
from danqing.spec.errors import InvalidRequestError
from danqing.spec.retouch import RetouchRequest


@pytest.fixture
def asked(studio, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    requests: list[Any] = []
    submit = studio.submit

    def noted(request: Any, **fields: Any) -> Any:
        requests.append(request)
        return submit(request, **fields)

    monkeypatch.setattr(studio, "submit", noted)
    return requests


def test_steps_are_done_in_the_order_they_were_typed(danqing, picture: Path, asked: list[Any]):
    answer = danqing(
        "retouch", str(picture), "a cat", "--upscale", "4,by=Lanczos",
        "--detail", "hand,strength=.5,max=2:five fingers --no six", "--cutout", "--upscale",
        "--detail", "--restore-faces", "--seed", "7", "-o", "out.png", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert Path("out.png").is_file()
    (request,) = asked
    assert isinstance(request, RetouchRequest)
    assert [step.kind for step in request.steps] == [
        "upscale", "detail", "cutout", "upscale", "detail", "restore_faces",
    ]  # fmt: skip
    first, hand, cut, second, face, _ = request.steps
    assert (first.scale, first.upscaler, second.scale) == (4, "Lanczos", 2)
    assert (hand.detect, hand.strength, hand.max_count) == ("hand", 0.5, 2)
    assert (hand.prompt, hand.negative_prompt) == ("five fingers", "six")
    assert (cut.method, face.detect, request.prompt, request.seed) == ("auto", "face", "a cat", 7)
    assert request.image.startswith("sha256:")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((), "--detail"),
        (("--upscale", "lots"), "--upscale"),
        (("--cutout", "--upscale", "99"), "--upscale (step 2): scale"),
        (("--detail", "face,strength=9"), "--detail (step 1): strength"),
        (("--detail", "face,colour=red"), "--detail"),
        (("--upscale", "2,tiled,strength=7"), "--upscale (step 1): strength"),
        (("--cutout", "scissors"), "--cutout (step 1): method"),
        (("--cutout", "--steps", "0"), "--steps"),
    ],
)
def test_mistakes_name_the_option(danqing, picture: Path, asked: list[Any], arguments: tuple[str, ...], field: str):
    answer = danqing("retouch", str(picture), *arguments, "-o", "out.png", "--json")
    assert (answer.code, answer.error["field"]) == (2, field)
    assert asked == []
    assert not Path("out.png").exists()


def test_a_picture_that_is_not_there_is_in(danqing):
    assert danqing("retouch", "none.png", "--cutout", "--json").error["field"] == "IN"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("upscale", "64x48,tile=9:x", {"width_px": "64", "height_px": "48", "tiled": {"tile_px": "9", "prompt": "x"}}),
        ("upscale", "2x,mode=tiles", {"scale": "2", "tiled": {"mode": "tiles"}}),
        ("cutout", "plain,trim,grow=-2", {"method": "plain", "trim": True, "grow_px": "-2"}),
        ("cutout", "auto,background=#ffffff", {"method": "auto", "background": "#ffffff"}),
        ("restore_faces", "GFPGANv1.4,visibility=0.5", {"model": "GFPGANv1.4", "visibility": "0.5"}),
        ("restore_faces", "auto", {}),
        ("detail", "word:a cat,max-area=.5", {"detect": "word:a cat", "max_area": ".5"}),
        ("detail", "face_yolov8n.pt,classes=face+hand", {"detect": "face_yolov8n.pt", "classes": ("face", "hand")}),
    ],
)  # fmt: skip
def test_how_a_step_is_read(kind: str, text: str, expected: dict[str, Any]):
    assert parse_step(kind, text) == {"kind": kind, **expected}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("detail", "face,big"),
        ("cutout", "plain:words"),
        ("upscale", "x"),
        ("detail", "face,strength="),
        ("cutout", "a,b=1"),
    ],
)
def test_what_cannot_be_read(kind: str, text: str):
    with pytest.raises(InvalidRequestError) as caught:
        parse_step(kind, text)
    assert caught.value.field == STEP_OPTIONS[kind]
    assert caught.value.next_step
