"""`--image-prompt`, `danqing vary` and `danqing blend`: what they make of the command line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.cli.blend import parse_weights
from danqing.cli.image_option import parse_image_prompt
from danqing.spec.errors import DanqingError, InvalidRequestError

READ: list[tuple[str, dict[str, Any]]] = [
    ("cat.png", {"image": "cat.png"}),
    ("cat.png@0.8", {"image": "cat.png", "weight": 0.8}),
    ("my cat, a@b.png@1.5,0.1-.5", {"image": "my cat, a@b.png", "weight": 1.5, "start": 0.1, "end": 0.5}),
    ("cat@2x.png", {"image": "cat@2x.png"}),
    ("record:01J8Z-a_9@2", {"image": "record:01J8Z-a_9", "weight": 2.0}),
    ("a,0-1", {"image": "a", "start": 0.0, "end": 1.0}),
]


@pytest.mark.parametrize(("text", "prompt"), READ)
def test_what_is_read(text: str, prompt: dict[str, Any]):
    assert parse_image_prompt(text) == prompt


@pytest.mark.parametrize("text", ["", "  ", "@0.5", "cat.png@", ",0-1"])
def test_what_is_not(text: str):
    with pytest.raises(InvalidRequestError) as caught:
        parse_image_prompt(text)
    assert caught.value.field == "--image-prompt"


@given(text=st.text(max_size=30) | st.text("a:@,0-.=9", max_size=20))
def test_nothing_else_is_raised(text: str):
    try:
        assert parse_image_prompt(text)["image"]
    except DanqingError:
        return


def test_it_reaches_the_request(danqing, studio, picture):
    answer = danqing(
        "paint", "a hat", "--image-prompt", f"{picture}@0.5,0-0.75", "--image-prompt", str(picture),
        "--image-mix", "average", "--image-adapter", "danqing-mini",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    first, second = request.image_prompts
    assert (first.weight, first.end, second.weight) == (0.5, 0.75, 1.0)
    assert first.image == second.image
    assert first.image.startswith("sha256:")
    assert (request.image_mix, request.image_adapter) == ("average", "danqing-mini")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("nowhere.png", "no such file"),
        ("{picture}@3", "≤ 2"),
        ("{picture},0.5-0.5", "ends before it begins"),
        ("", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_the_options_words(danqing, picture, prompt: str, said: str):
    answer = danqing("paint", "a hat", "--image-prompt", prompt.format(picture=picture), "--json")
    assert answer.code != 0
    assert answer.error["field"] == "--image-prompt"
    assert said in str(answer.error)


def test_vary_paints_four_pictures_like_one(danqing, studio, picture):
    answer = danqing("vary", str(picture), "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["pictures"]) == 4
    request = studio.jobs()[0].request
    assert (request.kind, request.prompt, request.count, len(request.image_prompts)) == ("txt2img", "", 4, 1)


def test_vary_with_words_and_a_strength_keeps_the_layout(danqing, studio, picture):
    answer = danqing("vary", str(picture), "at night", "-n", "2", "--strength", "0.6", "--weight", "0.8", "-s", "3")
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert (request.kind, request.prompt, request.count, request.strength) == ("img2img", "at night", 2, 0.6)
    assert request.image_prompts[0].weight == 0.8
    assert request.image == request.image_prompts[0].image


def test_blend_averages_with_weights(danqing, studio, picture):
    answer = danqing("blend", str(picture), str(picture), str(picture), "--weights", "50,30,20", "-n", "1")
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert [one.weight for one in request.image_prompts] == [1.0, 0.6, 0.4]
    assert (request.image_mix, request.count) == ("average", 1)
    danqing("blend", str(picture), str(picture), "--mix", "tokens", "--brief", "a robot", "--strength", "0.5")
    request = next(job.request for job in studio.jobs() if job.request.image_mix == "tokens")
    assert ([one.weight for one in request.image_prompts], request.prompt) == ([0.5, 0.5], "a robot")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("blend", "{p}"), "A B [C D E]"),
        (("blend", *["{p}"] * 6), "A B [C D E]"),
        (("blend", "{p}", "{p}", "--weights", "1"), "--weights"),
        (("blend", "{p}", "{p}", "--weights", "1,-2"), "--weights"),
        (("blend", "{p}", "{p}", "--weights", "nan,1"), "--weights"),
        (("blend", "{p}", "{p}", "--strength", "0"), "--strength"),
        (("vary", "{p}", "--strength", "0"), "--strength"),
        (("vary", "{p}", "--weight", "5"), "--image-prompt"),
        (("vary", ""), "PICTURE"),
    ],
)
def test_what_cannot_be_blended_or_varied(danqing, picture, arguments: tuple[str, ...], field: str):
    answer = danqing(*(argument.format(p=picture) for argument in arguments), "--json")
    assert answer.code == 2
    assert answer.error["field"] == field


def test_weights_may_have_any_scale():
    assert parse_weights(None, 3) == [1.0, 1.0, 1.0]
    assert parse_weights("0.7,0.3", 2) == [0.7, 0.3]


def test_models_lists_them(danqing):
    assert [one["name"] for one in danqing("models", "--json").json["image_adapters"]] == ["danqing-mini"]
    assert "IP-Adapter" in danqing("models").out
