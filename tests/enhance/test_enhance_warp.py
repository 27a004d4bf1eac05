"""The pull of a drag on pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.enhance.warp import preview, preview_with_share, pull, scaled_point, warp
from danqing.spec.drag import DragPoint
from danqing.spec.errors import InvalidRequestError
from easel import photo


def point(x: int, y: int, to_x: int, to_y: int) -> DragPoint:
    return DragPoint(from_x_px=x, from_y_px=y, to_x_px=to_x, to_y_px=to_y)


def pixels(width: int = 96, height: int = 80) -> Any:
    return np.asarray(photo(width, height))


def test_an_integer_translation_is_an_exact_copy_where_the_handle_moves_as_one_piece():
    image = pixels()
    moved = warp(image, pull([point(40, 40, 52, 35)], (96, 80), radius_px=10))
    y, x = np.mgrid[:80, :96]
    disc = np.hypot(x - 52, y - 35) <= 9
    shifted = np.roll(image, (-5, 12), axis=(0, 1))
    assert np.array_equal(moved[disc], shifted[disc])
    assert not np.array_equal(moved, image)


def test_several_handles_reach_their_targets_and_pins_hold():
    pulled = pull([point(20, 20, 30, 20), point(70, 60, 70, 48), point(48, 40, 48, 40)], (96, 80))
    assert pulled.offset[20, 30].tolist() == [-10.0, 0.0]
    assert pulled.offset[48, 70].tolist() == [0.0, 12.0]
    assert pulled.offset[40, 48].tolist() == [0.0, 0.0]


def test_nothing_outside_the_mask_changes_by_a_bit():
    image, mask = pixels(), np.zeros((80, 96), np.uint8)
    mask[20:60, 20:70] = 255
    moved = warp(image, pull([point(40, 40, 50, 40)], (96, 80), mask))
    changed = (moved != image).any(-1)
    assert changed[mask == 255].any()
    assert not changed[mask == 0].any()


def test_without_a_mask_far_places_stay():
    pulled = pull([point(10, 10, 14, 10)], (96, 80))
    assert not pulled.reach[60:, 60:].any()
    assert (pulled.offset[~pulled.reach] == 0).all()


def test_a_handle_on_its_target_changes_nothing():
    pulled = pull([point(40, 40, 40, 40)], (96, 80))
    assert np.array_equal(warp(pixels(), pulled), pixels())
    assert pulled.repair.max() == 0


def test_a_long_drag_does_not_fold_the_picture_over():
    """Every step along a row of the result goes on to the right in the source."""
    mask = np.full((80, 96), 255, np.uint8)
    mask[:, :8] = mask[:, 88:] = 0
    pulled = pull([point(16, 40, 78, 40)], (96, 80), mask)
    source = np.arange(96) + pulled.offset[40, :, 0]
    assert (np.diff(source) > 0).all()
    assert pulled.offset[40, 78, 0] == -62


def test_what_comes_from_beyond_the_picture_is_to_be_repaired():
    pulled = pull([point(4, 40, 40, 40)], (96, 80))
    assert pulled.beyond[40, 0]
    assert pulled.repair[40, 0] == 1
    assert pulled.repair[40, 40] == 0


def test_the_grid_changes_little_in_large_pictures():
    small, large = photo(128, 96), photo(512, 384)
    seen = preview(large, [point(200, 200, 280, 160)], max_side_px=128)
    moved = scaled_point(point(200, 200, 280, 160), (512, 384), (128, 96))
    assert seen.size == small.size
    assert (moved.to_x_px, moved.to_y_px) == (70, 40)
    shown = np.asarray(preview(large, [point(200, 200, 280, 160)]).resize((128, 96), Image.Resampling.BOX), np.int16)
    assert np.abs(shown - np.asarray(seen, np.int16)).mean() < 6


def test_the_preview_tells_how_much_will_be_repaired():
    assert preview_with_share(photo(96, 80), [point(40, 40, 41, 40)])[1] == 0
    assert 0 < preview_with_share(photo(96, 80), [point(4, 40, 40, 40)])[1] < 1


@pytest.mark.parametrize(
    ("points", "mask", "field"),
    [
        ([], None, "points"),
        ([point(96, 10, 20, 20)], None, "points.0.from_x_px"),
        ([point(20, 10, 20, 80)], None, "points.0.to_y_px"),
        ([point(20, 10, 20, 20)], Image.new("L", (80, 96), 255), "mask"),
        ([point(20, 10, 20, 20)], Image.new("L", (96, 80), 0), "points.0.from_x_px"),
    ],
)
def test_wrong_input_is_said_plainly(points: list[DragPoint], mask: Image.Image | None, field: str):
    with pytest.raises(InvalidRequestError) as caught:
        preview(photo(96, 80), points, mask)
    assert caught.value.field == field
    assert caught.value.next_step
