"""`--control`: a ControlNet unit in one word, read from its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.cli.control_option import parse_control
from danqing.spec.errors import DanqingError, InvalidRequestError

READ: list[tuple[str, dict[str, Any]]] = [
    ("line:cat.png", {"model": "line", "image": "cat.png"}),
    ("line:cat.png:canny", {"model": "line", "image": "cat.png", "annotator": "canny"}),
    ("line:cat.png@0.8", {"model": "line", "image": "cat.png", "weight": 0.8}),
    (
        "a/line:my cat.png:canny@1.5,0.1-.5",
        {"model": "a/line", "image": "my cat.png", "annotator": "canny", "weight": 1.5, "start": 0.1, "end": 0.5},
    ),
    ("line:,0-0.5", {"model": "line", "start": 0.0, "end": 0.5}),
    ("line::canny", {"model": "line", "annotator": "canny"}),
    ("line:record:01J8Z-a_9", {"model": "line", "image": "record:01J8Z-a_9"}),
    ("line:record:abc:canny@2", {"model": "line", "image": "record:abc", "annotator": "canny", "weight": 2.0}),
    ("line:me@home/a,b.png", {"model": "line", "image": "me@home/a,b.png"}),
    ("line:cat@2x.png@1", {"model": "line", "image": "cat@2x.png", "weight": 1.0}),
    (
        "line:c.png,mode=prompt,resize=fill,mask=m.png,resolution=512,passes=base,low_threshold=50",
        {
            "model": "line", "image": "c.png", "mode": "prompt", "resize_mode": "fill", "mask": "m.png",
            "resolution_px": 512, "passes": "base", "params": {"low_threshold": "50"},
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "unit"), READ)
def test_what_is_read(text: str, unit: dict[str, Any]):
    assert parse_control(text) == unit


@pytest.mark.parametrize("text", ["", "line", ":cat.png", " :cat.png", "line:cat.png@", "line:cat.png,resolution=big"])
def test_what_is_not(text: str):
    with pytest.raises(InvalidRequestError) as caught:
        parse_control(text)
    assert caught.value.field == "--control"
    assert "MODEL:PICTURE" in str(caught.value)


@given(text=st.text(max_size=30) | st.text("line:@,0-.=9", max_size=20))
def test_nothing_else_is_raised(text: str):
    try:
        unit = parse_control(text)
    except DanqingError:
        return
    assert unit["model"]


def test_it_reaches_the_request(danqing, studio, picture):
    other = picture.with_name("other.png")
    other.write_bytes(picture.read_bytes())
    answer = danqing(
        "paint", "a hat", "--control", f"line:{picture}:canny@0.5,0-0.75,mask={other}", "--control", f"line:{other}"
    )
    assert answer.code == 0, answer.err
    first, second = studio.jobs()[0].request.controls
    assert (first.model, first.annotator, first.weight, first.end) == ("line", "canny", 0.5, 0.75)
    assert first.image == first.mask == second.image
    assert first.image.startswith("sha256:")


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ("line:nowhere.png", "no such file"),
        ("line:{picture}@3", "≤ 2"),
        ("line:{picture}@nan", "finite"),
        ("line:{picture},0.5-0.5", "ends before it begins"),
        ("line:{picture},mode=loud", "balanced"),
        ("line", "cannot be read"),
        ("line:{text}", "not a picture"),
    ],
)
def test_what_is_wrong_is_said_in_the_options_words(danqing, picture, tmp_path: Path, control: str, said: str):
    text = tmp_path / "note.txt"
    text.write_text("not a picture", encoding="utf-8")
    answer = danqing("paint", "a hat", "--control", control.format(picture=picture, text=text), "--json")
    assert answer.code != 0
    assert answer.error["field"] == "--control"
    assert said in str(answer.error)


def test_models_lists_them(danqing):
    answer = danqing("models", "--json")
    assert [net["name"] for net in answer.json["controlnets"]] == ["line"]
    assert [one["name"] for one in answer.json["networks"]] == ["ink"]
    assert "ControlNet" in danqing("models").out


def test_a_region_as_json_has_a_control_of_its_own(danqing, studio, picture):
    region = {"prompt": "a house", "box": {"left_px": 0, "top_px": 0, "right_px": 64, "bottom_px": 128}}
    region["control"] = {"model": "danqing-mini-line", "image": str(picture), "annotator": "canny", "weight": 0.7}
    answer = danqing("paint", "a street", "--region", json.dumps(region), "--json")
    assert answer.code == 0, answer.err
    (asked,) = studio.jobs()[0].request.regions
    assert (asked.control.model, asked.control.weight) == ("danqing-mini-line", 0.7)
    assert asked.control.image.startswith("sha256:")
    for typed, words in (
        ('{"prompt": ', "no JSON"),
        ('{"prompt": "a", "mask": 3}', "named by their files"),
        ('{"prompt": "a", "mask": "m.png", "control": {"image": []}}', "named by their files"),
    ):
        wrong = danqing("paint", "a street", "--region", typed, "--json")
        assert (wrong.code, wrong.error["field"]) == (2, "--region")
        assert words in wrong.error["message"]
