"""Subject colours and background of a picture, measured from its pixels. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.models.colors import MEASURED, color_indices, measure_colors
from danqing.spec.registry.colors import COLORS
from danqing.spec.sight import Background, ColorShare

_LOOKED_AT_PX = 192
_FRAME = 0.06
_PLAIN = 0.6  # of the frame in one colour
_CLEAR = 0.5  # of the frame transparent
_LEAST_SUBJECT = 0.02
_LEAST_SHARE = 0.08


@dataclass(frozen=True)
class Palette:
    """What was measured.

    Attributes:
        colors: Of the subject, largest first; those below 8 % are left out.
        background: What surrounds it.
    """

    colors: tuple[ColorShare, ...]
    background: Background


def measure_palette(image: Image.Image) -> Palette:
    """Subject colours and background.

    The background is what a frame of 6 % of the sides shows. The subject is every pixel that is not of its colour.
    """
    rgba = _small_rgba(image)
    sides = _sides(rgba.shape[0], rgba.shape[1])
    frame = np.logical_or.reduce(sides)
    if float((rgba[..., 3][frame] < 128).mean()) >= _CLEAR:
        return Palette(_shares(rgba), Background(kind="transparent"))
    names = color_indices(rgba[..., :3])
    whole = _prevailing(names, frame)
    ends = [_prevailing(names, side) for side in sides]
    if whole is not None:
        kind, parts = "plain", [(whole, frame)]
    elif None not in ends[:2] and ends[0] != ends[1]:
        kind, parts = "gradient", [(ends[0], sides[0]), (ends[1], sides[1])]
    elif None not in ends[2:] and ends[2] != ends[3]:
        kind, parts = "gradient", [(ends[2], sides[2]), (ends[3], sides[3])]
    else:
        return Palette(_shares(rgba), Background(kind="busy"))
    chosen = [(index, place) for index, place in parts if index is not None]
    colors = tuple(_shade(MEASURED[i], rgba[..., :3][place & (names == i)]) for i, place in chosen)
    subject = rgba.copy()
    subject[..., 3][np.isin(names, [index for index, _ in chosen])] = 0
    alone = float((subject[..., 3] > 0).mean()) >= _LEAST_SUBJECT
    return Palette(_shares(subject if alone else rgba), Background(kind=kind, colors=colors))


def _small_rgba(image: Image.Image) -> NDArray[np.uint8]:
    small = image.convert("RGBA")
    small.thumbnail((_LOOKED_AT_PX, _LOOKED_AT_PX), Image.Resampling.BOX)
    return np.asarray(small)


def _sides(height: int, width: int) -> tuple[NDArray[np.bool_], ...]:
    """Masks `[height, width]` of the strips at the top, the bottom, the left and the right."""
    edge_y, edge_x = max(1, round(height * _FRAME)), max(1, round(width * _FRAME))
    y, x = np.mgrid[:height, :width]
    return y < edge_y, y >= height - edge_y, x < edge_x, x >= width - edge_x


def _prevailing(names: NDArray[np.uint8], place: NDArray[np.bool_]) -> int | None:
    """The colour index that most of a place has, if it has one."""
    counts = np.bincount(names[place], minlength=len(MEASURED))
    most = int(counts.argmax())
    return most if counts[most] >= _PLAIN * counts.sum() else None


def _shares(rgba: NDArray[np.uint8]) -> tuple[ColorShare, ...]:
    found = measure_colors(rgba)
    return tuple(ColorShare(key=key, share=min(1.0, share)) for key, share in found if share >= _LEAST_SHARE)


def _shade(name: str, pixels: NDArray[np.uint8]) -> str:
    """The word for this colour, dark or light if that is nearer."""
    middle = np.median(pixels.reshape(-1, 3), axis=0)
    near = [color for color in COLORS.values() if color.key.split()[-1] == name]
    return min(near, key=lambda color: float(np.square(np.subtract(color.rgb, middle)).sum())).key
