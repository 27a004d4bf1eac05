"""Networks whose weights come by pip: their maps on a real painting, their conventions, and what breaks them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annotator_pictures import disc, still_life
from make_carried_goldens import FOLDER, PICTURE, WEIGHTS, portrait
from PIL import Image

from danqing.annotators import annotate, is_installed, learned
from danqing.annotators.learned import find_weights, has_package
from danqing.annotators.people.body import MEDIAPIPE, Body, openpose_joints
from danqing.annotators.people.drawing import FACE_68, HAND_COLORS, HAND_LIMBS, OUTLINES, draw_hands
from danqing.annotators.people.regions import Region, turn_between
from danqing.annotators.pose_drawing import COLORS, POINTS
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.registry.annotators import find_annotator
from danqing.spec.registry.annotators_carried import CARRIED
from danqing.spec.registry.controls import CONTROL_TYPES


def needed(key: str) -> None:
    """Skip, and say why, where a network cannot run."""
    weights = find_annotator(key).weights
    if not is_installed(key, WEIGHTS):
        how = weights.carrier.command if weights.carrier else f"{weights.files[0]} in {WEIGHTS}"
        pytest.skip(f"NOT TESTED HERE: {key} needs {weights.package}; {how}")


def runner(module: str) -> None:
    pytest.importorskip(module, reason=f"NOT TESTED HERE: {module} is not installed")


def made(key: str, picture: np.ndarray, **params: object) -> np.ndarray:
    needed(key)
    return annotate(key, picture, params, weights_dir=WEIGHTS)


@pytest.mark.skipif(not PICTURE.exists(), reason=f"NOT TESTED HERE: {PICTURE} is not there")
@pytest.mark.parametrize("info", CARRIED, ids=lambda info: info.key)
def test_the_map_of_a_painting_is_the_golden_one(info):
    found = made(info.key, portrait())
    golden = np.asarray(Image.open(FOLDER / f"{info.key}.png").convert("RGB"))
    assert found.shape == golden.shape
    assert golden.any()
    if info.map_kind == "grey":
        assert 10 * np.log10(255**2 / max(float(np.mean((found.astype(float) - golden) ** 2)), 1e-9)) >= 35
    else:
        assert np.any(found != golden, axis=2).mean() <= 0.02


def test_every_golden_has_its_network():
    assert {path.stem for path in FOLDER.glob("*.png")} == {info.key for info in CARRIED}


@pytest.mark.skipif(not PICTURE.exists(), reason=f"NOT TESTED HERE: {PICTURE} is not there")
def test_a_mirrored_person_is_the_mirrored_pose_with_right_and_left_swapped():
    needed("mediapipe_pose")
    from danqing.annotators.people.body import find_bodies
    from danqing.annotators.people.face import find_faces

    folder = find_weights(find_annotator("mediapipe_pose").weights, None)
    poses = []
    for picture in (portrait(), np.ascontiguousarray(portrait()[:, ::-1])):
        faces = find_faces(picture, folder, 0.5)
        (body,) = find_bodies(picture, folder, 0.5, faces)
        poses.append(openpose_joints(body, picture.shape[:2], 0.5))
        # the person's right shoulder is on the left of a picture that it looks out of
        assert poses[-1][POINTS.index("right_shoulder")][0] < poses[-1][POINTS.index("left_shoulder")][0]
    swapped = [name.replace("right", "*").replace("left", "right").replace("*", "left") for name in POINTS]
    for place, other in enumerate(POINTS.index(name) for name in swapped):
        first, second = poses[0][place], poses[1][other]
        sure = not POINTS[place].endswith(("hip", "wrist"))  # the coat hides the hips, the folded hands each other
        if sure and first is not None and second is not None:
            assert np.hypot(first[0] - (320 - second[0]), first[1] - second[1]) < 20, POINTS[place]


def test_nobody_is_a_black_map():
    for key in ("mediapipe_pose_full", "mediapipe_face"):
        assert not made(key, still_life()).any()


def test_hed_is_white_on_black_and_safe_has_three_greys():
    found = made("softedge_hed_bsds", still_life())
    assert found[48, 12].max() > found[2, 2].max() + 60  # the ball's edge, the empty corner
    assert len(np.unique(made("softedge_hed_bsds", still_life(), safe="yes"))) <= 3
    assert set(np.unique(made("scribble_hed_bsds", still_life()))) <= {0, 255}


def test_straight_lines_are_white_and_where_they_are():
    picture = np.full((300, 400, 3), 230, np.uint8)
    picture[100:200, 80:320] = (60, 70, 90)
    found = made("mlsd_tiny", picture)[..., 0]
    assert set(np.unique(found)) == {0, 255}
    rows = np.flatnonzero(found[:, 200])
    assert len(rows)
    assert all(min(abs(row - 100), abs(row - 200)) <= 4 for row in rows)


def test_the_subject_is_white_and_a_picture_of_nothing_has_none():
    found = made("mask_cutout", disc())
    assert found[64, 64].min() > 200
    assert found[4, 4].max() < 30
    assert made("mask_cutout", np.full((64, 64, 3), 128, np.uint8)).mean() < 64


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("softedge_hed_bsds", "h5py"),
        ("mask_cutout", "onnxruntime"),
        ("mediapipe_pose_faceonly", "ai_edge_litert"),
        ("mlsd_tiny", "torch"),
    ],
)
def test_a_persons_own_files_go_first_and_damaged_ones_are_said_to_be(key: str, module: str, tmp_path: Path):
    runner(module)
    for name in find_annotator(key).weights.files:
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(BadFileError, match="cannot be read"):
        annotate(key, still_life(), weights_dir=tmp_path)


def test_another_h5_file_is_not_hed(tmp_path: Path):
    runner("h5py")
    import h5py

    with h5py.File(tmp_path / "hed_bsds500.weights.h5", "w") as file:
        file["block1/layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8), np.float32)
    with pytest.raises(BadFileError, match="block1/layers/conv2d/vars/0"):
        annotate("softedge_hed_bsds", still_life(), weights_dir=tmp_path)


def test_a_missing_runner_says_what_to_type(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learned, "has_package", lambda weights: False)
    assert not has_package(find_annotator("openpose").weights)
    with pytest.raises(MissingWeightsError) as caught:
        annotate("mediapipe_pose", still_life())
    assert 'pip install "danqing[annotators]"' in str(caught.value)


def test_openposes_points_come_from_the_right_ones():
    points = np.stack([np.arange(33), np.arange(33) * 2], axis=1).astype(np.float32) + 1
    joints = openpose_joints(Body(1.0, points, np.ones(33, np.float32)), (200, 200), 0.5)
    assert joints[POINTS.index("neck")] == (12.5, 24.0)
    assert joints[POINTS.index("right_wrist")] == (17.0, 33.0)
    assert joints[POINTS.index("left_ear")] == (8.0, 15.0)
    assert sorted(place for place in MEDIAPIPE if place is not None) == [0, 2, 5, 7, 8, *range(11, 17), *range(23, 29)]
    hidden = openpose_joints(Body(1.0, points, np.full(33, 0.4, np.float32)), (200, 200), 0.5)
    assert hidden == [None] * 18
    assert openpose_joints(Body(1.0, points, np.ones(33, np.float32)), (10, 200), 0.5)[4] is None


def test_colours_of_hands_and_faces():
    assert (len(HAND_LIMBS), len(set(HAND_COLORS)), HAND_COLORS[0]) == (20, 20, (255, 0, 0))
    assert HAND_LIMBS[:5] == ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5))
    sheet = np.zeros((100, 100, 3), np.uint8)
    points = np.stack([np.linspace(10, 90, 21), np.full(21, 50)], axis=1).astype(np.float32)
    draw_hands(sheet, [points])
    assert tuple(sheet[50, 10]) == (0, 0, 255)
    assert len(FACE_68) == 68
    assert OUTLINES[0][1] == (10, 200, 10)
    assert len(COLORS) == 18


def test_regions_go_there_and_back():
    region = Region(60.0, 40.0, 20.0, np.pi / 2)
    # turned clockwise by a right angle, the region's top is the picture's right
    assert np.allclose(region.to_picture(np.array([[0.5, 0.0]], np.float32)), [[70, 40]], atol=1e-4)
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[35:45, 66:70] = 255
    cut = region.cut(picture, 20)
    assert cut[2, 10].min() > 200
    assert cut[17, 10].max() < 50
    up, right = np.array([0.0, -1.0], np.float32), np.array([1.0, 0.0], np.float32)
    assert turn_between(np.zeros(2, np.float32), up, np.pi / 2) == pytest.approx(0)
    assert turn_between(np.zeros(2, np.float32), right, np.pi / 2) == pytest.approx(np.pi / 2)


def test_control_types_know_them():
    known = {key for one in CONTROL_TYPES for key in one.annotators}
    assert {info.key for info in CARRIED} - known == {"mask_cutout"}
