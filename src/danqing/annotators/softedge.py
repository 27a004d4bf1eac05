"""Soft edges by formula."""

from __future__ import annotations

import cv2
import numpy as np

from danqing.annotators.lineart import blur
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_picture

_WORK_PX = 1024
_REFERENCE_PX = 512
_SCALES = (0.5, 1.0, 2.0)
_LEAST_SIGMA_PX = 0.6
_KNEE = 20.0
_CONTRAST = 1.5


def softedge_dog(sheet: Sheet) -> Bytes:
    """Soft white edges on black `[h, w]`.

    Gradients of Lab at three scales (σ/2, σ, 2σ; strengths normalised by σ, as Lindeberg has them) are joined by
    their geometric mean: an edge holds at every scale, texture only at the finest. A soft knee turns strength to grey.
    """
    height_px, width_px = sheet.rgb.shape[:2]
    scale = min(1.0, _WORK_PX / sheet.short_px)
    rgb = resize_picture(sheet.rgb, max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    lab = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    sigma_px = sheet.number("sigma") * min(rgb.shape[:2]) / _REFERENCE_PX
    strength = np.ones(rgb.shape[:2], np.float32)
    for step in _SCALES:
        strength *= np.cbrt(_gradient(lab, max(_LEAST_SIGMA_PX * step * 2, sigma_px * step)))
    grey = 1 - np.exp(-((strength * np.float32(sheet.number("gain")) / _KNEE) ** _CONTRAST))
    return resize_picture((grey * 255).astype(np.uint8), height_px, width_px)


def _gradient(lab: Floats, sigma_px: float) -> Floats:
    """σ·|∇(G_σ ∗ Lab)| `[h, w]`, the three channels joined by their Euclidean length."""
    total = np.zeros(lab.shape[:2], np.float32)
    for place in range(3):
        smooth = blur(np.ascontiguousarray(lab[..., place]), sigma_px)
        across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
        total += across * across + down * down
    return np.sqrt(total) * np.float32(sigma_px / 2)
