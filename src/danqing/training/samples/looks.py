"""Drawings as another craft would have made them: white lines on blue, cut red paper, pixels, a smudge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from danqing.training.samples.config import Look

SIDE_PX = 128
CELL_PX = 8
"""Of coarse pixels: as wide as a pixel of the built-in model's latents."""
SMUDGE_PX = 2.5
WHITE = (255, 255, 255)
BLUE, RED, CREAM = (22, 60, 130), (196, 24, 34), (250, 243, 226)


def shown(rgba: NDArray[np.uint8], look: Look) -> Image.Image:
    """A drawing `[s, s, 4]`, straight alpha, as a training picture, RGB."""
    if look == "blueprint":
        return _inked(rgba, WHITE, BLUE)
    if look == "papercut":
        return _inked(rgba, RED, CREAM)
    drawing = _on_white(rgba)
    if look == "pixels":
        small = drawing.resize((SIDE_PX // CELL_PX, SIDE_PX // CELL_PX), Image.Resampling.BOX)
        return small.resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST)
    if look == "smudged":
        return drawing.filter(ImageFilter.GaussianBlur(SMUDGE_PX))
    return drawing


def _on_white(rgba: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(rgba).convert("RGBA")
    ground = Image.new("RGBA", picture.size, (*WHITE, 255))
    return Image.alpha_composite(ground, picture).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)


def _inked(rgba: NDArray[np.uint8], ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    """Dark becomes ink, light becomes paper."""
    grey = np.asarray(_on_white(rgba).convert("L"), np.float32)[..., None] / 255
    mixed = (1 - grey) * np.asarray(ink, np.float32) + grey * np.asarray(paper, np.float32)
    return Image.fromarray(np.round(mixed).astype(np.uint8))
