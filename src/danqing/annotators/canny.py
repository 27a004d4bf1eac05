"""Outlines by Canny's edge detector."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Sheet


def canny(sheet: Sheet) -> Bytes:
    """White edges on black `[h, w]` (J. Canny, 1986, as in OpenCV, on the strongest of the three channels)."""
    low, high = sorted((sheet.number("low_threshold"), sheet.number("high_threshold")))
    return np.asarray(cv2.Canny(sheet.rgb, low, high), np.uint8)
