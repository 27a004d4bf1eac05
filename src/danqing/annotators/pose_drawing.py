"""Bodies as OpenPose draws them: 18 points, 17 limbs, the colours and the width that ControlNets were trained on.

Order of points, limbs and colours: OpenPose's COCO model (Cao and others, 2019). Limbs are filled ellipses at 0.6 of
their colour, joints are discs over them at the full colour, as in ControlNet 1.1's maps. The page draws the same map in
the browser (`web/components/canvas/skeleton.js`); a test holds both together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.spec.errors import InvalidRequestError

Bytes = NDArray[np.uint8]
Joint = tuple[float, float] | None
Person = Sequence[Joint]
"""18 points in pixels in the order of `POINTS`; None where a point is not seen."""

POINTS: tuple[str, ...] = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of `POINTS`, in the order they are drawn; the n-th has the n-th colour."""
COLORS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)
"""RGB of each point, and (the first 17) of each limb."""
STICK_PX = 4
"""Half the width of a limb, and the radius of a joint, at every size of the map."""
LIMB_SHADE = 0.6
BODY_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Where the 18 points are among the 25 of OpenPose's newer body model, which has a hip in the middle and feet."""


def draw_poses(people: Sequence[Person], width: int, height: int) -> Bytes:
    """The OpenPose map of some people.

    Args:
        people: Each with 18 points in pixels.
        width: Of the map, in pixels.
        height: Of the map, in pixels.

    Returns:
        RGB on black, uint8 `[height, width, 3]`.

    Raises:
        InvalidRequestError: A person has not 18 points.
    """
    sheet: Bytes = np.zeros((height, width, 3), np.uint8)
    for number, person in enumerate(people):
        if len(person) != len(POINTS):
            raise InvalidRequestError(
                f"person {number + 1} has not the points of an OpenPose body",
                field="people",
                value=f"{len(person)} points",
                allowed=f"{len(POINTS)} points, None for those not seen",
                next_step="give nose, neck, right and left arm, right and left leg, eyes, ears, in this order",
            )
        _draw(sheet, person)
    return sheet


def _draw(sheet: Bytes, person: Person) -> None:
    for (start, end), color in zip(LIMBS, COLORS, strict=False):
        first, second = person[start], person[end]
        if first is not None and second is not None:
            shade = [int(LIMB_SHADE * part) for part in color]
            cv2.fillConvexPoly(sheet, _limb(first, second), shade)
    for joint, color in zip(person, COLORS, strict=True):
        if joint is not None:
            cv2.circle(sheet, (int(joint[0]), int(joint[1])), STICK_PX, color, thickness=-1)


def _limb(first: tuple[float, float], second: tuple[float, float]) -> NDArray[np.int32]:
    """The ellipse between two joints as a polygon of whole pixels `[n, 2]`."""
    dx, dy = first[0] - second[0], first[1] - second[1]
    middle = (int((first[0] + second[0]) / 2), int((first[1] + second[1]) / 2))
    axes = (int(math.hypot(dx, dy) / 2), STICK_PX)
    polygon: NDArray[np.int32] = cv2.ellipse2Poly(middle, axes, int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
    return polygon


def people_from_openpose(data: Mapping[str, Any]) -> list[list[Joint]]:
    """The people of OpenPose's JSON: `{"people": [{"pose_keypoints_2d": [x, y, score, …]}]}`.

    Bodies of 18 points (COCO) and of 25 (BODY_25) are read; a point with score 0 is not seen. Coordinates are as they
    stand in the file: pixels of the picture it was made from.

    Raises:
        InvalidRequestError: It is not of this form.

    >>> people_from_openpose({"people": [{"pose_keypoints_2d": [5, 6, 1] + [0] * 51}]})[0][:2]
    [(5.0, 6.0), None]
    """
    people = data.get("people")
    if not isinstance(people, list):
        raise _unread("people", type(people).__name__, "a list of people")
    return [_person(entry, f"people.{number}.pose_keypoints_2d") for number, entry in enumerate(people)]


def _person(entry: object, field: str) -> list[Joint]:
    numbers = entry.get("pose_keypoints_2d") if isinstance(entry, Mapping) else None
    if not isinstance(numbers, list) or len(numbers) not in (54, 75):
        given = f"{len(numbers)} numbers" if isinstance(numbers, list) else type(numbers).__name__
        raise _unread(field, given, "18 × 3 or 25 × 3 numbers")
    try:
        values = [float(number) for number in numbers]
    except (TypeError, ValueError) as error:
        raise _unread(field, "something that is no number", "x, y, score, x, y, score, …") from error
    places = range(len(POINTS)) if len(values) == len(POINTS) * 3 else BODY_25
    return [_joint(values[3 * place : 3 * place + 3]) for place in places]


def _joint(values: Sequence[float]) -> Joint:
    x, y, score = values
    return (x, y) if score > 0 and math.isfinite(x) and math.isfinite(y) else None


def people_to_openpose(people: Sequence[Person], width: int, height: int) -> dict[str, Any]:
    """The same as JSON, with the size of the canvas; a point that is not seen is 0, 0, 0."""
    bodies = [[value for joint in person for value in _triple(joint)] for person in people]
    return {
        "people": [{"pose_keypoints_2d": body} for body in bodies],
        "canvas_width": width,
        "canvas_height": height,
    }


def _triple(joint: Joint) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if joint is None else (*joint, 1.0)


def _unread(field: str, value: str, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        "this is not OpenPose's JSON", field=field, value=value, allowed=allowed, next_step="export it again as JSON"
    )
