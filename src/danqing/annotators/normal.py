"""Normal maps in the convention of ControlNet 1.1's normal_bae (ScanNet's): red left, green up, blue to the viewer."""

from __future__ import annotations

import numpy as np

from danqing.annotators.lineart import blur
from danqing.annotators.relief import inflated
from danqing.annotators.sheet import Bytes, Floats, Sheet


def normals_of_height(height: Floats) -> Bytes:
    """The map `[h, w, 3]` of a surface.

    Args:
        height: How near each point is to the viewer, in pixels, `[h, w]`.

    Returns:
        (n + 1) / 2 as bytes, n the outward unit normal with its parts to the left, up and to the viewer. The left
        flank of a ball rises to the right and faces left, so red is +∂height/∂x and green (y runs down) +∂height/∂y.
    """
    across = _slope(height, 1)
    down = _slope(height, 0)
    normal = np.stack([across, down, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    # A plane lies between two codes, and processors round its slope of 1e-8 to either side: it is the upper one.
    return np.floor((normal + 1) * 127.5 + 0.501).astype(np.uint8)


def normal_relief(sheet: Sheet) -> Bytes:
    """Normals of the balloon over the silhouette, `[h, w, 3]`; the background faces the viewer.

    Raises:
        UnsupportedError: There is no silhouette to be told.
    """
    shape, height = inflated(sheet)
    found = normals_of_height(height * np.float32(sheet.number("strength")))
    return np.where(shape[..., None] > 0, found, normals_of_height(np.zeros_like(height)))


def normal_from_depth(sheet: Sheet) -> Bytes:
    """Normals of a depth map, near white, `[h, w, 3]`."""
    depth = sheet.grey
    smooth_px = sheet.number("smooth_px")
    if smooth_px > 0:
        depth = blur(depth, smooth_px)
    return normals_of_height(depth * np.float32(sheet.number("strength") * sheet.short_px / 2 / 255))


def _slope(height: Floats, axis: int) -> Floats:
    """Height per pixel along an axis: central differences inside, one-sided at the border."""
    if height.shape[axis] < 2:
        return np.zeros_like(height)
    return np.asarray(np.gradient(height, axis=axis), np.float32)
