"""Which size a pass is painted at.

Four sizes matter: the picture that came in, the one asked for, what the model can paint (multiples of its latent grid),
and the one that goes out.
"""

from __future__ import annotations

import math

from danqing.spec.base import MAX_SIDE_PX
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import Margins, SizePx
from danqing.spec.model import ModelInfo

# A picture that came in is painted whole up to this many times the model's native side; beyond, models repeat motifs.
MAX_NATIVE_RATIO = 2.0


def asked_size(
    width_px: int | None, height_px: int | None, model: ModelInfo, picture: SizePx | None = None
) -> tuple[SizePx, tuple[str, ...]]:
    """The size of the base pass and notes on what was changed.

    Args:
        width_px: As asked for.
        height_px: As asked for; with one of the two the other follows from the picture, or is the same.
        model: Whose native size is the default.
        picture: Size of the picture that came in, the default when there is one.
    """
    if width_px is None and height_px is None:
        return _default(model, picture)
    ratio = picture.width_px / picture.height_px if picture else 1.0
    width = width_px if width_px is not None else round((height_px or 0) * ratio)
    height = height_px if height_px is not None else round(width / ratio)
    wanted = checked_size(width, height)
    rounded = wanted.rounded(model.latent_scale)
    if rounded == wanted:
        return rounded, ()
    return rounded, (f"size {wanted} rounded to {rounded}: the model paints multiples of {model.latent_scale} px",)


def _default(model: ModelInfo, picture: SizePx | None) -> tuple[SizePx, tuple[str, ...]]:
    native = model.defaults.size_px
    if picture is None:
        return SizePx(width_px=native, height_px=native), ()
    most = (native * MAX_NATIVE_RATIO) ** 2
    shrink = min(1.0, math.sqrt(most / picture.pixels))
    size = checked_size(max(16, round(picture.width_px * shrink)), max(16, round(picture.height_px * shrink)))
    rounded = size.rounded(model.latent_scale)
    if shrink == 1.0:
        return rounded, ()
    return rounded, (f"the {picture} picture is painted at {rounded}, as large as {model.name} paints well",)


def checked_size(width_px: int, height_px: int) -> SizePx:
    """A size within the limits.

    Raises:
        InvalidRequestError: A side is too small or too large.
    """
    if not (16 <= width_px <= MAX_SIDE_PX and 16 <= height_px <= MAX_SIDE_PX):
        raise InvalidRequestError(
            "this size cannot be painted",
            field="width_px" if not 16 <= width_px <= MAX_SIDE_PX else "height_px",
            value=f"{width_px}x{height_px}",
            allowed=f"16 to {MAX_SIDE_PX} px a side",
            next_step="choose a smaller size or a smaller scale",
        )
    return SizePx(width_px=width_px, height_px=height_px)


def outpaint_size(picture: SizePx, margins: Margins, model: ModelInfo) -> SizePx:
    """The canvas of an outpaint, rounded up to the model's grid.

    Raises:
        InvalidRequestError: No side grows, or the canvas is too large.
    """
    if not margins.any:
        raise InvalidRequestError(
            "no side of the picture is extended",
            field="margins",
            value="left=0,right=0,top=0,bottom=0",
            allowed="at least one margin above 0",
            next_step="say how many pixels to add, for example left=64",
        )
    step = model.latent_scale
    grown = extended_size(picture, margins)
    return checked_size(math.ceil(grown.width_px / step) * step, math.ceil(grown.height_px / step) * step)


def extended_size(picture: SizePx, margins: Margins) -> SizePx:
    """The picture with its margins.

    Raises:
        InvalidRequestError: It is too large.
    """
    return checked_size(
        picture.width_px + margins.left_px + margins.right_px, picture.height_px + margins.top_px + margins.bottom_px
    )
