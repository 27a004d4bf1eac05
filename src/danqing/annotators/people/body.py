"""Bodies: MediaPipe's 33 points of each person (BlazePose: Bazarevsky and others, 2020), and OpenPose's 18."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danqing.annotators.people.detection import BODIES, find
from danqing.annotators.people.face import Face
from danqing.annotators.people.lite import open_model, sigmoid
from danqing.annotators.people.regions import Region, bounds, overlap, turn_between
from danqing.annotators.pose_drawing import POINTS, Joint
from danqing.annotators.sheet import Bytes, Floats

FILE = "pose_landmark_full.tflite"
POINT_COUNT = 33
_MIDDLE, _REACH = 33, 34  # two more points: between the hips, and on the circle around the person
_MARGIN = 1.25
_KERNEL, _LEAST_HEAT = 7, 0.5
_SAME_BODY = 0.6
_FOREHEAD, _CHIN = 10, 152  # of the face's mesh
_HIPS_BELOW, _HEADS_AROUND = 3.3, 4.8  # heights of a face: to the hips, and from them around the whole person

NOSE, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 11, 12
MEDIAPIPE: tuple[int | None, ...] = (0, None, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
"""Where OpenPose's 18 points are among the 33; the neck, which is not, is the middle of the shoulders."""


@dataclass(frozen=True)
class Body:
    """A person.

    Attributes:
        score: How sure the network is that there is one, 0 to 1.
        points: `[33, 2]` in pixels.
        visible: How likely each point is to be seen, `[33]`.
    """

    score: float
    points: Floats
    visible: Floats


def find_bodies(rgb: Bytes, folder: Path, least_score: float, faces: Sequence[Face] = ()) -> list[Body]:
    """The people in a picture, surest first.

    Args:
        rgb: `[h, w, 3]`.
        folder: Where the networks lie.
        least_score: 0 to 1.
        faces: Faces that were found: where one has no body, the body is looked for below it.
    """
    hits = find(BODIES, rgb, folder, least_score)
    bodies = [_seen(rgb, folder, _around(hit.points[0], hit.points[1]), least_score) for hit in hits]
    kept = _distinct([body for body in bodies if body is not None])
    for face in faces:
        if not any(_has_face(body, face) for body in kept):
            body = _seen(rgb, folder, _below(face), least_score)
            if body is not None and _has_face(body, face):
                kept = _distinct([*kept, body])
    return kept


def _seen(rgb: Bytes, folder: Path, region: Region, least_score: float) -> Body | None:
    """The person in a region; the second look is at the region that the first one gave."""
    seen = _landmarks(rgb, folder, region)
    if seen is None or seen[0] < least_score:
        return None
    again = _landmarks(rgb, folder, _around(seen[1][_MIDDLE], seen[1][_REACH])) or seen
    score, points, visible = again if again[0] >= least_score else seen
    return Body(score, points[:POINT_COUNT], visible[:POINT_COUNT])


def _distinct(bodies: list[Body]) -> list[Body]:
    kept: list[Body] = []
    for body in sorted(bodies, key=lambda one: -one.score):
        if all(overlap(_torso(body), _torso(other)) < _SAME_BODY for other in kept):
            kept.append(body)
    return kept


def _has_face(body: Body, face: Face) -> bool:
    """Whether the body's nose is in this face."""
    left, top, right, bottom = bounds(face.points)
    x, y = body.points[NOSE]
    return bool(left <= x <= right and top <= y <= bottom)


def _below(face: Face) -> Region:
    """Where the body of a face would be if it stood or sat upright."""
    forehead, chin = face.points[_FOREHEAD], face.points[_CHIN]
    down = chin - forehead
    middle = (forehead + chin) / 2 + down * _HIPS_BELOW
    return _around(np.asarray(middle, np.float32), np.asarray(middle - down * _HEADS_AROUND, np.float32))


def openpose_joints(body: Body, size_px: tuple[int, int], least_visible: float) -> list[Joint]:
    """OpenPose's 18 points; None where a point is not seen.

    Args:
        body: A person.
        size_px: Height and width of the picture; points outside are not seen.
        least_visible: Below it a point is not seen.
    """
    height_px, width_px = size_px

    def joint(place: int) -> Joint:
        x, y = (float(value) for value in body.points[place])
        inside = 0 <= x < width_px and 0 <= y < height_px
        return (x, y) if inside and body.visible[place] >= least_visible else None

    joints: list[Joint] = [None if place is None else joint(place) for place in MEDIAPIPE]
    left, right = joint(LEFT_SHOULDER), joint(RIGHT_SHOULDER)
    if left is not None and right is not None:
        joints[POINTS.index("neck")] = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    return joints


def _around(middle: Floats, reach: Floats) -> Region:
    """The square of a person from the middle of the hips and a point on the circle around the body."""
    side = 2 * math.hypot(*(reach - middle)) * _MARGIN
    return Region(float(middle[0]), float(middle[1]), max(side, 1.0), turn_between(middle, reach, math.pi / 2))


def _landmarks(rgb: Bytes, folder: Path, region: Region) -> tuple[float, Floats, Floats] | None:
    """Score, points `[39, 2]` in pixels and visibility `[39]`."""
    if region.side_px < 8:
        return None
    model = open_model(folder, FILE)
    answers = {answer.size: answer for answer in model(region.cut(rgb, model.side_px) / 255)}
    values = answers[195].reshape(39, 5)
    points = _refined(values[:, :2] / model.side_px, sigmoid(answers[64 * 64 * 39]))
    score = float(answers[1].reshape(-1)[0])
    return score, region.to_picture(points), sigmoid(values[:, 3])


def _refined(points: Floats, heat: Floats) -> Floats:
    """Points `[39, 2]`, 0 to 1, moved to the centre of the heat `[64, 64, 39]` around them, where it is hot enough."""
    side = heat.shape[0]
    moved = points.copy()
    reach = _KERNEL // 2
    for number, (x, y) in enumerate(points):
        column, row = int(x * side), int(y * side)
        if not (0 <= column < side and 0 <= row < side):
            continue
        top, left = max(0, row - reach), max(0, column - reach)
        part = heat[top : row + reach + 1, left : column + reach + 1, number]
        if float(part.max()) < _LEAST_HEAT:
            continue
        rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        total = float(part.sum())
        moved[number] = float((columns * part).sum()) / total / side, float((rows * part).sum()) / total / side
    return moved


def _torso(body: Body) -> Floats:
    return bounds(body.points[[11, 12, 23, 24, 0]])
