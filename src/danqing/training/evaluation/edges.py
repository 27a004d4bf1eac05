"""Control obedience: how well the edges of a control map come back in what was painted after it."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

MapKind = Literal["lines", "soft", "areas"]
LINE_LEVEL = 85
"""From which value a pixel of a line map is a line: lines may be grey."""
SLOPE = 8
"""How much higher than one of its neighbours a pixel on the ridge of a soft edge is."""


def edges_of(control_map: NDArray[np.uint8], kind: MapKind) -> NDArray[np.bool_]:
    """The edges of a map `[h, w, 3]`, `[h, w]`.

    Args:
        control_map: What an annotator made.
        kind: `lines` are themselves the edges; `soft` ones are thinned to their ridges, since broad edges over a fifth
            of a picture agree with any other picture's; of `areas` the borders count.
    """
    if kind == "lines":
        return control_map.max(-1) >= LINE_LEVEL
    if kind == "soft":
        return _ridges(control_map.max(-1).astype(np.int16))
    smooth = cv2.GaussianBlur(control_map, (3, 3), 0.8)
    found = [cv2.Canny(np.ascontiguousarray(smooth[..., c]), 40, 100) > 0 for c in range(3)]
    return np.logical_or.reduce(found)


def _ridges(level: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels as high as both neighbours across or along, and clearly higher than one of them."""
    around = np.pad(level, 1, mode="edge")
    found = np.zeros(level.shape, bool)
    for before, after in ((around[1:-1, :-2], around[1:-1, 2:]), (around[:-2, 1:-1], around[2:, 1:-1])):
        found |= (level >= np.maximum(before, after)) & (level > np.minimum(before, after) + SLOPE)
    return found & (level >= LINE_LEVEL)


def edge_f1(asked: NDArray[np.bool_], found: NDArray[np.bool_], tolerance_px: int = 1) -> float:
    """F1 of two edge pictures `[h, w]`; an edge counts when the other has one within the tolerance.

    Two empty ones agree (1); one empty one against one that is not, 0.
    """
    if not asked.any() or not found.any():
        return float(asked.any() == found.any())
    kernel = np.ones((2 * tolerance_px + 1,) * 2, np.uint8)
    wide_asked, wide_found = (cv2.dilate(e.astype(np.uint8), kernel).astype(bool) for e in (asked, found))
    precision, recall = float(wide_asked[found].mean()), float(wide_found[asked].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
