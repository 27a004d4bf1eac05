"""Where in a picture something is: the subject on a plain ground, else windows that are looked at one by one."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from danqing.review.photometric import rgb_of
from danqing.spec.geometry import BoxPx

_LOOKED_AT_PX = 128
_FAR = 48.0  # distance in RGB from the ground
_LEAST_PART = 0.004
_MARGIN = 0.04
_WHOLE = 0.95
_WINDOW = 0.5
_OFFSETS = (0.0, 0.25, 0.5)


def subject_box(picture: Image.Image) -> BoxPx | None:
    """The smallest box around everything that is unlike the picture's edges; None where there is no such thing.

    A pixel is ground if it is like the edges of its row or of its column, so gradients are ground too.
    """
    rgb = rgb_of(picture, _LOOKED_AT_PX)
    height, width = rgb.shape[:2]
    edge = max(1, min(height, width) // 32)
    rows = (np.median(rgb[:, :edge], axis=1, keepdims=True), np.median(rgb[:, -edge:], axis=1, keepdims=True))
    columns = (np.median(rgb[:edge], axis=0, keepdims=True), np.median(rgb[-edge:], axis=0, keepdims=True))
    away = np.min([np.linalg.norm(rgb - line, axis=-1) for line in (*rows, *columns)], axis=0)
    labels, _ = ndimage.label(ndimage.binary_opening(away > _FAR))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.isin(labels, np.flatnonzero(sizes >= _LEAST_PART * labels.size))
    if not kept.any():
        return None
    ys, xs = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    scale_x, scale_y = picture.width / width, picture.height / height
    margin_x, margin_y = _MARGIN * picture.width, _MARGIN * picture.height
    box = BoxPx(
        left_px=max(0, round(xs[0] * scale_x - margin_x)),
        top_px=max(0, round(ys[0] * scale_y - margin_y)),
        right_px=min(picture.width, round((xs[-1] + 1) * scale_x + margin_x)),
        bottom_px=min(picture.height, round((ys[-1] + 1) * scale_y + margin_y)),
    )
    return None if box.width_px * box.height_px >= _WHOLE * picture.width * picture.height else box


def windows(picture: Image.Image) -> tuple[BoxPx, ...]:
    """Nine overlapping windows of half the sides; one, the whole, for a picture too small to be cut."""
    width, height = picture.size
    if min(width, height) < 32:
        return (BoxPx(left_px=0, top_px=0, right_px=width, bottom_px=height),)
    return tuple(
        BoxPx(
            left_px=int(x * width),
            top_px=int(y * height),
            right_px=int(x * width) + int(_WINDOW * width),
            bottom_px=int(y * height) + int(_WINDOW * height),
        )
        for y in _OFFSETS
        for x in _OFFSETS
    )
