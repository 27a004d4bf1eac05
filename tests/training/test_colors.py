"""Naming colours from pixels, and turning hues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from danqing.models.colors import MEASURED, border_color, color_indices, hue_saturation_value, measure_colors, shift_hue
from danqing.spec.registry.colors import CHROMATIC, COLORS

PICTURES = arrays(np.uint8, (3, 5, 3), elements=st.integers(0, 255))


def plain(rgb: tuple[int, int, int], size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), rgb, np.uint8)


@pytest.mark.parametrize("key", MEASURED)
def test_every_colour_measures_as_itself(key: str) -> None:
    assert measure_colors(plain(COLORS[key].rgb)) == [(key, 1.0)]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((128, 128, 128), "gray"),
        ((200, 196, 192), "gray"),
        ((245, 244, 240), "white"),
        ((30, 30, 34), "black"),
        ((0, 0, 0), "black"),
        ((40, 4, 4), "black"),
        ((120, 72, 40), "brown"),
        ((92, 54, 30), "brown"),
        ((255, 165, 0), "orange"),
        ((255, 192, 203), "pink"),
        ((255, 105, 180), "pink"),
        ((255, 0, 0), "red"),
        ((250, 30, 60), "red"),
        ((0, 255, 0), "green"),
        ((0, 0, 255), "blue"),
        ((0, 255, 255), "cyan"),
        ((150, 0, 200), "purple"),
    ],
)
def test_known_colours(rgb: tuple[int, int, int], name: str) -> None:
    assert measure_colors(plain(rgb))[0][0] == name


def test_words_in_three_languages() -> None:
    blue = COLORS["dark blue"]
    assert [blue.name(locale) for locale in ("en", "zh", "zh-hant")] == ["dark blue", "深蓝色", "深藍色"]
    assert set(CHROMATIC) <= set(MEASURED)
    assert "dark blue" not in MEASURED
    for locale in ("en", "zh", "zh-hant"):
        assert len({c.name(locale) for c in COLORS.values()}) == len(COLORS)


def test_shares_are_of_the_visible_area() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    assert measure_colors(rgba) == []
    rgba[:1] = (255, 0, 0, 255)
    rgba[1:4] = (0, 0, 255, 85)
    assert dict(measure_colors(rgba)) == {"red": pytest.approx(0.5), "blue": pytest.approx(0.5)}


def test_the_frame_tells_the_background() -> None:
    rgb = plain(COLORS["blue"].rgb, 32)
    rgb[3:29, 3:29] = COLORS["red"].rgb
    assert measure_colors(rgb)[0][0] == "red"
    assert border_color(rgb) == "blue"


@given(PICTURES)
def test_every_pixel_has_a_name(rgb: np.ndarray) -> None:
    found = measure_colors(rgb)
    assert sum(share for _, share in found) == pytest.approx(1.0)
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
    assert color_indices(rgb).max() < len(MEASURED)


@given(PICTURES)
def test_turning_by_nothing_changes_nothing(rgb: np.ndarray) -> None:
    assert np.array_equal(shift_hue(rgb, 0.0), rgb)
    assert np.array_equal(shift_hue(rgb, 360.0), rgb)


@given(PICTURES)
def test_three_thirds_of_a_turn_are_a_whole_one(rgb: np.ndarray) -> None:
    turned = shift_hue(shift_hue(shift_hue(rgb, 120.0), 120.0), 120.0)
    assert np.abs(turned.astype(int) - rgb).max() <= 1
    assert np.abs(shift_hue(rgb, 120.0).astype(int) - rgb[..., [2, 0, 1]]).max() <= 1


@given(PICTURES, st.floats(-720, 720))
def test_turning_keeps_saturation_value_and_alpha(rgb: np.ndarray, degrees: float) -> None:
    rgba = np.concatenate([rgb, rgb[..., :1]], -1)
    turned = shift_hue(rgba, degrees)
    assert np.array_equal(turned[..., 3], rgba[..., 3])
    assert np.abs(turned[..., :3].max(-1).astype(int) - rgb.max(-1)).max() <= 1
    assert np.abs(turned[..., :3].min(-1).astype(int) - rgb.min(-1)).max() <= 1


def test_hue_saturation_value() -> None:
    hue, saturation, value = hue_saturation_value(np.array([[255, 0, 0], [0, 128, 0], [0, 0, 64], [9, 9, 9]], np.uint8))
    assert hue.tolist() == pytest.approx([0, 120, 240, 0])
    assert saturation.tolist() == pytest.approx([1, 1, 1, 0])
    assert value.tolist() == pytest.approx([1, 128 / 255, 64 / 255, 9 / 255])
