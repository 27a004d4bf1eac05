"""ControlNet units in infotexts: as A1111's extension writes them, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.prompt.infotext import parse_infotext, request_from_infotext, to_infotext
from danqing.spec.control import ControlUnit
from danqing.spec.request import parse_request

SHA = "sha256:" + "a" * 64
A1111 = (
    "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, "
    'ControlNet 0: "Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 0.8, '
    "Resize Mode: Resize and Fill, Processor Res: 512, Threshold A: 64, Threshold B: 128, Guidance Start: 0.1, "
    "Guidance End: 0.9, Pixel Perfect: False, Control Mode: ControlNet is more important, "
    'Hr Option: High res only", Version: v1.10.1'
)


def test_it_is_written_as_the_extension_does():
    unit = {"model": "line", "image": SHA, "annotator": "canny", "weight": 0.5, "end": 0.8, "mode": "prompt"}
    text = to_infotext(parse_request({"prompt": "a cat", "controls": [unit, {**unit, "params": {"low_threshold": 9}}]}))
    fields = parse_infotext(text).fields
    assert fields["ControlNet 0"].startswith(
        "Module: canny, Model: line, Weight: 0.5, Resize Mode: Crop and Resize, Threshold A: 100, Threshold B: 200, "
        "Guidance Start: 0, Guidance End: 0.8, Pixel Perfect: True, Control Mode: My prompt is more important, "
        "Hr Option: Both"
    )
    assert "Threshold A: 9.0" in fields["ControlNet 1"]


def test_the_extensions_own_text_is_read_where_the_picture_is_known():
    read = request_from_infotext(A1111)
    assert read.request.controls == ()
    assert any("does not hold its control picture" in note for note in read.notes)
    assert not read.rest or "ControlNet 0" not in read.rest
    read = request_from_infotext(A1111.replace("Seed: 1", f'Seed: 1, Init image: "{SHA}", Denoising strength: 0.5'))
    (unit,) = read.request.controls
    assert unit == ControlUnit(
        model="control_v11p_sd15_canny", annotator="canny", weight=0.8, resize_mode="fill", resolution_px=512,
        params={"threshold_a": 64.0, "threshold_b": 128.0}, start=0.1, end=0.9, pixel_perfect=False, mode="control",
        passes="hires",
    )  # fmt: skip


UNITS = st.fixed_dictionaries(
    {"model": st.text('abcXYZ 09_-/.,:"é', min_size=1, max_size=12).filter(str.strip), "image": st.just(SHA)},
    optional={
        "mask": st.just(SHA),
        "annotator": st.sampled_from(["none", "canny", "scribble_xdog", "my own, odd: one"]),
        "params": st.dictionaries(
            st.text(min_size=1, max_size=8), st.floats(-1e6, 1e6) | st.text(max_size=8), max_size=3
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


@settings(deadline=None, max_examples=60)
@given(units=st.lists(UNITS, max_size=3))
def test_units_survive_an_infotext(units: list[dict[str, Any]]):
    for unit in units:
        unit["model"] = unit["model"].strip()
    request = parse_request({"prompt": "a cat", "seed": 3, "sampling": {"steps": 4}, "controls": units})
    read = request_from_infotext(to_infotext(request))
    assert read.request.controls == request.controls
    assert read.notes == ()


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=60) | st.sampled_from(["Model: x, Weight: much", "Weight: 1", "Model: x, Params: [1]"]))
def test_nonsense_is_left_out_with_a_note(text: str):
    pairs = text.replace('"', "'").replace("\n", " ").replace("\\", "")
    read = request_from_infotext(f'a cat\nSteps: 20, Seed: 1, Size: 64x64, ControlNet 0: "{pairs}"')
    assert read.request.prompt


@pytest.mark.parametrize("field", ["Weight: 9", "Guidance Start: 1, Guidance End: 0", "Image: /etc/passwd"])
def test_values_beyond_the_limits_are_noted(field: str):
    text = (
        A1111.replace("Weight: 0.8", f"{field}, Params: x") if "Image" in field else A1111.replace("Weight: 0.8", field)
    )
    text = text.replace("Seed: 1", f'Seed: 1, Init image: "{SHA}"')
    read = request_from_infotext(text)
    assert read.request.controls == () or read.request.controls[0].weight <= 2
