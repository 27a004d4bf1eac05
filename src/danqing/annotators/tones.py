"""The picture itself, and what needs no neighbourhood."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Sheet


def none(sheet: Sheet) -> Bytes:
    """The picture, `[h, w, 3]`."""
    return sheet.rgb


def invert(sheet: Sheet) -> Bytes:
    """The negative, `[h, w, 3]`."""
    return np.asarray(255 - sheet.rgb, np.uint8)


def threshold(sheet: Sheet) -> Bytes:
    """White where the darkest channel is above the threshold, `[h, w]`."""
    red, green, blue = cv2.split(sheet.rgb)
    darkest = cv2.min(cv2.min(red, green), blue)
    return np.where(darkest > sheet.number("threshold"), np.uint8(255), np.uint8(0))


def grayscale(sheet: Sheet) -> Bytes:
    """Brightness to the power of gamma, `[h, w]`."""
    return np.rint((sheet.grey / 255) ** sheet.number("gamma") * 255).astype(np.uint8)
