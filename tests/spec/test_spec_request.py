"""Bad input gets an error that names field, value, what is allowed and the next step; good input survives JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from danqing.spec.complaints import KINDS
from danqing.spec.errors import DanqingError, InvalidRequestError
from danqing.spec.geometry import BoxPx, SizePx
from danqing.spec.request import REQUEST, parse_request

SHA = "sha256:" + "a" * 64
IMAGE = {"kind": "img2img", "image": SHA}

BAD: list[tuple[str, Any, str]] = [
    # what is sent, the field that is named, words that are said of it
    ({"width_px": 0}, "width_px", "≥ 16"),
    ({"width_px": -64}, "width_px", "≥ 16"),
    ({"height_px": 10**9}, "height_px", "≤ 4096"),
    ({"width_px": "wide"}, "width_px", "whole number"),
    ({"width_px": 512.5}, "width_px", "whole number"),
    ({"count": 0}, "count", "≥ 1"),
    ({"count": 10_000}, "count", "≤ 64"),
    ({"seed": -1}, "seed", "≥ 0"),
    ({"seed": 2**64}, "seed", "≤ 18446744073709551615"),
    ({"prompt": "x" * 20_001}, "prompt", "20000"),
    ({"prompt": None}, "prompt", "text"),
    ({"prompt": ["a", "cat"]}, "prompt", "text"),
    ({"clip_skip": 0}, "clip_skip", "≥ 1"),
    ({"emphasis": "Loud"}, "emphasis", "Original"),
    ({"noise": "dice"}, "noise", "cpu"),
    ({"syntax": "poem"}, "syntax", "a1111"),
    ({"precision": "float6"}, "precision", "auto"),
    ({"styles": ["a"] * 33}, "styles", "32"),
    ({"model": "m" * 300}, "model", "256"),
    ({"colour": "red"}, "colour", "no such field"),
    ({"sampling": {"steps": 0}}, "sampling.steps", "≥ 1"),
    ({"sampling": {"steps": 501}}, "sampling.steps", "≤ 500"),
    ({"sampling": {"eta": math.nan}}, "sampling.eta", "finite"),
    ({"sampling": {"rho": 0}}, "sampling.rho", "> 0"),
    ({"sampling": {"stepps": 4}}, "sampling.stepps", "no such field"),
    ({"sampling": "Euler"}, "sampling", "an object"),
    ({"guidance": {"scale": math.inf}}, "guidance.scale", "finite"),
    ({"guidance": {"scale": -1}}, "guidance.scale", "≥ 0"),
    ({"guidance": {"rescale": 1.5}}, "guidance.rescale", "≤ 1"),
    ({"guidance": {"threshold": {"percentile": 0}}}, "guidance.threshold.percentile", "> 0"),
    ({"variation": {"strength": 2}}, "variation.strength", "≤ 1"),
    ({"variation": {}}, "variation.strength", "missing"),
    ({"seed_resize": {"width_px": 8, "height_px": 64}}, "seed_resize.width_px", "≥ 16"),
    ({"hires": {"scale": 0.5}}, "hires.scale", "≥ 1"),
    ({"hires": {"strength": math.nan}}, "hires.strength", "finite"),
    ({"refiner": {"model": "x", "switch_at": 0}}, "refiner.switch_at", "> 0"),
    ({"refiner": {}}, "refiner.model", "missing"),
    ({"output": {"format": "gif"}}, "output.format", "png"),
    ({"output": {"quality": 101}}, "output.quality", "≤ 100"),
    ({"kind": "sculpture"}, "kind", "txt2img, img2img, inpaint, outpaint"),
    ({"kind": "img2img"}, "image", "missing"),
    ({**IMAGE, "image": "/etc/passwd"}, "image", "sha256"),
    ({**IMAGE, "image": "https://example.com/a.png"}, "image", "sha256"),
    ({**IMAGE, "image": "record:../../x"}, "image", "record"),
    ({**IMAGE, "strength": math.nan}, "strength", "finite"),
    ({**IMAGE, "strength": 1.01}, "strength", "≤ 1"),
    ({**IMAGE, "strength": -0.1}, "strength", "≥ 0"),
    ({**IMAGE, "resize_mode": "squash"}, "resize_mode", "stretch"),
    ({**IMAGE, "kind": "inpaint"}, "mask", "missing"),
    ({**IMAGE, "kind": "inpaint", "mask": SHA, "mask_blur_px": 65}, "mask_blur_px", "≤ 64"),
    ({**IMAGE, "kind": "inpaint", "mask": SHA, "fill": "gold"}, "fill", "original"),
    ({**IMAGE, "kind": "inpaint", "mask": SHA, "padding_px": -1}, "padding_px", "≥ 0"),
    ({**IMAGE, "kind": "inpaint", "mask": SHA, "soft": {"mask_influence": 2}}, "soft.mask_influence", "≤ 1"),
    ({**IMAGE, "kind": "outpaint"}, "margins", "missing"),
    ({**IMAGE, "kind": "outpaint", "margins": {"left_px": -1}}, "margins.left_px", "≥ 0"),
    ({**IMAGE, "kind": "outpaint", "margins": {"left_px": 5000}}, "margins.left_px", "≤ 4096"),
    ({"controls": [{}]}, "controls.0.model", "missing"),
    ({"controls": [{"model": ""}]}, "controls.0.model", "character"),
    ({"controls": [{"model": "x", "weight": 2.1}]}, "controls.0.weight", "≤ 2"),
    ({"controls": [{"model": "x", "weight": math.nan}]}, "controls.0.weight", "finite"),
    ({"controls": [{"model": "x", "start": 0.5, "end": 0.5}]}, "controls.0", "ends before it begins"),
    ({"controls": [{"model": "x", "end": 1.5}]}, "controls.0.end", "≤ 1"),
    ({"controls": [{"model": "x", "mode": "loud"}]}, "controls.0.mode", "balanced"),
    ({"controls": [{"model": "x", "resize_mode": "latent"}]}, "controls.0.resize_mode", "stretch"),
    ({"controls": [{"model": "x", "image": "https://example.com/a.png"}]}, "controls.0.image", "sha256"),
    ({"controls": [{"model": "x", "mask": "a.png"}]}, "controls.0.mask", "sha256"),
    ({"controls": [{"model": "x", "resolution_px": 32}]}, "controls.0.resolution_px", "≥ 64"),
    ({"controls": [{"model": "x", "params": []}]}, "controls.0.params", "object"),
    ({"controls": [{"model": "x", "wait": 1}]}, "controls.0.wait", "no such field"),
    ({"controls": [{"model": "x"}] * 9}, "controls", "8"),
    ({"strength": 0.5}, "strength", "no such field"),
    ("a cat", None, ""),
    (None, None, ""),
    ([1, 2], None, ""),
]


@pytest.mark.parametrize(("data", "field", "said"), BAD)
def test_what_is_wrong_is_said(data: Any, field: str | None, said: str):
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(data)
    error = caught.value
    assert error.field == field
    assert said in str(error)
    assert error.next_step
    assert error.message
    assert "\n" not in str(error)
    json.dumps(error.as_dict(), allow_nan=False)
    if error.value is not None:
        assert "got: " in str(error)


def test_a_misspelt_or_misplaced_field_is_recognised():
    with pytest.raises(InvalidRequestError, match=r"did you mean `sampling\.steps`"):
        parse_request({"steps": 20})
    with pytest.raises(InvalidRequestError, match="did you mean `negative_prompt`"):
        parse_request({"negativ_prompt": "x"})


def test_a_request_without_kind_is_words_to_pictures():
    request = parse_request({"prompt": "a cat"})
    assert request.kind == "txt2img"
    assert parse_request({}).kind == "txt2img"


def test_a_request_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        parse_request({}).prompt = "x"  # type: ignore[misc]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["kind", "prompt", "width_px", "seed", "sampling", "hires", "image", "mask", "margins", "count"])


@settings(deadline=None, max_examples=150)
@given(data=st.dictionaries(KEYS | st.text(max_size=6), JSON | st.sampled_from(KINDS), max_size=5) | JSON)
def test_no_input_gives_anything_but_a_request_or_our_error(data: Any):
    try:
        request = parse_request(data)
    except DanqingError as error:
        told = error.as_dict()
    else:
        told = {"message": request.kind}
    assert told["message"]
    json.dumps(told, allow_nan=False, ensure_ascii=False).encode()


UNIT = st.floats(0, 1)
SIDES = st.none() | st.integers(16, 4096)
SIZES = st.fixed_dictionaries({"width_px": st.integers(16, 4096), "height_px": st.integers(16, 4096)})
WORDS = st.text(max_size=40)
SAMPLINGS = st.fixed_dictionaries(
    {}, optional={"sampler": WORDS, "steps": st.integers(1, 500), "eta": st.floats(0, 10), "s_noise": st.floats(0, 10)}
)
CONTROLS = st.fixed_dictionaries(
    {"model": st.text(min_size=1, max_size=20)},
    optional={
        "image": st.just(SHA),
        "mask": st.just(SHA),
        "annotator": st.text(min_size=1, max_size=20),
        "params": st.dictionaries(
            st.text(min_size=1, max_size=8), st.floats(-1e9, 1e9) | st.text(max_size=9), max_size=2
        ),
        "resolution_px": st.integers(64, 2048),
        "pixel_perfect": st.booleans(),
        "weight": st.floats(0, 2),
        "start": st.floats(0, 0.5),
        "end": st.floats(0.51, 1),
        "mode": st.sampled_from(["balanced", "prompt", "control"]),
        "resize_mode": st.sampled_from(["stretch", "crop", "fill"]),
        "passes": st.sampled_from(["both", "base", "hires"]),
    },
)
COMMON: dict[str, Any] = {
    "prompt": WORDS,
    "negative_prompt": WORDS,
    "styles": st.lists(WORDS, max_size=3),
    "emphasis": st.sampled_from(["Original", "No norm", "Ignore", "None"]),
    "width_px": SIDES,
    "height_px": SIDES,
    "count": st.integers(1, 64),
    "seed": st.none() | st.integers(0, 2**64 - 1),
    "variation": st.none() | st.fixed_dictionaries({"strength": UNIT}, optional={"seed": st.integers(0, 2**64 - 1)}),
    "seed_resize": st.none() | SIZES,
    "sampling": SAMPLINGS,
    "guidance": st.fixed_dictionaries({}, optional={"scale": st.floats(0, 100), "rescale": UNIT}),
    "hires": st.none() | st.fixed_dictionaries({}, optional={"scale": st.floats(1, 8), "strength": UNIT}),
    "controls": st.lists(CONTROLS, max_size=3),
    "refiner": st.none() | st.fixed_dictionaries({"model": WORDS}, optional={"switch_at": st.floats(0.01, 1)}),
}
PICTURE = st.sampled_from([SHA, "record:01J8Z-abc_9"])
MORE: dict[str, dict[str, Any]] = {
    "txt2img": {},
    "img2img": {"image": PICTURE},
    "inpaint": {"image": PICTURE, "mask": PICTURE},
    "drag": {
        "image": PICTURE,
        "points": st.lists(
            st.fixed_dictionaries(
                {f"{end}_{axis}_px": st.integers(0, 4095) for end in ("from", "to") for axis in "xy"}
            ),
            min_size=1,
            max_size=3,
        ),
    },
    "outpaint": {"image": PICTURE, "margins": st.fixed_dictionaries({"left_px": st.integers(0, 4096)})},
    "retouch": {"image": PICTURE, "steps": st.just([{"kind": "upscale", "scale": 2}])},
    "words": {
        "image": st.none() | PICTURE,
        "source_prompt": WORDS,
        "weights": st.lists(st.fixed_dictionaries({"word": st.just("cat"), "weight": st.floats(-10, 10)}), max_size=2),
        "local": st.lists(st.fixed_dictionaries({"source": st.just("cat"), "target": st.just("dog")}), max_size=2),
        "cross_share": UNIT,
    },
}


def of_kind(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"kind": st.just(kind), **MORE[kind]}, optional=COMMON)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.sampled_from(KINDS).flatmap(of_kind))
def test_requests_survive_json(data: dict[str, Any]):
    request = parse_request(data)
    assert REQUEST.validate_json(request.model_dump_json()) == request
    assert parse_request(json.loads(REQUEST.dump_json(request, exclude_defaults=False))) == request
    assert (
        parse_request({**json.loads(REQUEST.dump_json(request, exclude_unset=True)), "kind": data["kind"]}) == request
    )


@given(width=st.integers(16, 4096), height=st.integers(16, 4096), multiple=st.sampled_from([8, 16, 64]))
def test_rounded_sizes_are_the_nearest_multiples(width: int, height: int, multiple: int):
    rounded = SizePx(width_px=width, height_px=height).rounded(multiple)
    assert rounded.width_px % multiple == 0
    assert rounded.height_px % multiple == 0
    assert abs(rounded.width_px - width) <= multiple / 2 or rounded.width_px == multiple


def test_an_empty_box_is_refused():
    with pytest.raises(InvalidRequestError, match="the box is empty"):
        BoxPx(left_px=5, top_px=0, right_px=5, bottom_px=4)
    assert BoxPx(left_px=1, top_px=2, right_px=4, bottom_px=9).as_tuple() == (1, 2, 4, 9)
