"""From a suggestion to a Request: words, masks, places; the contact sheet's words; pictures without metadata."""

from __future__ import annotations

import io
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from studio_helpers import make_job, make_plan, make_record

from danqing.spec.control import ControlUnit
from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.painting import Output
from danqing.spec.plan import InitPlan, MaskPlan
from danqing.spec.review import Said
from danqing.store.metadata import encode_picture, read_metadata
from danqing.store.plain import without_metadata
from danqing.studio.edits import changed_request, edit_request, fitted, mask_png, place_of
from danqing.studio.locks import hash_password, is_password
from danqing.studio.sheet_words import SHEET_WORDS
from danqing.studio.wording import Wish, joined, wish_of

MASK = "sha256:" + "a" * 64


def box(left, top, right, bottom, **more):
    return Said(**{"box": BoxPx(left_px=left, top_px=top, right_px=right, bottom_px=bottom), "prompt": "x", **more})


def record(prompt="red apple, 3d", width_px=128, height_px=128, **changes):
    job = make_job()
    plan = make_plan(prompt=prompt, **changes)
    return make_record(job, plan=plan, width_px=width_px, height_px=height_px)


def mask(said, width=128, height=128):
    place = place_of(said, width, height)
    with Image.open(io.BytesIO(mask_png(place, width, height))) as image:
        assert (image.mode, image.size) == ("L", (width, height))
        return np.asarray(image, dtype=np.float64) / 255


@pytest.mark.parametrize(
    ("said", "wish"),
    [
        ("a blue hat", Wish("a blue hat")),
        ("Please replace the cat with a sleeping dog.", Wish("a sleeping dog")),
        ("turn this into a rose", Wish("a rose")),
        ("make it brighter", Wish("brighter")),
        ("make the hat blue", Wish("blue hat")),
        ("add a small leaf here", Wish("a small leaf")),
        ("I would like to see more snow", Wish("more snow")),
        ("remove the person", Wish(gone="person")),
        ("Get rid of those clouds!", Wish(gone="clouds")),
        ("把苹果换成青苹果", Wish("青苹果")),
        ("把蘋果變成青色", Wish("青色")),
        ("改成蓝色背景吧", Wish("蓝色背景")),
        ("这里加上一朵花", Wish("花")),
        ("請去掉背景", Wish(gone="背景")),
        ("把这个人去掉", Wish(gone="这个人")),
        ("不要云", Wish(gone="云")),
        ("加一只猫", Wish("猫")),
        ("加州阳光", Wish("加州阳光")),
        ("画框", Wish("画框")),
        ("paint splashes on the wall", Wish("paint splashes on the wall")),
        ("please put a hat there", Wish("a hat")),
        ("", Wish("")),
        ("  ，。 ", Wish("")),
    ],
)
def test_wishes_are_read(said, wish):
    assert wish_of(said) == wish


@pytest.mark.parametrize(
    ("wish", "prompt", "whole", "expected"),
    [
        ("pear", "apple, 3d", False, "pear, 3d"),
        ("pear, 3D", "apple, 3d", False, "pear, 3D"),
        ("pear", "(apple, shiny:1.2), 3d", False, "pear, 3d"),
        ("pear", "apple <lora:ink:0.8>, 3d", False, "pear, 3d, <lora:ink:0.8>"),
        ("pear", "<lora:ink:0.8>, apple, 3d", False, "pear, 3d, <lora:ink:0.8>"),
        ("pear", "apple AND fog", False, "pear"),
        ("snow", "apple AND fog", True, "snow, apple AND fog"),
        ("青梨", "红苹果，立体", False, "青梨，立体"),
        ("青梨", "red apple, 3d", False, "青梨, 3d"),
        ("", "", True, ""),
    ],
)
def test_wish_and_prompt_are_joined(wish, prompt, whole, expected):
    assert joined(wish, prompt, whole=whole) == expected


@given(st.text(max_size=200), st.text(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_words_can_be_joined(said, prompt, whole):
    wish = wish_of(said)
    assert isinstance(joined(wish.seen, prompt, whole=whole), str)


@pytest.mark.parametrize("text", ["把" * 4000, "replace " * 500, "make the " * 400, "change a to " * 300])
def test_long_words_are_read_quickly(text):
    wish_of(text)


def test_the_mask_of_a_box():
    soft = mask(box(32, 40, 96, 80))
    assert soft[60, 64] == 1
    assert soft[0, 0] == soft[60, 120] == soft[127, 127] == 0
    assert 0.3 < soft[60, 32] < 0.8  # the edge is where the box ends, and soft
    assert soft.sum() == pytest.approx(64 * 40, rel=0.02)
    outside = soft.copy()
    outside[40 - 12 : 80 + 12, 32 - 12 : 96 + 12] = 0
    assert not outside.any()


def test_the_mask_of_a_lasso():
    turns = [step / 20 * math.tau for step in range(20)]
    circle = tuple((64 + round(30 * math.cos(turn)), 64 + round(30 * math.sin(turn))) for turn in turns)
    soft = mask(Said(lasso=circle, prompt="x"))
    assert soft[64, 64] == 1
    assert soft[64 + 24, 64 + 24] < 0.2 < soft[64, 64 + 28]  # a circle, not its box
    assert soft.sum() == pytest.approx(math.pi * 30.5**2, rel=0.06)
    assert soft[0].sum() == 0


def test_the_smallest_places_have_a_mask():
    assert mask(box(5, 5, 6, 6)).max() > 0.05
    assert mask(box(127, 127, 128, 128)).max() > 0.05


def test_places_are_kept_inside_the_picture():
    assert fitted(box(100, 100, 900, 900), 128, 128).box.as_tuple() == (100, 100, 128, 128)
    lasso = Said(lasso=((0, 0), (500, 0), (60, 500)), prompt="x")
    assert fitted(lasso, 128, 128).lasso == ((0, 0), (127, 0), (60, 127))
    with pytest.raises(InvalidRequestError, match="outside"):
        fitted(box(128, 0, 140, 10), 128, 128)
    whole = Said(prompt="x")
    assert fitted(whole, 128, 128) == whole


def test_a_small_place_is_painted_larger():
    said = box(40, 40, 70, 80, prompt="make the apple green", strength=0.7)
    request = edit_request(record(), said, place_of(said, 128, 128), MASK)
    assert (request.kind, request.prompt, request.strength) == ("inpaint", "green apple, 3d", 0.7)
    assert (request.only_masked, request.padding_px, request.mask_blur_px, request.mask) == (True, 13, 0, MASK)
    assert request.seed is None
    assert request.image == f"record:{request.parent}"
    assert (request.model, request.guidance.scale, request.sampling.steps) == ("danqing-mini", 7.0, 4)


def test_a_large_place_is_painted_where_it_is():
    said = box(0, 0, 128, 100, prompt="snow")
    assert edit_request(record(), said, place_of(said, 128, 128), MASK).only_masked is False


@pytest.mark.parametrize("said", [Said(prompt="in the snow"), box(0, 0, 128, 125, prompt="in the snow")])
def test_the_whole_picture_is_painted_again(said):
    place = place_of(said, 128, 128)
    request = edit_request(record(), said, place, None)
    assert place is None
    assert (request.kind, request.prompt, request.strength) == ("img2img", "in the snow, red apple, 3d", 0.6)


def test_what_is_to_go_is_filled_from_around():
    said = box(40, 40, 70, 80, prompt="把苹果去掉", strength=0.4)
    request = edit_request(record(), said, place_of(said, 128, 128), MASK)
    assert (request.prompt, request.fill, request.strength) == ("3d", "fill", 0.9)
    assert request.negative_prompt == "苹果"


def test_an_edit_of_an_edit():
    first = record(kind="inpaint", init=InitPlan(image="c" * 64), mask=MaskPlan(mask="d" * 64))
    said = box(4, 4, 20, 20, prompt="leaf")
    request = edit_request(first, said, place_of(said, 128, 128), MASK)
    assert (request.kind, request.image, request.mask) == ("inpaint", f"record:{first.id}", MASK)


def test_a_person_changes_the_draft():
    said = box(40, 40, 70, 80, prompt="pear")
    draft = edit_request(record(), said, place_of(said, 128, 128), MASK)
    changed = changed_request(draft, {"strength": 0.9, "count": 3, "sampling": {"steps": 9}})
    assert (changed.strength, changed.count, changed.sampling.steps, changed.mask) == (0.9, 3, 9, MASK)
    assert changed.sampling.sampler == draft.sampling.sampler
    whole = changed_request(draft, {"kind": "img2img"})
    assert (whole.kind, whole.image, whole.prompt) == ("img2img", draft.image, "pear, 3d")
    assert changed_request(draft, {"kind": "txt2img"}).kind == "txt2img"
    for wrong in ({"strength": 7}, {"colour": "red"}, {"kind": "dance"}, {"controls": [ControlUnit]}):
        with pytest.raises(InvalidRequestError):
            changed_request(draft, wrong)


def test_a_picture_beyond_painting():
    with pytest.raises(InvalidRequestError, match="cannot be painted on"):
        edit_request(record(width_px=8), Said(prompt="x"), None, None)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_loses_what_it_says_and_no_pixel(form, mode):
    noise = np.random.default_rng(3).integers(0, 255, (40, 56, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert(mode)
    plan = make_plan(prompt="a secret brief")
    data = encode_picture(image, Output(format=form), infotext="a secret brief", plan=plan).data
    assert read_metadata(data).plan == plan
    plain = without_metadata(data)
    told = read_metadata(plain)
    assert (told.infotext, told.plan, told.texts) == ("", None, {})
    assert b"secret" not in plain
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(plain)) as after:
        assert (before.mode, before.size) == (after.mode, after.size)
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert without_metadata(plain) == plain


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF\x10\0\0\0WEBP"]))
@settings(max_examples=200, deadline=None)
def test_anything_else_is_refused_or_cut(data, head):
    with suppress(BadFileError):
        assert isinstance(without_metadata(head + data), bytes)


def test_passwords():
    kept = hash_password("café 春")
    assert "café" not in kept
    assert is_password("cafe\u0301 春", kept)  # the same letters in other code points
    assert not is_password("cafe 春", kept)
    assert hash_password("café 春") != kept


def test_every_language_has_every_word():
    keys = {language: set(words) for language, words in SHEET_WORDS.items()}
    assert set(keys) == {"en", "zh-Hans", "zh-Hant"}
    assert keys["en"] == keys["zh-Hans"] == keys["zh-Hant"]
    assert all(word.strip() for words in SHEET_WORDS.values() for word in words.values())


@pytest.mark.parametrize("lasso", [((1, 1), (5, 5), (9, 9)), ((3, 3), (3, 3), (3, 3)), ((0, 0), (0, 9), (0, 4))])
def test_a_lasso_encloses_something(lasso):
    with pytest.raises(ValueError, match="encloses nothing"):
        Said(lasso=lasso, prompt="x")


def test_a_lasso_may_cross_itself():
    eight = Said(lasso=((0, 0), (40, 40), (40, 0), (0, 40)), prompt="x")
    assert mask(eight).max() == 1
