"""Regions in infotexts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.infotext import request_from_infotext, to_infotext
from danqing.spec.request import parse_request

BOXES = st.builds(
    lambda left, top, width, height: {
        "left_px": left,
        "top_px": top,
        "right_px": left + width,
        "bottom_px": top + height,
    },
    *(st.integers(0, 900),) * 2,
    *(st.integers(1, 900),) * 2,
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
REGIONS = st.fixed_dictionaries(
    {"prompt": WORDS},
    optional={"negative_prompt": WORDS, "weight": st.sampled_from((0.5, 1.0, 2.25)), "feather_px": st.integers(0, 64)},
)


@given(st.lists(st.tuples(REGIONS, st.one_of(BOXES, st.just("sha256:" + "ab" * 32))), max_size=4))
def test_regions_survive_their_infotext(placed: list[tuple[dict[str, Any], Any]]):
    regions = [{**one, "mask" if isinstance(place, str) else "box": place} for one, place in placed]
    request = parse_request({"prompt": "a street", "regions": regions, "region_engine": "latent"})
    assert request_from_infotext(to_infotext(request)).request.regions == request.regions


@pytest.mark.parametrize("text", ["{", "[1]", '[{"prompt": "a"}]', '[{"prompt": "a", "box": 3}]'])
def test_unreadable_regions_are_left_out_with_a_note(text: str):
    region = {"prompt": "a dog", "mask": "sha256:" + "ab" * 32}
    good = to_infotext(parse_request({"prompt": "a street", "regions": [region]}))
    spoilt = good.replace(json.dumps(json.dumps([region])), json.dumps(text))
    assert spoilt != good
    read = request_from_infotext(spoilt)
    assert read.request.regions == ()
    assert read.notes
