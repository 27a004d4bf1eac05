"""The subject cut out without weights: what is kept, what goes, how soft the edge is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from danqing.enhance.cutout import cut_out, grabcut_alpha, grown_alpha, is_plain, plain_alpha, segments

LARGE = 4


def drawing(background: str | None = "white", size: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """A red disc with a white spot in it, and how much of each pixel is disc; smooth edges, drawn four times larger."""
    side = size * LARGE
    box = (side // 4, side // 4, side * 3 // 4, side * 3 // 4)
    disc = Image.new("L", (side, side), 0)
    ImageDraw.Draw(disc).ellipse(box, fill=255)
    ground = Image.new("RGB", (side, side), background or "white")
    if background is None:  # a gradient
        ramp = np.linspace(180, 240, side).astype(np.uint8)
        ground = Image.fromarray(
            np.dstack(
                [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 200, np.uint8)]
            )
        )
    ink = Image.new("RGB", (side, side), (200, 30, 40))
    ImageDraw.Draw(ink).ellipse((side * 0.45, side * 0.45, side * 0.55, side * 0.55), fill="white")
    picture = Image.composite(ink, ground, disc).resize((size, size), Image.Resampling.BOX)
    return np.asarray(picture), np.asarray(disc.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@pytest.mark.parametrize("background", ["white", "#808080", "#102040", None])
def test_the_subject_stays_and_the_background_goes(background: str | None):
    rgb, truth = drawing(background)
    assert is_plain(rgb)
    alpha = plain_alpha(rgb)
    assert alpha[truth == 1].mean() > 0.98
    assert alpha[truth == 0].mean() < 0.01
    assert np.abs(alpha - truth).mean() < 0.01
    assert alpha[60, 60] == 1, "what is white inside the subject belongs to it"


def test_the_edge_is_soft_and_has_no_colour_of_the_old_background():
    rgb, truth = drawing()
    alpha = plain_alpha(rgb)
    soft = (truth > 0.2) & (truth < 0.8)
    assert np.abs(alpha - truth)[soft].mean() < 0.25
    rgba = cut_out(rgb, alpha)
    edge = (rgba[..., 3] > 20) & (rgba[..., 3] < 235)
    assert edge.sum() > 20
    assert rgba[edge][:, 1].mean() < 90, "edge pixels have the red of the disc, not a mix with white"


def test_opaque_pixels_are_the_pictures_own():
    rgb, _ = drawing()
    rgba = cut_out(rgb, plain_alpha(rgb))
    solid = rgba[..., 3] == 255
    assert np.array_equal(rgba[solid][:, :3], rgb[solid])


@pytest.mark.parametrize("colour", ["white", "black", "#345678"])
def test_a_picture_of_nothing_becomes_clear(colour: str):
    rgb = np.asarray(Image.new("RGB", (50, 40), colour))
    assert plain_alpha(rgb).max() == 0
    assert grabcut_alpha(rgb).shape == (40, 50)
    assert segments(plain_alpha(rgb)) == []


def test_noise_is_not_plain():
    rgb = np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype(np.uint8)
    assert not is_plain(rgb)


def test_grabcut_finds_the_disc_on_a_busy_ground():
    rgb, truth = drawing()
    busy = np.random.default_rng(1).integers(90, 190, rgb.shape).astype(np.uint8)
    busy[..., 0] //= 2
    mixed = np.where(truth[..., None] > 0.5, rgb, busy).astype(np.uint8)
    alpha = grabcut_alpha(mixed)
    assert alpha[truth > 0.9].mean() > 0.8
    assert alpha[truth < 0.1].mean() < 0.15


def test_growing_and_eating():
    alpha = np.zeros((20, 20), np.float32)
    alpha[8:12, 8:12] = 1
    assert grown_alpha(alpha, 2).sum() > alpha.sum() > grown_alpha(alpha, -1).sum() > 0
    assert grown_alpha(alpha, 0) is alpha


def test_each_thing_is_a_segment_largest_first():
    alpha = np.zeros((60, 60), np.float32)
    alpha[5:15, 5:15] = 1
    alpha[30:55, 30:55] = 1
    found = segments(alpha)
    assert [int((mask > 0).sum()) for mask in found] == [625, 100]


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 5)])
def test_tiny_pictures_do_not_fail(size: tuple[int, int]):
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    assert plain_alpha(rgb).shape == (size[1], size[0])
    assert cut_out(rgb, plain_alpha(rgb)).shape == (size[1], size[0], 4)
