"""The subject of a picture cut out of its background, with soft edges and without the background's colour in them.

`plain_alpha` needs no weights: the background is what can be reached from the border without crossing an edge, where
its colour follows a smooth model (a plane in each channel), so that gradients count as plain. How much of a pixel on
the edge belongs to the subject is solved from its colour, the background's and the subject's beside it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_PLAIN_LAB = 6.0
"""Of the border's colours the middle half may differ so much from the model, in CIELAB, to count as plain."""
_LEAST_LAB, _SOFT_LAB = 5.0, 12.0
_EDGE_PX = 2


def plain_alpha(rgb: Bytes) -> Floats:
    """How much of each pixel belongs to the subject, float32 [h, w] from 0 to 1, before a plain background.

    Args:
        rgb: uint8 [h, w, 3].
    """
    lab = _lab(rgb)
    background, spread = _background(lab)
    away = np.linalg.norm(lab - background, axis=2)
    low = max(_LEAST_LAB, 3.0 * spread)
    flooded = _reached(away < low)
    core = _reached_not(flooded)
    return _soft(lab, background, flooded, core) if core.any() else np.zeros(rgb.shape[:2], np.float32)


def is_plain(rgb: Bytes) -> bool:
    """Whether the border has one colour or a gradient."""
    lab = _lab(rgb)
    background, spread = _background(lab)
    ring = _ring(*rgb.shape[:2])
    near = np.linalg.norm(lab - background, axis=2)[ring] < max(_SOFT_LAB, 3 * spread)
    return spread < _PLAIN_LAB and float(near.mean()) > 0.6


def grabcut_alpha(rgb: Bytes) -> Floats:
    """The same for any background, by GrabCut (Rother and others, 2004) started from the border, float32 [h, w]."""
    height, width = rgb.shape[:2]
    edge = max(1, round(min(height, width) * 0.04))
    marks = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    inner = (slice(height // 8, height - height // 8), slice(width // 8, width - width // 8))
    marks[inner] = cv2.GC_PR_FGD
    marks[:edge], marks[-edge:], marks[:, :edge], marks[:, -edge:] = (cv2.GC_BGD,) * 4
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(rgb[..., ::-1].copy(), marks, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # one colour all over: nothing to tell apart
        return np.zeros((height, width), np.float32)
    inside = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), 1.0), np.float32).clip(0, 1)


def grown_alpha(alpha: Floats, by_px: int) -> Floats:
    """Alpha grown by some pixels, or eaten where that is below 0."""
    if by_px == 0:
        return alpha
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(by_px) + 1,) * 2)
    return np.asarray((cv2.dilate if by_px > 0 else cv2.erode)(alpha, kernel), np.float32)


def cut_out(rgb: Bytes, alpha: Floats) -> Bytes:
    """RGBA uint8 [h, w, 4]: pixels on the edge get the subject's own colour, so that no old background shines there.

    Where the subject is opaque its pixels are those of the picture, bit for bit.
    """
    opacity = np.rint(alpha * 255).astype(np.uint8)
    solid = opacity >= 250
    colours = rgb.copy()
    if solid.any():
        rows, columns = distance_transform_edt(~solid, return_distances=False, return_indices=True)
        colours = rgb[rows, columns]
    opacity[solid] = 255
    colours[solid] = rgb[solid]
    return np.dstack([colours, opacity])


def segments(alpha: Floats, least_share: float = 0.002) -> list[Bytes]:
    """The separate things in a cut-out, each uint8 [h, w] with 255 inside, largest first."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats((alpha > 0.5).astype(np.uint8), connectivity=8)
    least = max(9.0, least_share * alpha.size)
    found = [place for place in range(1, count) if facts[place, cv2.CC_STAT_AREA] >= least]
    found.sort(key=lambda place: -int(facts[place, cv2.CC_STAT_AREA]))
    return [np.asarray((labels == place) * 255, np.uint8) for place in found]


def _lab(rgb: Bytes) -> Floats:
    smooth = cv2.medianBlur(rgb, 3) if min(rgb.shape[:2]) > 2 else rgb
    return np.asarray(cv2.cvtColor(smooth.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB), np.float32)


def _ring(height: int, width: int) -> npt.NDArray[np.bool_]:
    """The border, some pixels wide."""
    edge = max(1, min(height, width) // 40)
    ring = np.ones((height, width), bool)
    ring[edge : height - edge, edge : width - edge] = False
    return ring


def _background(lab: Floats) -> tuple[Floats, float]:
    """The background's colour at each pixel [h, w, 3] and how much the border differs from it (its middle half).

    A plane in each channel, fitted to the border; pixels far off it (where the subject touches the border) are left
    out, three times.
    """
    height, width = lab.shape[:2]
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    terms = np.stack([np.ones_like(xs), xs / width - 0.5, ys / height - 0.5], axis=-1)
    ring = _ring(height, width)
    at, colours = terms[ring], lab[ring]
    off = np.linalg.norm(colours - np.median(colours, axis=0), axis=1)
    model = np.zeros((3, 3), np.float32)
    for _ in range(3):
        used = off <= max(float(np.median(off)) * 2.5, 2.0)
        model = np.linalg.lstsq(at[used], colours[used], rcond=None)[0]
        off = np.linalg.norm(colours - at @ model, axis=1)
    return np.asarray(terms @ model, np.float32), float(np.median(off))


def _reached(open_: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What of the open places can be reached from the border."""
    _, labels = cv2.connectedComponents(open_.astype(np.uint8), connectivity=4)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, np.unique(edges[edges > 0]))


def _reached_not(flooded: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The inside of what was not flooded: without a rim, where colours mix, and without specks."""
    solid = (~flooded).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, kernel)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(np.asarray(opened, np.uint8), connectivity=8)
    least = max(6.0, 0.0005 * flooded.size)
    kept = [place for place in range(1, count) if facts[place, cv2.CC_STAT_AREA] >= least]
    return np.isin(labels, kept)


def _soft(lab: Floats, background: Floats, flooded: npt.NDArray[np.bool_], core: npt.NDArray[np.bool_]) -> Floats:
    """Alpha: 1 in the subject, 0 in the background, between the two from colours in a band along the edge."""
    inner = cv2.erode(core.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_EDGE_PX - 1).astype(bool)
    if not inner.any():
        inner = core
    near_core = cv2.dilate(core.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_EDGE_PX).astype(bool)
    rows, columns = distance_transform_edt(~inner, return_distances=False, return_indices=True)
    own = lab[rows, columns]
    # The share of the subject's colour in the pixel's: its projection on the line from background to subject.
    line = own - background
    length = np.maximum((line**2).sum(axis=2), 1e-3)
    share = (((lab - background) * line).sum(axis=2) / length).clip(0, 1)
    band = near_core & ~inner
    alpha = inner.astype(np.float32)
    # Where subject and background are nearly of one colour the projection says nothing.
    clear = np.sqrt(length) > _LEAST_LAB
    alpha[band] = np.where(clear[band], share[band], (~flooded)[band].astype(np.float32))
    return alpha
