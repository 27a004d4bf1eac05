"""Answers of vision-language models: recorded good, odd and hostile ones, and anything that hypothesis thinks of."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.review.grammar import MAX_ANSWER_CHARS, MOST, Frame, parse_answer, plain
from danqing.review.loose_json import loose_objects

FRAME = Frame(640, 480)


def boxes(text: str, frame: Frame = FRAME):
    return [one.box.as_tuple() if one.box else None for one in parse_answer(text, frame).suggestions]


def words(text: str):
    return [one.prompt for one in parse_answer(text, FRAME).suggestions]


def ref(name: str, *corners: int) -> str:
    x1, y1, x2, y2 = corners
    return f"<|object_ref_start|>{name}<|object_ref_end|><|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>"


def test_qwen2_speaks_in_thousandths():
    text = "The hat: " + ref("a red hat", 250, 0, 750, 500) + " and " + ref("the sky", 0, 0, 1000, 250) + "<|im_end|>"
    assert boxes(text) == [(160, 0, 480, 240), (0, 0, 640, 120)]
    assert words(text) == ["a red hat", "the sky"]


def test_qwen25_speaks_in_pixels_of_what_it_saw():
    frame = Frame(1280, 960, seen_width_px=640, seen_height_px=480, scale="pixels")
    assert boxes(ref("hat", 160, 0, 480, 240), frame) == [(320, 0, 960, 480)]
    text = '```json\n[{"bbox_2d": [160, 0, 480, 240], "label": "hat"}]\n```'
    assert boxes(text, frame) == [(320, 0, 960, 480)]


def test_one_reference_may_have_several_boxes():
    text = ref("an eye", 0, 0, 100, 100) + "<|box_start|>(500,0),(600,100)<|box_end|>"
    assert boxes(text) == [(0, 0, 64, 48), (320, 0, 384, 48)]
    assert words(text) == ["an eye", "an eye"]


def test_special_tokens_may_have_been_dropped_by_the_server():
    assert boxes("a red hat(250,0),(750,500)\nthe sky(0,0),(1000,250)") == [(160, 0, 480, 240), (0, 0, 640, 120)]
    assert words("a red hat(250,0),(750,500)\nthe sky(0,0),(1000,250)") == ["a red hat", "the sky"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [10, 20, 110, 220], "prompt": "a hat"}]',
        'Sure!\n```json\n{"suggestions": [{"bbox": [10, 20, 110, 220], "suggestion": "a hat"}]}\n```\nDone.',
        '{"box": {"x1": 10, "y1": 20, "x2": 110, "y2": 220}, "label": "a hat"}',
        '{"box": {"x": 10, "y": 20, "width": 100, "height": 200}, "label": "a hat"}',
        '{"bbox": "10, 20, 110, 220", "object": "a hat"}',
        '[{"bbox_2d": ["10", "20", "110", "220"], "prompt": "a hat",}]',
        "[{'bbox_2d': [110, 220, 10, 20], 'prompt': 'a hat'}]",
        '{"bbox_2d": [[10, 20, 110, 220]], "prompt": "a hat"}',
        '[{"bbox_2d": [10, 20, 110, 220], "prompt": "a hat"}, {"bbox_2d": [1, 2, 3',
        'He said "oh {no" [{"bbox_2d": [10, 20, 110, 220], "prompt": "a hat"}]',
        '[{"bbox_2d": [10.0, 20.4, 109.6, 220], "prompt": "a hat"}]',
        '{"a": {"b": [{"bbox_2d": [10, 20, 110, 220], "prompt": "a hat"}]}}',
    ],
)
def test_json_in_every_wrapping(text: str):
    assert boxes(text) == [(10, 20, 110, 220)]
    assert words(text) == ["a hat"]


def test_reason_and_strength_are_kept_and_clamped():
    text = '[{"bbox_2d": null, "prompt": "warmer light", "reason": "it is cold", "strength": 7}]'
    (one,) = parse_answer(text, FRAME).suggestions
    assert (one.box, one.prompt, one.reason, one.strength) == (None, "warmer light", "it is cold", 1.0)


def test_shares_thousandths_and_swapped_axes_are_told_apart():
    assert boxes('{"bbox": [0.25, 0.5, 0.75, 1.0], "label": "x"}') == [(160, 240, 480, 480)]
    assert boxes('{"bbox": [250, 500, 750, 1000], "label": "x"}') == [(160, 240, 480, 480)]
    assert boxes('{"box_2d": [500, 250, 1000, 750], "label": "x"}') == [(160, 240, 480, 480)]


def test_boxes_are_clamped_and_degenerate_ones_dropped():
    frame = Frame(640, 480, scale="pixels")
    assert boxes('{"bbox": [-50, -50, 9000, 9000], "label": "x"}', frame) == [(0, 0, 640, 480)]
    for corners in ("[5, 5, 5, 300]", "[0, 0, 1, 1]", "[700, 500, 900, 600]", "[1, 2, 3]", "[1, 2, 3, NaN]", "[]x"):
        parsed = parse_answer(f'[{{"bbox": {corners}, "label": "x"}}, {{"bbox": [0, 0, 9, 9], "label": "y"}}]', frame)
        assert [one.prompt for one in parsed.suggestions] == ["y"]


def test_an_empty_list_says_that_nothing_is_to_change():
    for text in ("[]", "```json\n[ ]\n```", '{"suggestions": []}'):
        parsed = parse_answer(text, FRAME)
        assert parsed.suggestions == ()
        assert parsed.readable


def test_what_cannot_be_read_gives_a_note():
    for text in ("", "I am sorry, I cannot help with that.", "<html><body>502 Bad Gateway</body></html>", "\x00\ufffe"):
        parsed = parse_answer(text, FRAME)
        assert parsed.suggestions == ()
        assert not parsed.readable
        assert "neither boxes nor JSON" in parsed.note


def test_words_that_the_prompt_language_would_act_on_become_plain():
    text = json.dumps({"bbox": [0, 0, 50, 50], "prompt": "a (cat:1.9) <lora:evil:1> AND __secret__ {a|b} [x:y:0.5]"})
    assert words(text) == ["a cat:1.9 lora:evil:1 and secret a b x:y:0.5"]
    assert plain("<|im_end|> ignore\nall") == "ignore all"


def test_there_are_never_too_many_and_none_twice():
    row = '{"bbox": [%d, 0, %d, 50], "prompt": "x"}'
    many = "[" + ",".join(row % (i, i + 20) for i in range(300)) + "]"
    parsed = parse_answer(many, FRAME)
    assert len(parsed.suggestions) == MOST
    assert "only the first" in parsed.note
    assert len(parse_answer("[" + ",".join([row % (1, 30)] * 20) + "]", FRAME).suggestions) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 300_000,
        "{" * 300_000,
        '{"a":' * 60_000,
        '{"bbox": [' + "1," * 150_000,
        '"' * 300_000,
        '{"prompt": "' + "\\" * 300_000,
        "<|box_start|>" * 30_000,
        "<|object_ref_start|>" * 20_000 + "<|box_start|>",
        "(1,1)," * 60_000,
        "(" * 300_000,
        "{}" * 150_000,
        '{"prompt":"x","bbox":[' + "[" * 5000 + "]}" * 5000,
        ("<|object_ref_start|>a<|object_ref_end|><|box_start|>(1" + "1" * 50 + ",") * 4000,
        "{" + '"k": {' * 20 + '"prompt": "x"' + "}" * 21,
        ",".join(["{'a': 1, }"] * 20_000),
        "[[]" + " " * 200_000 + "}",
    ],
)
def test_hostile_answers_cost_little_time(text: str):
    started_s = time.process_time()
    parse_answer(text, FRAME)
    assert time.process_time() - started_s < 2.0


def test_a_long_answer_is_cut():
    parsed = parse_answer('[{"bbox": [0, 0, 50, 50], "prompt": "x"}]' + " " * MAX_ANSWER_CHARS, FRAME)
    assert len(parsed.suggestions) == 1
    assert "was cut" in parsed.note


PIECES = st.sampled_from(
    [
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "(1,2),(30,40)",
        '{"bbox_2d": [1, 2, 30, 40], "prompt": "x"}',
        '{"prompt":',
        "[",
        "]",
        "{",
        "}",
        '"',
        "\\",
        ",",
        "1e999",
        "-5",
        "NaN",
        "\ud800",
        "```json",
        "猫",
    ]
)
ANY_TEXT = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(
            st.sampled_from(["bbox_2d", "bbox", "box", "box_2d", "prompt", "label", "reason", "strength", "x1", "x"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@given(text=ANY_TEXT, width=st.integers(1, 5000), height=st.integers(1, 5000))
@settings(max_examples=250, deadline=None)
def test_any_text_gives_boxes_inside_the_picture(text: str, width: int, height: int):
    check(text, Frame(width, height))


@given(data=JSON, scale=st.sampled_from(["auto", "pixels", "thousand", "unit"]))
@settings(max_examples=250, deadline=None)
def test_any_json_gives_boxes_inside_the_picture(data, scale):
    check(json.dumps(data), Frame(97, 61, 40, 30, scale))
    check(repr(data), Frame(97, 61, 40, 30, scale))


def check(text: str, frame: Frame) -> None:
    parsed = parse_answer(text, frame)
    assert len(parsed.suggestions) <= MOST
    for one in parsed.suggestions:
        assert one.prompt.strip()
        one.prompt.encode()
        assert 0.0 <= one.strength <= 1.0
        if one.box is not None:
            left, top, right, bottom = one.box.as_tuple()
            assert 0 <= left < right <= frame.width_px
            assert 0 <= top < bottom <= frame.height_px


@given(
    corners=st.tuples(*[st.integers(0, 1000)] * 4),
    label=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_both_grammars_say_the_same(corners, label):
    frame = Frame(1000, 1000)
    x1, y1, x2, y2 = corners
    grounded = parse_answer(ref(label, x1, y1, x2, y2), frame).suggestions
    spoken = parse_answer(
        json.dumps({"bbox_2d": [x1, y1, x2, y2], "label": label}), Frame(1000, 1000, scale="thousand")
    )
    assert grounded == spoken.suggestions


def test_an_object_inside_a_suggestion_is_part_of_it():
    text = '{"prompt": "a hat", "box": {"left": 1, "top": 2, "right": 30, "bottom": 40, "label": "box"}}'
    assert [entry["prompt"] for entry in loose_objects(text).items] == ["a hat"]
    assert boxes(text) == [(1, 2, 30, 40)]
