"""Scenes: what is painted around a drawing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.models.colors import measure_colors
from danqing.spec.registry.colors import CHROMATIC, COLORS
from danqing.training.builtin.config import SceneConfig
from danqing.training.builtin.dataset import Concept, Dataset, Picture, composite
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.scenes import (
    BACKGROUNDS,
    PLACES,
    Scene,
    draw_scene,
    names_color,
    paint_background,
    paint_scene,
    place_drawing,
)

RED = (220, 30, 30)


def picture(label: str = "apple", style: str = "flat") -> Picture:
    return Picture(0, style, Concept("1F34E", "food-fruit", {"en": (label,)}))


def drawing(size: int = 32, rgb: tuple[int, int, int] = RED) -> np.ndarray:
    """A block left of the middle, on transparency."""
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[size // 4 : 3 * size // 4, size // 8 : size // 2] = (*rgb, 255)
    return rgba


def found_scenes(count: int, rgba: np.ndarray, config: SceneConfig, subject: Picture) -> list[Scene]:
    return [draw_scene(subject, rgba, config, step_rng(3, "scenes", i)) for i in range(count)]


SCENES = st.builds(
    Scene,
    mirrored=st.booleans(),
    background=st.one_of(
        st.just(("white",)),
        st.just(("transparent",)),
        st.tuples(st.sampled_from(BACKGROUNDS)),
        st.tuples(st.sampled_from(BACKGROUNDS), st.sampled_from(BACKGROUNDS)),
    ),
    vertical=st.booleans(),
    hue=st.one_of(st.none(), st.sampled_from(CHROMATIC)),
    turn_deg=st.floats(0, 360),
    count=st.integers(1, 4),
    scale=st.floats(0.3, 1.0),
)


@settings(max_examples=60, deadline=None)
@given(SCENES, st.integers(16, 80), st.sampled_from((16, 32, 50)))
def test_any_scene_paints_the_exact_size(scene: Scene, size_px: int, drawn_px: int) -> None:
    painted = paint_scene(drawing(drawn_px), scene, size_px)
    assert painted.shape == (size_px, size_px, 3)
    assert painted.dtype == np.uint8
    assert np.array_equal(painted, paint_scene(drawing(drawn_px), scene, size_px))


def test_a_plain_scene_is_the_drawing_on_white() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (24, 24, 4), np.uint8)
    expected = (composite(rgba[None], (255, 255, 255))[0].transpose(1, 2, 0) + 1.0) * 127.5
    assert np.abs(paint_scene(rgba, Scene(), 24).astype(float) - expected).max() <= 0.51


@pytest.mark.parametrize("key", BACKGROUNDS)
def test_the_background_has_the_named_colour(key: str) -> None:
    painted = paint_scene(drawing(), Scene(background=(key,), scale=0.84), 32)
    assert tuple(painted[0, 0]) == tuple(painted[-1, -1]) == COLORS[key].rgb
    assert tuple(painted[16, 12]) == pytest.approx(RED, abs=2)


def test_gradients_run_from_the_first_colour_to_the_second() -> None:
    scene = Scene(background=("red", "blue"), vertical=True)
    down = paint_background(scene, 32)
    assert tuple(down[0, 7]) == COLORS["red"].rgb
    assert tuple(down[-1, 20]) == COLORS["blue"].rgb
    assert (down == down[:, :1]).all()
    assert np.array_equal(paint_background(dataclasses.replace(scene, vertical=False), 32), down.transpose(1, 0, 2))


def test_transparency_is_a_chequerboard() -> None:
    board = paint_background(Scene(background=("transparent",)), 128)
    assert {tuple(c) for c in board.reshape(-1, 3).astype(int).tolist()} == {(255, 255, 255), (204, 204, 204)}
    assert tuple(board[0, 0]) == tuple(board[8, 8]) != tuple(board[0, 8])


def test_mirrored() -> None:
    plain = paint_scene(drawing(), Scene(), 32)
    assert np.array_equal(paint_scene(drawing(), Scene(mirrored=True), 32), plain[:, ::-1])
    assert not np.array_equal(plain, plain[:, ::-1])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_copies_are_as_many_and_do_not_overlap(count: int) -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[8:56, 8:56] = (*RED, 255)
    visible = place_drawing(rgba, Scene(count=count, scale=0.5), 64)[..., 3] > 127
    assert visible.sum() == pytest.approx(count * (0.75 * 0.48 * 64) ** 2, rel=0.15)
    for left, top, share in PLACES.get(count, ()):
        assert visible[round((top + share / 2) * 64), round((left + share / 2) * 64)]


@pytest.mark.parametrize("rgb", [(220, 30, 30), (250, 200, 40), (40, 160, 70), (60, 90, 220)])
def test_a_turned_hue_lands_on_the_named_colour(rgb: tuple[int, int, int]) -> None:
    config = SceneConfig(recolor=1.0, flat=0.0, gradient=0.0, transparent=0.0, several=0.0)
    rgba = drawing(rgb=rgb)
    scenes = [s for s in found_scenes(60, rgba, config, picture()) if s.hue is not None]
    assert len({s.hue for s in scenes}) >= 4
    for scene in scenes:
        assert measure_colors(place_drawing(rgba, scene, 32))[0][0] == scene.hue
        painted = paint_scene(rgba, dataclasses.replace(scene, mirrored=False), 32)
        assert measure_colors(painted[16:17, 8:9]) == [(scene.hue, 1.0)]
        assert measure_colors(painted[:4]) == [("white", 1.0)]


def test_colours_in_the_label_and_line_art_are_left_alone() -> None:
    config = SceneConfig(recolor=1.0)
    for subject in (picture("red apple"), picture(style="line"), picture("blue-ish thing"), picture("grey heart")):
        assert all(s.hue is None for s in found_scenes(30, drawing(), config, subject))
    gray = drawing(rgb=(120, 120, 120))
    assert all(s.hue is None for s in found_scenes(30, gray, config, picture()))
    assert names_color(picture("red apple"))
    assert names_color(picture("grey heart"))
    assert not names_color(picture("credit card"))


def test_shares_are_those_of_the_configuration() -> None:
    config = SceneConfig(flat=0.3, gradient=0.1, transparent=0.1, several=0.2, recolor=0.0)
    scenes = found_scenes(1500, drawing(), config, picture())

    def share(kept: int) -> float:
        return kept / len(scenes)

    flat = [s for s in scenes if len(s.background) == 1 and s.background[0] in BACKGROUNDS]
    assert share(len(flat)) == pytest.approx(0.3, abs=0.04)
    assert share(sum(len(s.background) == 2 for s in scenes)) == pytest.approx(0.1, abs=0.03)
    assert share(sum(s.background == ("transparent",) for s in scenes)) == pytest.approx(0.1, abs=0.03)
    assert share(sum(s.count > 1 for s in scenes)) == pytest.approx(0.2, abs=0.04)
    assert {s.count for s in scenes} == {1, 2, 3, 4}
    assert share(sum(s.mirrored for s in scenes)) == pytest.approx(0.5, abs=0.05)
    assert {s.background[0] for s in flat} == set(BACKGROUNDS)
    assert all((s.scale == 1.0) == (s.background == ("white",)) for s in scenes)
    assert all(s.background[0] != s.background[1] for s in scenes if len(s.background) == 2)


def test_the_same_seed_draws_the_same_scenes() -> None:
    config = SceneConfig(recolor=0.5)
    assert found_scenes(50, drawing(), config, picture()) == found_scenes(50, drawing(), config, picture())


def test_a_dataset_is_never_written_to() -> None:
    rgba = drawing()
    rgba.setflags(write=False)
    data = Dataset((picture(),), rgba[None])
    for scene in (Scene(mirrored=True), Scene(hue="blue", turn_deg=200.0), Scene(count=3)):
        paint_scene(data.rgba[0], scene, 32)
