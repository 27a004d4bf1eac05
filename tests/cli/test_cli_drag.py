"""`danqing drag` over the studio in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.cli.drag import parse_point
from danqing.spec.errors import InvalidRequestError


def test_a_picture_is_dragged(danqing, picture: Path):
    answer = danqing("drag", str(picture), "a cat", "--point", "4,4:8,6", "-p", "9,9:9,9", "-o", "out.png", "--json")
    assert answer.code == 0, answer.err
    assert [shown["path"].endswith("out.png") for shown in answer.json["pictures"]] == [True]
    assert Path("out.png").is_file()


def test_quality_takes_its_numbers(danqing, picture: Path):
    arguments = ("--mode", "quality", "--method", "gooddrag", "--no-identity", "--rate", "0.05", "--steps", "20")
    answer = danqing("drag", str(picture), "--point", "4,4:8,6", *arguments, "-o", "out.png", "--json")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--point", "4,4"), "--point"),
        (("--point", "4,4:9999,6"), "--point"),
        (("--point", "4,4:8,6", "--mode", "slow"), "--mode"),
        (("--point", "4,4:8,6", "--repair", "2"), "--repair"),
        (("--point", "4,4:8,6", "--feather", "99"), "--feather"),
        (("--point", "4,4:8,6", "--mask", "none.png"), "--mask"),
    ],
)
def test_mistakes_name_the_option(danqing, picture: Path, arguments: tuple[str, ...], field: str):
    answer = danqing("drag", str(picture), *arguments, "-o", "out.png", "--json")
    assert (answer.code, answer.error["field"]) == (2, field), answer.err
    assert not Path("out.png").exists()


def test_a_missing_picture_is_named(danqing):
    assert danqing("drag", "none.png", "--point", "4,4:8,6", "--json").error["field"] == "IN"


@pytest.mark.parametrize("text", ["", "1,2", "1,2:3", "a,b:c,d", "1,2:3,4:5,6", "-1,2:3,4"])
def test_points_that_cannot_be_read(text: str):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        parse_point(text)


def test_points_may_be_written_with_an_arrow():
    assert parse_point("1, 2 -> 3, 4") == parse_point("1,2:3,4")
