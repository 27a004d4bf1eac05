"""Control obedience: how well the edges of a control map come back in what was painted after it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

LINE_LEVEL = 85
"""From which value a pixel of a line map is a line: soft edges are grey."""


def edges_of(control_map: NDArray[np.uint8], *, lines: bool) -> NDArray[np.bool_]:
    """The edges of a map `[h, w, 3]`: its lines, or for a map of areas the borders between them, `[h, w]`."""
    if lines:
        return control_map.max(-1) >= LINE_LEVEL
    smooth = cv2.GaussianBlur(control_map, (3, 3), 0.8)
    found = [cv2.Canny(np.ascontiguousarray(smooth[..., c]), 40, 100) > 0 for c in range(3)]
    return np.logical_or.reduce(found)


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
