"""Hands and faces as ControlNet 1.1's OpenPose maps show them, and faces as the MediaPipe-face ControlNets do."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from danqing.annotators.people.face import Face
from danqing.annotators.sheet import Bytes, Floats

HAND_LIMBS: tuple[tuple[int, int], ...] = tuple(
    pair for root in (1, 5, 9, 13, 17) for pair in pairwise((0, root, root + 1, root + 2, root + 3))
)
"""Pairs of a hand's points, thumb first."""
HAND_COLORS: tuple[tuple[int, int, int], ...] = tuple(
    (int(red * 255), int(green * 255), int(blue * 255))
    for red, green, blue in (colorsys.hsv_to_rgb(place / len(HAND_LIMBS), 1, 1) for place in range(len(HAND_LIMBS)))
)
HAND_POINT = (0, 0, 255)
FACE_POINT = (255, 255, 255)
_LINE_PX, _HAND_RADIUS_PX, _FACE_RADIUS_PX = 2, 4, 3

# The 68 points of a face (iBUG's order, as OpenPose has them) among the mesh's 468; two pupils come behind them.
JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
RIGHT_BROW, LEFT_BROW = (71, 63, 105, 66, 107), (336, 296, 334, 293, 301)
NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
RIGHT_EYE, LEFT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
MOUTH = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
FACE_68: tuple[int, ...] = (*JAW, *RIGHT_BROW, *LEFT_BROW, *NOSE, *RIGHT_EYE, *LEFT_EYE, *MOUTH)

# Outlines in the mesh. Colours are RGB.
_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)
_OVAL += (148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10)
_RIGHT_LIDS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33)
_LEFT_LIDS = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263)
_OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61)
_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78)
OUTLINES: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
    (_OVAL, (10, 200, 10)),
    (_LEFT_LIDS, (10, 200, 180)),
    ((276, 283, 282, 295, 285), (10, 220, 180)),
    ((300, 293, 334, 296, 336), (10, 220, 180)),
    (_RIGHT_LIDS, (180, 200, 10)),
    ((46, 53, 52, 65, 55), (180, 220, 10)),
    ((70, 63, 105, 66, 107), (180, 220, 10)),
    (_OUTER_LIPS, (10, 180, 10)),
    (_INNER_LIPS, (10, 180, 10)),
)
PUPIL_COLORS = ((250, 200, 10), (10, 200, 250))
"""Right and left."""
_PUPIL_HALF_PX = 2


def draw_hands(sheet: Bytes, hands: Sequence[Floats]) -> None:
    """Draw hands `[21, 2]` in pixels on a map `[h, w, 3]`."""
    for points in hands:
        for (start, end), color in zip(HAND_LIMBS, HAND_COLORS, strict=True):
            cv2.line(sheet, _pixel(points[start]), _pixel(points[end]), color, _LINE_PX)
        for point in points:
            cv2.circle(sheet, _pixel(point), _HAND_RADIUS_PX, HAND_POINT, -1)


def draw_face_points(sheet: Bytes, faces: Sequence[Face]) -> None:
    """Draw the 70 points of faces on a map `[h, w, 3]`."""
    for face in faces:
        for point in face_70(face):
            cv2.circle(sheet, _pixel(point), _FACE_RADIUS_PX, FACE_POINT, -1)


def face_70(face: Face) -> Floats:
    """OpenPose's 70 points of a face `[70, 2]`: iBUG's 68, right pupil, left pupil."""
    return np.concatenate([face.points[list(FACE_68)], face.pupils])


def draw_outlines(faces: Sequence[Face], height_px: int, width_px: int) -> Bytes:
    """The map `[h, w, 3]` that the MediaPipe-face ControlNets were trained on."""
    sheet: Bytes = np.zeros((height_px, width_px, 3), np.uint8)
    for face in faces:
        for path, color in OUTLINES:
            for start, end in pairwise(path):
                cv2.line(sheet, _pixel(face.points[start]), _pixel(face.points[end]), color, _LINE_PX)
        for pupil, color in zip(face.pupils, PUPIL_COLORS, strict=True):
            x, y = _pixel(pupil)
            top, left = max(0, y - _PUPIL_HALF_PX), max(0, x - _PUPIL_HALF_PX)
            sheet[top : max(0, y + _PUPIL_HALF_PX), left : max(0, x + _PUPIL_HALF_PX)] = color
    return sheet


def _pixel(point: Floats) -> tuple[int, int]:
    return int(point[0]), int(point[1])
