"""The picture itself, and what needs no neighbourhood."""

from __future__ import annotations

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
    return np.where(sheet.rgb.min(axis=2) > sheet.number("threshold"), 255, 0).astype(np.uint8)


def grayscale(sheet: Sheet) -> Bytes:
    """Brightness to the power of gamma, `[h, w]`."""
    return np.rint((sheet.grey / 255) ** sheet.number("gamma") * 255).astype(np.uint8)
