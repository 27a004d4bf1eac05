"""A balloon over a silhouette: a guess at depth that needs only an outline."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.silhouette import silhouette
from danqing.annotators.sizes import resize_picture

_WORK_PX = 256
_COARSEST_PX = 8
_CYCLES, _ROUNDS, _COARSEST_ROUNDS = 4, 2, 16
_DAMPING = 0.8
_COARSE_INSIDE = 0.7
_STENCIL = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)


def depth_relief(sheet: Sheet) -> Bytes:
    """Near is white, `[h, w]`: the background black, the shape from `base` at its rim to white at its highest."""
    shape, height = inflated(sheet)
    highest = float(height.max())
    if highest <= 0:
        return shape
    base = sheet.number("base")
    near = base + (1 - base) * height / highest
    return np.where(shape > 0, np.rint(near * 255), 0).astype(np.uint8)


def inflated(sheet: Sheet) -> tuple[Bytes, Floats]:
    """The silhouette (0 or 255) and the height of its balloon in pixels, both `[h, w]`.

    The height is √(4u) with -Δu = 1 in the shape and u = 0 around it: over a disc exactly a half ball.

    Raises:
        UnsupportedError: There is no silhouette to be told.
    """
    shape = silhouette(sheet)
    height_px, width_px = shape.shape
    scale = min(1.0, _WORK_PX / max(shape.shape))
    small = resize_picture(shape, max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    # outside the picture counts as background, so that a shape cut by the border still comes down there
    framed = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    solved = _poisson(np.asarray(framed, np.float32) / np.float32(255))[1:-1, 1:-1]
    wide = cv2.resize(solved, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    height = np.sqrt(np.maximum(wide, 0) * 4) / scale
    return shape, np.where(shape > 0, height, 0).astype(np.float32)


def _poisson(inside: Floats) -> Floats:
    """The u with -Δu = 1 where `inside` is above one half and 0 elsewhere, `[h, w]`.

    Conjugate gradients, each direction made by a multigrid V-cycle: the cycle is quick, and the gradients keep it from
    overshooting where the outline is ragged.
    """
    mask = (inside > 0.5).astype(np.float32)
    u: Floats = np.zeros_like(mask)
    left: Floats = mask
    towards: Floats = np.zeros_like(mask)
    step: Floats = np.zeros_like(mask)
    dot = 0.0
    for _ in range(_CYCLES):
        fresh = _correction(left, mask)
        turn = float(np.vdot(fresh, step)) / dot if dot else 0.0
        towards = np.asarray(fresh - turn * towards, np.float32)
        step = _minus_laplacian(towards) * mask
        dot = float(np.vdot(towards, step))
        if dot <= 0:
            break
        share = float(np.vdot(left, towards)) / dot
        u = np.asarray(u + share * towards, np.float32)
        left = np.asarray(left - share * step, np.float32)
    return u


def _correction(residual: Floats, mask: Floats) -> Floats:
    """An approximate e with -Δe = residual inside the mask and 0 outside, `[h, w]`: one V-cycle."""
    height_px, width_px = mask.shape
    e = np.zeros_like(mask)
    if min(height_px, width_px) <= _COARSEST_PX:
        return _jacobi(e, residual, mask, _COARSEST_ROUNDS)
    e = _jacobi(e, residual, mask, _ROUNDS)
    left = (residual - _minus_laplacian(e)) * mask
    size_px = (width_px + 1) // 2, (height_px + 1) // 2
    coarse_mask = (cv2.resize(mask, size_px, interpolation=cv2.INTER_AREA) > _COARSE_INSIDE).astype(np.float32)
    # a pixel of the coarse grid is two wide, so its Laplacian counts four times
    coarse = np.asarray(cv2.resize(left, size_px, interpolation=cv2.INTER_AREA), np.float32) * 4 * coarse_mask
    wide = cv2.resize(_correction(coarse, coarse_mask), (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return _jacobi(np.asarray(e + wide * mask, np.float32), residual, mask, _ROUNDS)


def _jacobi(u: Floats, right: Floats, mask: Floats, rounds: int) -> Floats:
    for _ in range(rounds):
        u = np.asarray(u + (right - _minus_laplacian(u)) * mask * (_DAMPING / 4), np.float32)
    return u


def _minus_laplacian(u: Floats) -> Floats:
    """-Δu `[h, w]`, with 0 around the picture."""
    return np.asarray(cv2.filter2D(u, cv2.CV_32F, _STENCIL, borderType=cv2.BORDER_CONSTANT), np.float32)
