"""From things to masks: sureness, size, count, order, merging, growing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from danqing.enhance.detailer import Thing, dilated, masks_of, overlap, without_doubles
from danqing.spec.retouch_steps import DetailStep

SIZE = (100, 80)
SMALL, MIDDLE, LARGE = (
    Thing(0.9, (10, 10, 20, 20), label="cat"),
    Thing(0.5, (40, 30, 60, 50), label="dog"),
    Thing(0.4, (65, 40, 95, 75), label="cat"),
)
UNSURE = Thing(0.2, (1, 1, 50, 50))
ALL = [LARGE, UNSURE, SMALL, MIDDLE]


def boxes(**fields: Any) -> list[tuple[int, int, int, int] | None]:
    fields = {"dilate_px": 0, **fields}
    return [mask.getbbox() for mask in masks_of(ALL, DetailStep(**fields), SIZE)]


def box(thing: Thing) -> tuple[int, ...]:
    return tuple(int(edge) for edge in thing.box)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [SMALL, MIDDLE, LARGE]),
        ({"confidence": 0.45}, [SMALL, MIDDLE]),
        ({"confidence": 0.0, "sort": "largest"}, [UNSURE, LARGE, MIDDLE, SMALL]),
        ({"sort": "left_to_right"}, [SMALL, MIDDLE, LARGE]),
        ({"sort": "centre_to_edge"}, [MIDDLE, LARGE, SMALL]),
        ({"max_count": 1}, [LARGE]),
        ({"max_count": 1, "keep": "confidence"}, [SMALL]),
        ({"min_area": 0.03}, [MIDDLE, LARGE]),
        ({"max_area": 0.06}, [SMALL, MIDDLE]),
        ({"classes": ("Cat",)}, [SMALL, LARGE]),
        ({"classes": ("bird",)}, []),
    ],
)
def test_which_things_are_painted_in_which_order(fields: dict[str, Any], expected: list[Thing]):
    assert boxes(**fields) == [box(thing) for thing in expected]


def test_merged_they_are_one_mask_and_inverted_everything_else():
    step = DetailStep(merge="merge", dilate_px=0)
    (whole,) = masks_of(ALL, step, SIZE)
    (rest,) = masks_of(ALL, step.model_copy(update={"merge": "merge_invert"}), SIZE)
    assert np.array_equal(255 - np.asarray(whole), np.asarray(rest))
    assert (np.asarray(whole) > 0).sum() == 100 + 400 + 30 * 35


def test_masks_grow_shrink_and_move():
    assert boxes(max_count=1, keep="confidence", dilate_px=5) == [(8, 8, 22, 22)]
    assert boxes(max_count=1, keep="confidence", dilate_px=-3) == [(11, 11, 19, 19)]
    assert boxes(max_count=1, keep="confidence", offset_x_px=7, offset_y_px=-4) == [(17, 6, 27, 16)]
    mask = np.zeros((9, 9), np.uint8)
    assert dilated(mask, 0) is mask


def test_an_outline_is_used_where_there_is_one():
    outline = np.zeros((80, 100), np.uint8)
    outline[12:15, 12:30] = 255
    thing = Thing(0.9, (10, 10, 40, 40), outline)
    step = DetailStep(dilate_px=0)
    assert masks_of([thing], step, SIZE)[0].getbbox() == (12, 12, 30, 15)
    assert masks_of([thing], step.model_copy(update={"outline": False}), SIZE)[0].getbbox() == (10, 10, 40, 40)


def test_what_lies_beyond_the_picture_is_cut_and_nothing_is_no_mask():
    step = DetailStep(dilate_px=0)
    assert masks_of([Thing(0.9, (-10, -10, 5, 5))], step, SIZE)[0].getbbox() == (0, 0, 5, 5)
    assert masks_of([Thing(0.9, (-10, -10, -5, -5))], step, SIZE) == []
    assert masks_of([], step, SIZE) == []


def test_doubles_go():
    again = Thing(0.7, (11, 11, 21, 21), label="cat")
    other = Thing(0.7, (11, 11, 21, 21), label="dog")
    assert without_doubles([again, SMALL]) == [SMALL]
    assert without_doubles([other, SMALL]) == [SMALL, other]
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
