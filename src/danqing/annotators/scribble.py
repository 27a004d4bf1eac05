"""Scribbles by formula."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.lineart import blur
from danqing.annotators.sheet import Bytes, Floats, Sheet

_REFERENCE_PX = 512
_LEAST_SIGMA_PX = 0.8
_SHORTEST = 0.04
_FINE_PX, _COARSE_PX = 0.5, 5.0


def scribble_xdog(sheet: Sheet) -> Bytes:
    """Thick white strokes on black `[h, w]`: where some channel is much darker than around it.

    Sigmas 0.5 and 5 px and the doubling before the threshold are those of A1111's annotator of this name.
    """
    darkest: Floats | None = None
    for channel in cv2.split(sheet.rgb):
        values = channel.astype(np.float32)
        gap = blur(values, _COARSE_PX) - blur(values, _FINE_PX)
        darkest = gap if darkest is None else np.minimum(darkest, gap)
    strokes = np.zeros_like(sheet.grey) if darkest is None else np.clip(np.ceil(darkest), 0, 255)
    return np.where(strokes * 2 > sheet.number("threshold"), 255, 0).astype(np.uint8)


def scribble_canny(sheet: Sheet) -> Bytes:
    """Thick white strokes on black `[h, w]` along the outlines of the blurred picture; the shortest are left out."""
    sigma_px = max(_LEAST_SIGMA_PX, sheet.number("softness") * sheet.short_px / _REFERENCE_PX)
    high = sheet.number("threshold")
    outlines = cv2.Canny(cv2.GaussianBlur(sheet.rgb, (0, 0), sigma_px), high / 2, high)
    _, parts, facts, _ = cv2.connectedComponentsWithStats(outlines, connectivity=8)
    long = facts[:, cv2.CC_STAT_AREA] >= _SHORTEST * sheet.short_px
    long[0] = False
    lines = np.where(long[np.asarray(parts, np.int32)], 255, 0).astype(np.uint8)
    width_px = max(2, round(sheet.number("thickness") * sheet.short_px / _REFERENCE_PX))
    return np.asarray(cv2.dilate(lines, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))), np.uint8)
