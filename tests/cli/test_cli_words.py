"""`danqing words`: what is typed, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.cli.words import WordsOptions, parse_local, parse_weight, words_data
from danqing.spec.errors import InvalidRequestError
from danqing.spec.request import parse_request


def data(**options: Any) -> dict[str, Any]:
    return words_data(WordsOptions(**options), None)


def test_what_is_typed_is_a_request():
    found = data(
        picture="record:abc",
        source="a cat on grass",
        target="a dog on grass",
        weight=["grass=1.5", "dog=-1"],
        local=["cat:dog", "grass"],
        cross=0.8,
        self_share=0.5,
        steps=20,
        size="64x96",
    )
    request = parse_request(found)
    assert request.kind == "words"
    assert [(one.word, one.weight) for one in request.weights] == [("grass", 1.5), ("dog", -1.0)]
    assert [(one.source, one.target) for one in request.local] == [("cat", "dog"), ("grass", "grass")]
    assert (request.width_px, request.height_px) == (64, 96)
    assert request.sampling.steps == 20
    assert (request.cross_share, request.self_share, request.inversion) == (0.8, 0.5, None)


def test_what_is_left_out_is_left_open():
    """What is not typed must not stand against the picture's own Plan."""
    assert set(data(picture="record:abc", target="a dog")) == {"kind", "image", "prompt"}


@pytest.mark.parametrize("text", ["grass", "grass=", "=1", "grass=much"])
def test_unreadable_weights(text: str):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        parse_weight(text)


@pytest.mark.parametrize("text", ["", "a:b:c", "cat:", ":dog"])
def test_unreadable_places(text: str):
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        parse_local(text)


def test_a_picture_is_changed_and_written(danqing: Any, studio: Any, picture: Any, tmp_path: Any):
    out = tmp_path / "dog.png"
    arguments = ("--from", "a cat on grass", "--to", "a dog on grass", "--local", "cat:dog", "-o", str(out), "--json")
    answer = danqing("words", str(picture), *arguments)
    assert answer.code == 0
    assert answer.json["pictures"][0]["path"] == str(out)
    assert out.exists()
    request = studio.jobs()[0].request
    assert request.kind == "words"
    assert request.image.startswith("sha256:")
    assert request.local[0].target == "dog"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--weight", "grass"), "--weight"),
        (("--weight", "grass=99"), "--weight"),
        (("--local", "a:b:c"), "--local"),
        (("--cross", "2"), "--cross"),
        (("--inversion", "none"), "--inversion"),
        (("--size", "wide"), "--size"),
    ],
)
def test_errors_name_the_option(danqing: Any, arguments: tuple[str, ...], option: str):
    answer = danqing("words", "--from", "a cat", "--to", "a dog", *arguments, "--json")
    assert answer.code == 2
    assert answer.error["field"] == option
