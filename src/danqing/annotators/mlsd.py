"""Straight lines by formula."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Sheet

_LEAST_SIDE_PX = 8


def mlsd_lsd(sheet: Sheet) -> Bytes:
    """White straight segments on black `[h, w]` (LSD: Grompone von Gioi and others, 2012, as in OpenCV)."""
    height_px, width_px = sheet.rgb.shape[:2]
    drawn = np.zeros((height_px, width_px), np.uint8)
    if sheet.short_px < _LEAST_SIDE_PX:
        return drawn
    found: Any = cv2.createLineSegmentDetector().detect(np.rint(sheet.grey).astype(np.uint8))[0]
    if found is None:
        return drawn
    ends = np.asarray(found, np.float32).reshape(-1, 4)
    lengths = np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1])
    for x0, y0, x1, y1 in np.rint(ends[lengths >= sheet.number("min_length") * sheet.short_px]).astype(int):
        cv2.line(drawn, (int(x0), int(y0)), (int(x1), int(y1)), 255, round(sheet.number("thickness_px")))
    return drawn
