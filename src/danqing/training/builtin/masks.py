"""Random masks as people paint them: brush strokes, boxes, halves, now and then the whole picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = ("brush", "box", "half")
SHARES = (0.5, 0.35, 0.15)


def _brush(rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """One to three strokes, each a walk of a few turns."""
    mask = np.zeros((size_px, size_px), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        width = int(size_px * rng.uniform(0.09, 0.25))
        at, angle = rng.uniform(0.1, 0.9, 2) * size_px, rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(2, 7))):
            angle += rng.uniform(-1.2, 1.2)
            length = size_px * rng.uniform(0.08, 0.3)
            to = np.clip(at + length * np.array([np.cos(angle), np.sin(angle)]), 0, size_px - 1)
            start, end = ((int(x), int(y)) for x, y in (at, to))
            cv2.line(mask, start, end, 255, width, cv2.LINE_AA)
            at = to
    return mask


def _box(rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """One or two rectangles or ellipses."""
    mask = np.zeros((size_px, size_px), np.uint8)
    for _ in range(int(rng.integers(1, 3))):
        width, height = (max(8, int(v)) for v in rng.uniform(0.18, 0.7, 2) * size_px)
        left, top = int(rng.integers(0, size_px - width + 1)), int(rng.integers(0, size_px - height + 1))
        if rng.random() < 0.6:
            mask[top : top + height, left : left + width] = 255
        else:
            center = (left + width // 2, top + height // 2)
            cv2.ellipse(mask, center, (width // 2, height // 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    return mask


def _half(rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
    """One side of a line: level or upright three times in four, as outpainting has it."""
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.25 else int(rng.integers(4)) * np.pi / 2
    y, x = np.mgrid[:size_px, :size_px] / size_px - 0.5
    side = x * np.cos(angle) + y * np.sin(angle) > rng.uniform(-0.1, 0.3)
    return side.astype(np.uint8) * 255


def draw_mask(rng: np.random.Generator, size_px: int, whole_share: float = 0.0) -> NDArray[np.uint8]:
    """One mask uint8 `[h, w]`, 255 is repainted; never empty on the latent grid.

    Args:
        rng: Decides.
        size_px: The picture's side.
        whole_share: How often everything is masked.
    """
    if rng.random() < whole_share:
        return np.full((size_px, size_px), 255, np.uint8)
    draw = {"brush": _brush, "box": _box, "half": _half}[str(rng.choice(KINDS, p=SHARES))]
    for _ in range(8):
        mask = draw(rng, size_px)
        if latent_mask(mask).any():
            return mask
    return np.full((size_px, size_px), 255, np.uint8)


def latent_mask(mask: NDArray[np.uint8], scale: int = 8) -> NDArray[np.float32]:
    """The mask on the latent grid, 0 or 1, `[h / 8, w / 8]`: reduced as the pipelines reduce it."""
    height, width = mask.shape[0] // scale, mask.shape[1] // scale
    small = Image.fromarray(mask).resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(small, np.float32) / 255.0).round()
