"""Obedience measured from pixels: is the drawing of the asked colour, and is the background the asked one?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.models.backdrop import measure_palette
from danqing.models.colors import border_color, measure_colors
from danqing.training.builtin.scenes import Scene
from danqing.training.evaluation.prompts import plain_name

FRAME = 0.06
UNLIKE = 48.0
"""Distance in RGB (0 to 255) from which a pixel is no longer background."""
LEAST_SUBJECT = 0.02


def background_plane(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the background would be behind the drawing: a plane through the frame, float32 `[h, w, 3]`.

    A flat colour and a gradient are both planes. The fit is repeated without the frame's outliers, where the drawing
    reaches the edge.
    """
    h, w = rgb.shape[:2]
    edge_y, edge_x = max(1, round(h * FRAME)), max(1, round(w * FRAME))
    y, x = np.mgrid[0:h, 0:w]
    frame = (y < edge_y) | (y >= h - edge_y) | (x < edge_x) | (x >= w - edge_x)
    places = np.stack([np.ones((h, w)), x / w, y / h], -1)
    a, b = places[frame], rgb[frame].astype(np.float64)
    middle = np.median(b, axis=0)
    near = np.linalg.norm(b - middle, axis=1) <= 2 * UNLIKE
    kept = near if near.sum() >= 8 else np.ones(len(b), bool)
    for _ in range(3):
        fit = np.linalg.lstsq(a[kept], b[kept], rcond=None)[0]
        good = np.linalg.norm(a @ fit - b, axis=1) <= UNLIKE
        if good.sum() < 8:
            break
        kept = good
    return (places @ fit).astype(np.float32)


def subject_mask(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the drawing is: pixels unlike the background, `[h, w]`."""
    return np.linalg.norm(rgb.astype(np.float32) - background_plane(rgb), axis=-1) > UNLIKE


def subject_color(rgb: NDArray[np.uint8]) -> str | None:
    """The commonest colour name of the drawing; None where there is next to nothing but background."""
    mask = subject_mask(rgb)
    if mask.mean() < LEAST_SUBJECT:
        return None
    found = measure_colors(np.dstack([rgb, np.where(mask, 255, 0).astype(np.uint8)]))
    return found[0][0] if found else None


def obeys_color(rgb: NDArray[np.uint8], scene: Scene) -> bool | None:
    """Whether the drawing has the asked colour; None where none was asked for."""
    return None if scene.hue is None else subject_color(rgb) == scene.hue


def obeys_background(rgb: NDArray[np.uint8], scene: Scene) -> bool | None:
    """Whether the frame has the asked colour name, or both ends of a gradient do; None for a transparent background.

    Shades count as their colour: dark blue is blue.
    """
    if scene.background == ("transparent",):
        return None
    asked = [plain_name(color) for color in scene.background]
    if len(asked) == 1 or asked[0] == asked[1]:
        return border_color(rgb) == asked[0]
    h, w = rgb.shape[:2]
    edge_y, edge_x = max(1, round(h * FRAME)), max(1, round(w * FRAME))
    ends = [[rgb[:edge_y], rgb[-edge_y:]], [rgb[:, :edge_x], rgb[:, -edge_x:]]]
    found = [[measure_colors(end)[0][0] for end in pair] for pair in ends]
    return any(sorted(pair) == sorted(asked) for pair in found)


def obeys_shade(rgb: NDArray[np.uint8], scene: Scene) -> bool | None:
    """Stricter: whether a plain background is of the very shade (`dark blue`); None where no flat one was asked for."""
    if len(scene.background) != 1 or scene.background == ("transparent",):
        return None
    return scene.background[0] in measure_palette(Image.fromarray(rgb)).background.colors
