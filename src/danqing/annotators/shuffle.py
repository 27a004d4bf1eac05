"""The picture's colours and textures without its shapes."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Floats, Sheet

_MARGIN = 2


def shuffle(sheet: Sheet) -> Bytes:
    """The picture under a smooth random warp that reaches all of it, `[h, w, 3]`.

    Each point takes its colour from a place given by two fields of smooth noise, stretched over the whole picture
    (the idea of ControlNet 1.1's content shuffle).
    """
    height_px, width_px = sheet.rgb.shape[:2]
    rng = np.random.default_rng(sheet.seed)
    grain_px = max(1.0, sheet.number("grain") * sheet.short_px)
    across = _field(rng, (height_px, width_px), grain_px) * (width_px - 1)
    down = _field(rng, (height_px, width_px), grain_px) * (height_px - 1)
    return np.asarray(cv2.remap(sheet.rgb, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _field(rng: np.random.Generator, size_px: tuple[int, int], grain_px: float) -> Floats:
    """Smooth noise `[h, w]` that fills 0 to 1: random points a grain apart, joined by cubics."""
    points = [int(np.ceil(side / grain_px)) + 1 + 2 * _MARGIN for side in size_px]
    noise = rng.random((points[0], points[1]), np.float32)
    wide = cv2.resize(noise, (round(points[1] * grain_px), round(points[0] * grain_px)), interpolation=cv2.INTER_CUBIC)
    start = round(_MARGIN * grain_px)
    cut = np.asarray(wide[start : start + size_px[0], start : start + size_px[1]], np.float32)
    span = float(cut.max() - cut.min())
    return np.ascontiguousarray((cut - cut.min()) / span if span > 0 else np.zeros_like(cut))
