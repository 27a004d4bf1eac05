"""Bodies as OpenPose draws them: order, colours, width; its JSON. `golden/pose/people.png` was looked at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.annotators.pose_drawing import (
    COLORS,
    LIMBS,
    POINTS,
    draw_poses,
    people_from_openpose,
    people_to_openpose,
)
from danqing.spec.errors import InvalidRequestError

GOLDEN = Path(__file__).parent / "golden" / "pose" / "people.png"
STANDING = (
    (100, 30),
    (100, 62),
    (72, 62),
    (64, 104),
    (60, 144),
    (128, 62),
    (136, 104),
    (140, 144),
    (84, 146),
    (82, 198),
    (80, 244),
    (116, 146),
    (118, 198),
    (120, 244),
    (94, 24),
    (106, 24),
    (86, 28),
    (114, 28),
)


def people():
    """One who is seen whole, one at the edge without an arm and an ear."""
    second = [(x * 0.8 + 150.5, y * 0.8 + 40.25) for x, y in STANDING]
    return [list(STANDING), [None if n in (3, 4, 17) else joint for n, joint in enumerate(second)]]


def only(*points):
    return [STANDING[n] if n in points else None for n in range(len(POINTS))]


def test_a_body_has_18_points_and_17_limbs_in_openposes_colours():
    assert (len(POINTS), len(LIMBS), len(COLORS)) == (18, 17, 18)
    assert {point for limb in LIMBS for point in limb} == set(range(18))
    named = {POINTS[b]: COLORS[n] for n, (_, b) in enumerate(LIMBS)}
    assert named["right_shoulder"] == (255, 0, 0)
    assert named["left_shoulder"] == (255, 85, 0)
    assert named["right_hip"] == (0, 255, 0)
    assert named["nose"] == (0, 0, 255)
    assert dict(zip(POINTS, COLORS, strict=True))["left_ear"] == (255, 0, 85)


@pytest.mark.parametrize("number", range(17))
def test_a_limb_is_0_6_of_its_colour_and_its_joints_are_whole(number):
    start, end = LIMBS[number]
    sheet = draw_poses([only(start, end)], 220, 260)
    found = {tuple(int(part) for part in color) for color in np.unique(sheet.reshape(-1, 3), axis=0)}
    shade = tuple(int(0.6 * part) for part in COLORS[number])
    assert found - {shade} == {(0, 0, 0), COLORS[start], COLORS[end]}
    assert (shade in found) == (np.hypot(*np.subtract(STANDING[start], STANDING[end])) > 8)


def test_a_limb_is_8_px_wide_and_a_joint_9():
    sheet = draw_poses([only(11, 12)], 220, 260)
    across = sheet[172, :, 1] > 0
    assert 8 <= across.sum() <= 9
    disc = draw_poses([only(0)], 220, 260)[30, :, 0] == 255
    assert np.flatnonzero(disc).tolist() == list(range(96, 105))


def test_what_is_not_seen_is_not_drawn():
    assert not draw_poses([], 64, 48).any()
    assert draw_poses([], 64, 48).shape == (48, 64, 3)
    assert not draw_poses([[None] * 18], 64, 48).any()
    alone = draw_poses([only(3)], 220, 260)
    assert alone[104, 64].tolist() == list(COLORS[3])
    assert (alone.any(axis=2)).sum() < 60  # a disc, no limb


def test_outside_the_picture_is_no_error():
    outside = [(x - 90.0, y - 200.0) for x, y in STANDING]
    assert draw_poses([outside], 64, 64).any()


def test_the_map_is_the_golden_one():
    golden = np.asarray(Image.open(GOLDEN).convert("RGB"))
    found = draw_poses(people(), 288, 264)
    assert found.shape == golden.shape
    assert np.any(found != golden, axis=2).mean() <= 0.002


def test_a_person_with_another_number_of_points_is_refused():
    with pytest.raises(InvalidRequestError, match="person 2"):
        draw_poses([[None] * 18, [None] * 17], 64, 64)


def test_json_there_and_back():
    data = json.loads(json.dumps(people_to_openpose(people(), 288, 264)))
    assert (data["canvas_width"], data["canvas_height"]) == (288, 264)
    assert people_from_openpose(data) == [[joint and tuple(map(float, joint)) for joint in body] for body in people()]


def test_bodies_of_25_points_lose_their_middle_hip_and_feet():
    numbers = [float(n) for point in range(25) for n in (point + 1, 10 * point + 1, 1)]
    (body,) = people_from_openpose({"people": [{"pose_keypoints_2d": numbers}]})
    assert [joint[0] - 1 for joint in body] == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"people": {}},
        {"people": [{}]},
        {"people": [{"pose_keypoints_2d": [1, 2, 3]}]},
        {"people": [{"pose_keypoints_2d": ["x"] * 54}]},
        {"people": ["nobody"]},
    ],
)
def test_other_json_is_refused(data):
    with pytest.raises(InvalidRequestError, match="OpenPose"):
        people_from_openpose(data)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    Image.fromarray(draw_poses(people(), 288, 264)).save(GOLDEN, optimize=True)
