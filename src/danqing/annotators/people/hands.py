"""Hands: MediaPipe's 21 points (Zhang and others, 2020), which are OpenPose's in the same order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from danqing.annotators.people.body import Body
from danqing.annotators.people.detection import PALMS, find
from danqing.annotators.people.lite import open_model
from danqing.annotators.people.regions import Region, bounds, overlap, turn_between
from danqing.annotators.sheet import Bytes, Floats

FILE = "hand_landmark_full.tflite"
POINT_COUNT = 21
_PALM_SHIFT, _PALM_MARGIN = -0.5, 2.6
_TRACK_SHIFT, _TRACK_MARGIN = -0.1, 2.0
_TRACKED = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # wrist and the lower joints
_SAME_HAND = 0.4
# wrist, little finger and forefinger among the body's 33 points: right, left
_WRISTS = ((16, 18, 20), (15, 17, 19))
_WRIST_SIDE = 5.0  # of the distance from the wrist to the knuckles


@dataclass(frozen=True)
class Hand:
    """A hand.

    Attributes:
        score: How sure the network is that it is one, 0 to 1.
        points: `[21, 2]` in pixels: wrist, thumb, forefinger … little finger, each from its root.
    """

    score: float
    points: Floats


def find_hands(rgb: Bytes, folder: Path, least_score: float, bodies: list[Body] | None = None) -> list[Hand]:
    """The hands in a picture, surest first.

    Args:
        rgb: `[h, w, 3]`.
        folder: Where the networks lie.
        least_score: 0 to 1.
        bodies: People whose wrists are looked at closely besides.
    """
    near = tuple(region for body in bodies or () for region in _wrists(body, least_score))
    hands: list[Hand] = []
    for hit in find(PALMS, rgb, folder, least_score, near):
        angle = turn_between(hit.points[0], hit.points[2], math.pi / 2)
        middle, side = (hit.box[:2] + hit.box[2:]) / 2, float((hit.box[2:] - hit.box[:2]).max())
        palm = Region(float(middle[0]), float(middle[1]), side, angle)
        hand = _landmarks(rgb, folder, palm.moved(0.0, _PALM_SHIFT, _PALM_MARGIN))
        if hand is None or hand.score < least_score:
            continue
        better = _landmarks(rgb, folder, _around(hand.points))
        hands.append(better if better is not None and better.score >= hand.score else hand)
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda one: -one.score):
        if all(overlap(bounds(hand.points), bounds(other.points)) < _SAME_HAND for other in kept):
            kept.append(hand)
    return kept


def _wrists(body: Body, least_visible: float) -> list[Region]:
    found: list[Region] = []
    for wrist, little, fore in _WRISTS:
        if body.visible[wrist] < least_visible:
            continue
        knuckles = (body.points[little] + 2 * body.points[fore]) / 3
        reach = math.hypot(*(knuckles - body.points[wrist]))
        if reach >= 4:
            found.append(Region(float(knuckles[0]), float(knuckles[1]), reach * _WRIST_SIDE))
    return found


def _around(points: Floats) -> Region:
    """The square of a hand from the points a first look found."""
    # the middle of the knuckles of forefinger, middle and ring finger, weighted towards the middle one
    knuckle = (points[5] + points[13]) / 4 + points[9] / 2
    angle = turn_between(points[0], knuckle, math.pi / 2)
    upright = Region(0.0, 0.0, 1.0, -angle).to_picture(points[list(_TRACKED)] + 0.5)
    box = bounds(upright)
    middle = Region(0.0, 0.0, 1.0, angle).to_picture(((box[:2] + box[2:]) / 2 + 0.5)[None])[0]
    square = Region(float(middle[0]), float(middle[1]), float((box[2:] - box[:2]).max()), angle)
    return square.moved(0.0, _TRACK_SHIFT, _TRACK_MARGIN)


def _landmarks(rgb: Bytes, folder: Path, region: Region) -> Hand | None:
    if region.side_px < 8:
        return None
    model = open_model(folder, FILE)
    answers = model(region.cut(rgb, model.side_px) / 255)
    points = np.asarray(answers[0].reshape(POINT_COUNT, 3)[:, :2] / model.side_px, np.float32)
    return Hand(float(answers[1].reshape(-1)[0]), region.to_picture(points))
