"""Faces: MediaPipe's mesh of 468 points and the pupils (Kartynnik and others, 2019; Ablavatski and others, 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danqing.annotators.people.detection import FACES, find
from danqing.annotators.people.lite import open_model, sigmoid
from danqing.annotators.people.regions import Region, bounds, overlap, turn_between
from danqing.annotators.sheet import Bytes, Floats

FILE, IRIS_FILE = "face_landmark.tflite", "iris_landmark.tflite"
POINT_COUNT = 468
_MARGIN = 1.5
_IRIS_MARGIN = 2.3
_SAME_FACE = 0.4
_NOSE = 4
_RIGHT_CORNERS, _LEFT_CORNERS = (33, 133), (263, 362)  # outer, inner


@dataclass(frozen=True)
class Face:
    """A face; right and left are the person's own.

    Attributes:
        score: How sure the network is that it is one, 0 to 1.
        points: The mesh `[468, 2]` in pixels.
        pupils: Right and left, `[2, 2]` in pixels.
    """

    score: float
    points: Floats
    pupils: Floats


def find_faces(rgb: Bytes, folder: Path, least_score: float, extra: tuple[Region, ...] = ()) -> list[Face]:
    """The faces in a picture, largest first."""
    faces: list[Face] = []
    for hit in find(FACES, rgb, folder, least_score, extra):
        angle = turn_between(hit.points[0], hit.points[1], 0.0)
        middle, size = (hit.box[:2] + hit.box[2:]) / 2, hit.box[2:] - hit.box[:2]
        region = Region(float(middle[0]), float(middle[1]), float(size.max()) * _MARGIN, angle)
        face = _mesh(rgb, folder, region)
        if face is None or face.score < least_score:
            continue
        # a second look with the face as the first found it
        better = _mesh(rgb, folder, _around(face.points))
        faces.append(better if better is not None and better.score >= face.score else face)
    kept: list[Face] = []
    for face in sorted(faces, key=lambda one: -one.score):
        if not any(_same(face, other) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda one: -float(np.prod(one.points.max(axis=0) - one.points.min(axis=0))))


def _same(first: Face, second: Face) -> bool:
    """Whether two looks found one face: their boxes overlap, or the nose of one is in the other's."""
    one, two = bounds(first.points), bounds(second.points)
    nose = first.points[_NOSE]
    return overlap(one, two) > _SAME_FACE or bool(np.all(two[:2] < nose) and np.all(nose < two[2:]))


def _around(points: Floats) -> Region:
    right, left = points[_RIGHT_CORNERS[0]], points[_LEFT_CORNERS[0]]
    angle = turn_between(right, left, 0.0)
    upright = Region(0.0, 0.0, 1.0, -angle).to_picture(points + 0.5)
    box = bounds(upright)
    middle = Region(0.0, 0.0, 1.0, angle).to_picture(((box[:2] + box[2:]) / 2 + 0.5)[None])[0]
    return Region(float(middle[0]), float(middle[1]), float((box[2:] - box[:2]).max()) * _MARGIN, angle)


def _mesh(rgb: Bytes, folder: Path, region: Region) -> Face | None:
    if region.side_px < 8:
        return None
    model = open_model(folder, FILE)
    mesh, flag = sorted(model(region.cut(rgb, model.side_px) / 255), key=lambda answer: -answer.size)
    points = region.to_picture(mesh.reshape(POINT_COUNT, 3)[:, :2] / model.side_px)
    pupils = [_pupil(rgb, folder, points[list(eye)], right=place == 0) for place, eye in enumerate(_EYES)]
    return Face(float(sigmoid(flag.reshape(-1))[0]), points, np.stack(pupils))


_EYES = (_RIGHT_CORNERS, _LEFT_CORNERS)


def _pupil(rgb: Bytes, folder: Path, corners: Floats, *, right: bool) -> Floats:
    """The pupil of the eye between two corners. The network knows left eyes: right ones are shown in a mirror."""
    outer, inner = corners
    middle = (outer + inner) / 2
    side = math.hypot(*(inner - outer)) * _IRIS_MARGIN
    if side < 4:
        return np.asarray(middle, np.float32)
    way = (outer, inner) if right else (inner, outer)
    region = Region(float(middle[0]), float(middle[1]), side, turn_between(*way, 0.0))
    model = open_model(folder, IRIS_FILE)
    view = region.cut(rgb, model.side_px) / 255
    iris = min(model(view[:, ::-1] if right else view), key=lambda answer: answer.size)
    point = iris.reshape(5, 3)[0, :2] / model.side_px
    if right:
        point = np.array([1 - point[0], point[1]], np.float32)
    return region.to_picture(point[None])[0]
