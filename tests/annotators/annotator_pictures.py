"""Pictures drawn by formula, so that no file of anybody's is needed."""

from __future__ import annotations

import cv2
import numpy as np


def still_life(side_px: int = 96) -> np.ndarray:
    """A red ball, a blue box and a green leaf before a gradient, `[side, side, 3]`."""
    scale, big = 4, side_px * 4
    rows, columns = np.mgrid[0:big, 0:big].astype(np.float32) / big
    picture = np.stack([200 + 40 * rows, 210 + 20 * columns, 190 + 50 * rows], axis=-1).astype(np.uint8)
    ball = (int(big * 0.35), int(big * 0.42))
    cv2.circle(picture, ball, int(big * 0.22), (200, 40, 30), -1)
    cv2.circle(picture, (int(big * 0.29), int(big * 0.35)), int(big * 0.05), (255, 200, 190), -1)
    cv2.rectangle(picture, (int(big * 0.55), int(big * 0.5)), (int(big * 0.88), int(big * 0.85)), (30, 70, 190), -1)
    leaf = np.array([[0.62, 0.12], [0.9, 0.2], [0.7, 0.4]]) * big
    cv2.fillPoly(picture, [leaf.astype(np.int32)], (40, 150, 60))
    return cv2.resize(picture, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)


def disc(side_px: int = 128, radius_px: int = 48) -> np.ndarray:
    """An opaque disc in the middle of transparency, `[side, side, 4]`."""
    picture = np.zeros((side_px, side_px, 4), np.uint8)
    rows, columns = np.mgrid[0:side_px, 0:side_px] - (side_px - 1) / 2
    picture[rows**2 + columns**2 <= radius_px**2] = (220, 80, 60, 255)
    return picture


def ball_depth(side_px: int = 128) -> np.ndarray:
    """The depth of a half ball as wide as the picture, near white, `[side, side]`."""
    rows, columns = (np.mgrid[0:side_px, 0:side_px] - (side_px - 1) / 2) / (side_px / 2)
    return np.rint(np.sqrt(np.clip(1 - rows**2 - columns**2, 0, 1)) * 255).astype(np.uint8)
