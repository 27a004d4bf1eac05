"""Control maps at other sizes: lines stay lines, flat colours stay flat, and the modes do what A1111's do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from danqing.pipelines import maps
from danqing.spec.geometry import SizePx

RED, BLUE = (200, 30, 40), (20, 40, 220)


def size(width_px: int, height_px: int) -> SizePx:
    return SizePx(width_px=width_px, height_px=height_px)


def halves(width: int, height: int) -> maps.Bytes:
    found = np.full((height, width, 3), RED, dtype=np.uint8)
    found[:, width // 2 :] = BLUE
    return found


def lines(width: int, height: int) -> maps.Bytes:
    found = np.zeros((height, width, 3), dtype=np.uint8)
    found[height // 2, :] = 255
    found[:, width // 3] = 255
    return found


@settings(deadline=None, max_examples=60)
@given(
    have=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    want=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    mode=st.sampled_from(["stretch", "crop", "fill"]),
    kind=st.sampled_from(["binary", "grey", "color", "flat", "normal"]),
)
def test_it_always_has_the_size_of_the_pass(have, want, mode, kind):
    found = lines(*have) if kind == "binary" else halves(*have)
    fitted = maps.fit(found, size(*want), mode, kind)
    assert fitted.shape == (want[1], want[0], 3)
    assert fitted.dtype == np.uint8
    colours = {tuple(colour) for colour in fitted.reshape(-1, 3).tolist()}
    if kind == "flat" and mode != "fill":
        assert colours <= {RED, BLUE}
    if kind == "binary":
        assert colours <= {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("to", [(256, 256), (64, 64)])
def test_a_thin_line_lives(to):
    fitted = maps.fit(lines(128, 128), size(*to), "stretch", "binary")
    assert (fitted.max(axis=(1, 2)) == 255).all()
    assert 0.005 < float((fitted > 0).mean()) < 0.08


def test_crop_takes_the_middle_and_fill_keeps_all():
    wide = halves(200, 100)
    cropped = maps.fit(wide, size(100, 100), "crop", "color")
    assert (cropped[:, :40] == RED).all()
    assert (cropped[:, 60:] == BLUE).all()
    framed = np.zeros((100, 200, 3), dtype=np.uint8)
    framed[20:80, 20:180] = 255
    filled = maps.fit(framed, size(100, 100), "fill", "binary")
    assert not filled[:25].any()
    assert not filled[75:].any()
    assert filled[40:60, 15:85].all()


def test_what_a_map_of_ones_own_is():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    noise = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert maps.kind_of("none", lines(32, 32)) == "binary"
    assert maps.kind_of("none", np.zeros((4, 4, 3), dtype=np.uint8)) == "binary"
    assert maps.kind_of("none", halves(32, 32)) == "flat"
    assert maps.kind_of("none", grey) == "grey"
    assert maps.kind_of("none", noise) == "color"
    assert maps.kind_of("canny", noise) == "binary"


def test_the_resolution_is_the_shorter_side():
    assert maps.at_resolution(Image.new("RGB", (300, 200)), 100).size == (150, 100)
    assert maps.at_resolution(Image.new("RGBA", (16, 4000)), 64).size == (16, 4096)
    assert maps.pixel_perfect_px((1000, 500), size(512, 512), "fill") == 256
    assert maps.pixel_perfect_px((1000, 500), size(512, 512), "stretch") == 512
