"""Colours mean what ControlNets were taught: white lines on black, near white, red left and green up."""

from __future__ import annotations

import numpy as np
import pytest
from annotator_pictures import ball_depth, disc, still_life

from danqing.annotators import annotate, pixel_perfect_resolution
from danqing.annotators.palette import ADE20K
from danqing.spec.registry.annotators import CLASSICAL

LINES = [info.key for info in CLASSICAL if info.control_class == "line" and info.map_kind in {"binary", "grey"}]
LINES.remove("threshold")


def vectors(normals: np.ndarray) -> np.ndarray:
    return normals.astype(float) / 127.5 - 1


@pytest.mark.parametrize("name", LINES)
def test_lines_are_white_on_black(name: str):
    picture = np.full((128, 128, 3), 255, np.uint8)
    picture[40:90, 30:34] = 0
    picture[40:44, 30:100] = 0
    found = annotate(name, picture)
    assert found[10:25, 10:120].max() == 0
    assert found[35:95, 25:40].max() >= 120
    assert found.mean() < 100
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("name", [info.key for info in CLASSICAL if info.map_kind == "binary"])
@pytest.mark.parametrize("resolution_px", [None, 64, 256])
def test_binary_maps_stay_binary(name: str, resolution_px: int | None):
    found = annotate(name, still_life(), resolution_px=resolution_px)
    assert set(np.unique(found)) <= {0, 255}
    assert found.any()


@pytest.mark.parametrize("name", ["normal_from_depth", "normal_relief"])
def test_the_normals_of_a_ball(name: str):
    picture = ball_depth() if name == "normal_from_depth" else disc(128, 63)
    found = annotate(name, picture, {"smooth_px": 0} if name == "normal_from_depth" else {})
    left, right, top, bottom = found[64, 20], found[64, 107], found[20, 64], found[107, 64]
    assert left[0] > 180
    assert right[0] < 75
    assert top[1] > 180
    assert bottom[1] < 75
    assert found[64, 64, 2] >= 250
    assert abs(int(found[64, 64, 0]) - 128) <= 6
    rows, columns = (np.mgrid[0:128, 0:128] - 63.5) / 64
    inside = rows**2 + columns**2 < 0.7
    true = np.stack([-columns, -rows, np.sqrt(np.clip(1 - rows**2 - columns**2, 0, 1))], axis=-1)
    angles = np.degrees(np.arccos(np.clip((vectors(found) * true).sum(axis=2), -1, 1)))
    assert angles[inside].mean() < 4


def test_normals_are_unit_vectors_and_a_plane_faces_the_viewer():
    found = annotate("normal_relief", disc())
    assert np.abs(np.linalg.norm(vectors(found), axis=2) - 1).max() < 0.02
    assert (annotate("normal_from_depth", np.full((9, 7), 90, np.uint8)) == (128, 128, 255)).all()


def test_the_relief_is_a_half_ball_near_white():
    found = annotate("depth_relief", disc(), {"base": 0})[..., 0].astype(float)
    rows, columns = (np.mgrid[0:128, 0:128] - 63.5) / 48
    ball = np.sqrt(np.clip(1 - rows**2 - columns**2, 0, 1)) * 255
    assert found[0, 0] == 0
    assert found.max() == 255
    assert np.abs(found - ball)[rows**2 + columns**2 < 0.8].mean() < 6


def test_the_rim_stands_before_the_background():
    found = annotate("depth_relief", disc(), {"base": 0.5})
    assert found[found > 0].min() >= 127


def test_a_plain_background_does_as_well_as_transparency():
    cut_out = disc()
    shape = cut_out[..., 3] > 0
    rows = np.mgrid[0:128, 0:128][0]
    backgrounds = np.stack([200 - rows // 4, 210 + rows // 8, 90 + rows // 2], axis=-1).astype(np.uint8)
    backgrounds[shape] = cut_out[shape][:, :3]
    one, other = annotate("depth_relief", cut_out), annotate("depth_relief", backgrounds)
    assert ((one > 0) != (other > 0)).mean() < 0.005


def test_regions_have_colours_of_the_palette_or_their_mean():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = (250, 20, 20)
    found = annotate("seg_superpixels", picture, seed=3)
    colors = np.unique(found.reshape(-1, 3), axis=0)
    assert len(colors) == 2
    assert {tuple(c) for c in colors.tolist()} <= {tuple(c) for c in ADE20K.tolist()}
    mean = annotate("seg_superpixels", picture, {"colors": "mean"})
    assert np.abs(mean.astype(int) - picture).max() <= 12
    assert not np.array_equal(found, annotate("seg_superpixels", picture, seed=4))


def test_the_palette_is_ade20k():
    assert ADE20K.shape == (150, 3)
    assert ADE20K[0].tolist() == [120, 120, 120]
    assert ADE20K[2].tolist() == [6, 230, 230]
    assert ADE20K[149].tolist() == [92, 0, 255]


def test_simple_ones_do_what_they_say():
    picture = still_life()
    assert (annotate("none", picture) == picture).all()
    assert (annotate("invert", picture) == 255 - picture).all()
    assert (annotate("tile_resample", picture) == picture).all()
    assert annotate("tile_resample", picture, {"down_sampling_rate": 8}).std() < picture.std()
    white = annotate("threshold", picture, {"threshold": 150})[..., 0] == 255
    assert (white == (picture.min(axis=2) > 150)).all()
    mixed = annotate("shuffle", picture, seed=1)
    assert not np.array_equal(mixed, picture)
    assert np.abs(mixed.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 60


def test_transparency_lies_over_white():
    clear = np.zeros((5, 5, 4), np.uint8)
    assert (annotate("none", clear) == 255).all()


def test_the_map_is_nobody_elses_memory():
    picture = still_life()
    annotate("none", picture)[:] = 0
    assert picture.any()


def test_pixel_perfect_is_a1111s_rule():
    assert pixel_perfect_resolution((600, 800), (512, 512)) == 512
    assert pixel_perfect_resolution((600, 800), (512, 768)) == 576
    assert pixel_perfect_resolution((600, 800), (512, 768), "resize_and_fill") == 512
