"""Every annotator takes every picture, and says the same twice."""

from __future__ import annotations

import time

import numpy as np
import pytest
from annotator_pictures import disc, still_life
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.annotators import annotate, is_installed
from danqing.annotators.base import implemented
from danqing.spec.errors import DanqingError, InvalidRequestError, UnsupportedError
from danqing.spec.registry.annotators import ANNOTATORS, CLASSICAL, find_annotator, resolve_parameters

KEYS = [info.key for info in CLASSICAL]
OUTLINES = {"depth_relief", "normal_relief"}


@st.composite
def pictures(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    shape = draw(st.sampled_from([(height, width), *((height, width, channels) for channels in (1, 3, 4))]))
    kind = draw(st.sampled_from(["flat", "noise", "ramp"]))
    if kind == "flat":
        return np.full(shape, draw(st.integers(0, 255)), np.uint8)
    if kind == "ramp":
        return np.broadcast_to(np.linspace(0, 255, height).astype(np.uint8).reshape(-1, *[1] * (len(shape) - 1)), shape)
    return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("name", KEYS)
@settings(max_examples=25, deadline=None)
@given(picture=pictures(), resolution_px=st.sampled_from([None, None, 16, 96]))
def test_any_size_and_mode(name: str, picture: np.ndarray, resolution_px: int | None):
    try:
        found = annotate(name, picture, resolution_px=resolution_px)
    except UnsupportedError:
        assert name in OUTLINES
        return
    assert found.shape == (*picture.shape[:2], 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, annotate(name, picture, resolution_px=resolution_px))


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_works_and_has_no_lines(name: str, value: int):
    found = annotate(name, np.full((40, 60, 3), value, np.uint8))
    assert found.shape == (40, 60, 3)
    if find_annotator(name).control_class == "line" and name not in {"invert", "threshold"}:
        assert found.max() == 0


@pytest.mark.parametrize("name", KEYS)
def test_long_thin_pictures_do_not_blow_up(name: str):
    assert annotate(name, np.full((1, 4096, 3), 200, np.uint8), resolution_px=512).shape == (1, 4096, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_the_largest_picture(name: str):
    picture = np.kron(disc(), np.ones((32, 32, 1), np.uint8))
    assert annotate(name, picture).shape == (4096, 4096, 3)


@pytest.mark.parametrize("name", KEYS)
def test_resolution_keeps_the_size(name: str):
    assert annotate(name, still_life(), resolution_px=200).shape == (96, 96, 3)


@pytest.mark.parametrize("name", [info.key for info in CLASSICAL if info.seeded])
def test_the_seed_decides(name: str):
    one, again, other = (annotate(name, still_life(), seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "name", ["canny", "lineart_xdog", "softedge_dog", "scribble_canny", "mlsd_lsd", "seg_superpixels"]
)
def test_training_can_afford_it(name: str):
    picture = still_life(128)
    annotate(name, picture)
    times = []
    for _ in range(5):
        start = time.process_time()
        annotate(name, picture)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_the_registry_and_the_code_list_the_same():
    assert implemented() == {info.key for info in ANNOTATORS}
    assert len({info.key for info in ANNOTATORS}) == len(ANNOTATORS)
    assert all(is_installed(info.key) for info in CLASSICAL)


def test_every_spelling_finds_one_annotator():
    for info in ANNOTATORS:
        for spelling in (info.key, info.name, *info.aliases):
            assert find_annotator(f" {spelling.upper()} ") is info


def test_no_classical_map_under_a_learned_name():
    learned = {
        "softedge_hed",
        "softedge_pidinet",
        "hed",
        "pidinet",
        "mlsd",
        "depth",
        "normal_bae",
        "lineart",
        "segmentation",
    }
    assert all(find_annotator(name).method == "learned" for name in learned)


@pytest.mark.parametrize("info", ANNOTATORS, ids=lambda info: info.key)
def test_every_default_is_allowed_and_explained(info):
    defaults = {item.key: item.default for item in info.parameters}
    assert resolve_parameters(info, defaults) == defaults
    assert info.hint.endswith(".")
    assert all(item.hint.endswith(".") for item in info.parameters)
    other = None if info.instead is None else find_annotator(info.instead)
    assert other is None or other.weights is None or other.weights.carrier is not None


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"low_threshold": 300}, "params.low_threshold"),
        ({"low_threshold": "soft"}, "params.low_threshold"),
        ({"low_threshold": float("nan")}, "params.low_threshold"),
        ({"low_threshold": True}, "params.low_threshold"),
        ({"low_threshold": [1]}, "params.low_threshold"),
        ({"colour": 1}, "params.colour"),
        ({"low_threshold": 1, "threshold_a": 2}, "params.threshold_a"),
    ],
)
def test_wrong_settings_are_refused(params: dict[str, object], field: str):
    with pytest.raises(InvalidRequestError) as caught:
        annotate("canny", still_life(), params)
    assert caught.value.field == field
    assert caught.value.allowed
    assert caught.value.next_step


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4097, 1, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray):
    with pytest.raises(InvalidRequestError, match="no picture"):
        annotate("canny", picture)


@pytest.mark.parametrize("resolution_px", [0, -1, 15, 2049])
def test_a_wrong_resolution_is_refused(resolution_px: int):
    with pytest.raises(InvalidRequestError, match="resolution"):
        annotate("canny", still_life(), resolution_px=resolution_px)


def test_an_unknown_name_and_seed_are_refused():
    with pytest.raises(InvalidRequestError, match="did you mean"):
        annotate("cany", still_life())
    with pytest.raises(InvalidRequestError, match="seed"):
        annotate("shuffle", still_life(), seed=-1)


def test_no_outline_no_relief():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(DanqingError, match="neither transparency nor a plain background") as caught:
        annotate("depth_relief", noise)
    assert "depth_midas" in (caught.value.next_step or "")
