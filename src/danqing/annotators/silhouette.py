"""Where the shape is: from transparency, or from a plain background."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.spec.errors import UnsupportedError

_BORDER_AGREES = 0.75
_OPAQUE = 128


def silhouette(sheet: Sheet) -> Bytes:
    """255 where the shape is, 0 where the background is, `[h, w]`.

    With transparency it is the opaque part. Without, the background is a flat colour or a linear gradient fitted to
    the border, and the shape is what differs from it or is enclosed; a picture of one colour has no shape.

    Raises:
        UnsupportedError: The border is not plain, so nothing says where the shape is.
    """
    if sheet.alpha is not None:
        return np.where(sheet.alpha >= _OPAQUE, 255, 0).astype(np.uint8)
    difference = _from_background(sheet.rgb)
    tolerance = sheet.number("tolerance")
    plain = difference <= tolerance
    border = _frame(plain)
    if float(border.mean()) < _BORDER_AGREES:
        raise UnsupportedError(
            "this picture has neither transparency nor a plain background, so its outline cannot be told",
            field="picture",
            value=f"{float(border.mean()):.0%} of its border is one colour or one gradient",
            allowed=f"a picture with transparency, or with {_BORDER_AGREES:.0%} of its border plain",
            next_step="cut the subject out first, raise `tolerance`, or install weights for depth_midas",
        )
    return _not_reached(plain)


def _from_background(rgb: Bytes) -> Floats:
    """How far (ΔE, Lab) each pixel is from the gradient that fits the border best, `[h, w]`."""
    lab = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    height_px, width_px = lab.shape[:2]
    rows, columns = np.mgrid[0:height_px, 0:width_px].astype(np.float32)
    terms = np.stack([np.ones_like(rows), rows / height_px, columns / width_px], axis=-1)
    at, colors = _frame(terms), _frame(lab)
    middle = np.median(colors, axis=0)
    near = np.ones(len(colors), bool)
    fit = np.zeros((3, 3), np.float32)
    fit[0] = middle
    for _ in range(3):
        # points of the shape that touch the border would pull the plane: each round keeps the nearer half
        if int(near.sum()) >= 8:
            fit = np.linalg.lstsq(at[near].astype(np.float64), colors[near].astype(np.float64), rcond=None)[0]
        error = np.linalg.norm(colors - at @ fit, axis=1)
        near = error <= max(2.0, float(np.median(error)) * 1.5)
    return np.linalg.norm(lab - terms @ fit.astype(np.float32), axis=2).astype(np.float32)


def _frame(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels of `[h, w(, c)]`, one after another."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _not_reached(plain: NDArray[np.bool_]) -> Bytes:
    """255 except for the plain parts that touch the border: what is enclosed belongs to the shape."""
    _, parts = cv2.connectedComponents(plain.astype(np.uint8), connectivity=4)
    outside = np.unique(_frame(parts)[_frame(plain) > 0])
    shape = np.where(np.isin(parts, outside) & (parts > 0), 0, 255).astype(np.uint8)
    return np.asarray(cv2.medianBlur(shape, 3), np.uint8) if min(shape.shape) >= 3 else shape
