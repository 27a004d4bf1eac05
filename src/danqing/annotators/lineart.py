"""Line drawings by formula."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Floats, Sheet

_LEAST_SIGMA_PX = 0.6
_XDOG_RATIO = 1.6
_REFERENCE_PX = 512


def lineart_standard(sheet: Sheet) -> Bytes:
    """White strokes on black `[h, w]`: how much darker each point is than its surroundings, in every channel.

    Strengths are measured in units of the median stroke, as in A1111's annotator of this name.
    """
    floor = sheet.number("floor")
    darker: Floats | None = None
    for channel in cv2.split(sheet.rgb):
        values = channel.astype(np.float32)
        gap = blur(values, sheet.number("sigma_px")) - values
        darker = gap if darker is None else np.minimum(darker, gap)
    strokes = np.clip(np.zeros_like(sheet.grey) if darker is None else darker, 0, 255)
    found = strokes[strokes > floor]
    unit = max(16.0, float(np.median(found))) if found.size else 16.0
    return np.clip(strokes / unit * 127, 0, 255).astype(np.uint8)


def lineart_xdog(sheet: Sheet) -> Bytes:
    """White ink on black `[h, w]` by XDoG (Winnemöller, Kyprianidis, Olsen, 2012).

    Its threshold is at the difference itself, not at brightness, so that dark surfaces do not become ink; the channel
    that differs most counts, so that red on green is drawn too.
    """
    sigma_px = max(_LEAST_SIGMA_PX, sheet.number("sigma") * sheet.short_px / _REFERENCE_PX)
    dark_side = np.zeros_like(sheet.grey)
    for channel in cv2.split(sheet.rgb):
        values = channel.astype(np.float32)
        np.maximum(dark_side, blur(values, sigma_px * _XDOG_RATIO) - blur(values, sigma_px), out=dark_side)
    ink = np.tanh(np.maximum(dark_side - sheet.number("threshold"), 0) * (sheet.number("sharpness") / 255))
    return (ink * 255).astype(np.uint8)


def blur(values: Floats, sigma_px: float) -> Floats:
    """A Gaussian blur of `[h, w]`; the border is mirrored."""
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px), np.float32)
