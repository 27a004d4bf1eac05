"""Turned squares in a picture: what a network of landmarks looks at, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Floats


@dataclass(frozen=True)
class Region:
    """A square in a picture, perhaps turned and partly outside.

    Attributes:
        x: Its middle, in pixels.
        y: Its middle, in pixels.
        side_px: Its side.
        angle: How far its own upright is turned clockwise, in radians.
    """

    x: float
    y: float
    side_px: float
    angle: float = 0.0

    def to_picture(self, points: Floats) -> Floats:
        """Points `[n, 2]` of the square (0 to 1 across it) in pixels of the picture."""
        centred = (np.asarray(points, np.float32) - 0.5) * self.side_px
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turned = centred @ np.array([[cosine, sine], [-sine, cosine]], np.float32)
        return np.asarray(turned + np.array([self.x, self.y], np.float32), np.float32)

    def cut(self, rgb: Bytes, side_px: int) -> Floats:
        """What it shows, float32 `[side, side, 3]`, 0 to 255; black outside the picture."""
        corners = self.to_picture(np.array([[0, 0], [1, 0], [0, 1]], np.float32))
        goal = np.array([[0, 0], [side_px, 0], [0, side_px]], np.float32)
        shrink = self.side_px / side_px
        # far smaller than the picture: blurred first, for sampling single pixels would make it rough
        source = cv2.GaussianBlur(rgb, (0, 0), shrink / 3) if shrink > 2 else rgb
        matrix = cv2.getAffineTransform(corners, goal)
        return np.asarray(cv2.warpAffine(source, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR), np.float32)

    def moved(self, right: float, down: float, scale: float) -> Region:
        """Shifted by shares of its side along its own axes, then scaled."""
        middle = self.to_picture(np.array([[0.5 + right, 0.5 + down]], np.float32))[0]
        return Region(float(middle[0]), float(middle[1]), self.side_px * scale, self.angle)


def turn_between(first: Floats, second: Floats, target: float) -> float:
    """The angle of a region in which the way from one point to the other points to `target` (π/2: upwards).

    Args:
        first: x and y.
        second: x and y.
        target: In radians, counter-clockwise from the right.
    """
    angle = target - math.atan2(-(second[1] - first[1]), second[0] - first[0])
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


def overlap(first: Floats, second: Floats) -> float:
    """Shared area of two boxes (x, y, x, y) over the area of both."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    both = sum(float((box[2] - box[0]) * (box[3] - box[1])) for box in (first, second)) - shared
    return shared / max(both, 1e-9)


def bounds(points: Floats) -> Floats:
    """The box around points `[n, 2]`: x, y, x, y."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
