"""The crop of *only masked*: inside the picture, around the mask, in the canvas's shape."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from danqing.planning.crops import masked_crop
from danqing.spec.geometry import SizePx


@dataclass(frozen=True)
class Scene:
    picture: SizePx
    canvas: SizePx
    box: tuple[int, int, int, int]
    padding_px: int


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    width, height = draw(st.integers(16, 900)), draw(st.integers(16, 900))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    canvas = SizePx(width_px=draw(st.integers(2, 128)) * 8, height_px=draw(st.integers(2, 128)) * 8)
    return Scene(SizePx(width_px=width, height_px=height), canvas, box, draw(st.integers(0, 300)))


@given(scene=scenes())
def test_a_crop_is_inside_the_picture_and_holds_the_box(scene: Scene):
    crop = masked_crop(scene.box, scene.padding_px, scene.picture, scene.canvas)
    assert 0 <= crop.left_px <= scene.box[0]
    assert 0 <= crop.top_px <= scene.box[1]
    assert scene.box[2] <= crop.right_px <= scene.picture.width_px
    assert scene.box[3] <= crop.bottom_px <= scene.picture.height_px


@given(scene=scenes())
def test_a_crop_has_the_canvas_aspect_unless_the_picture_ends(scene: Scene):
    crop = masked_crop(scene.box, scene.padding_px, scene.picture, scene.canvas)
    spans = crop.width_px == scene.picture.width_px or crop.height_px == scene.picture.height_px
    error_px = abs(crop.width_px * scene.canvas.height_px - crop.height_px * scene.canvas.width_px)
    # Sides are whole pixels, so the aspect is met to half a pixel of the side that grew.
    assert spans or error_px <= 0.5 * max(scene.canvas.width_px, scene.canvas.height_px) + 1e-9


@given(scene=scenes())
def test_padding_is_kept_where_the_picture_allows(scene: Scene):
    crop = masked_crop(scene.box, scene.padding_px, scene.picture, scene.canvas)
    assert crop.left_px <= max(scene.box[0] - scene.padding_px, 0)
    assert crop.bottom_px >= min(scene.box[3] + scene.padding_px, scene.picture.height_px)


def test_at_an_edge_the_crop_moves_inwards():
    picture, canvas = SizePx(width_px=200, height_px=100), SizePx(width_px=64, height_px=64)
    crop = masked_crop((0, 20, 10, 80), 0, picture, canvas)
    assert crop.as_tuple() == (0, 20, 60, 80)
    assert masked_crop((190, 20, 200, 80), 0, picture, canvas).as_tuple() == (140, 20, 200, 80)
