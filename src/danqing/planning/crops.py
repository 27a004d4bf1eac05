"""Where to cut for *only masked* inpainting: the mask's box, padded, in the shape of the canvas."""

from __future__ import annotations

from danqing.spec.geometry import BoxPx, SizePx


def masked_crop(box: tuple[int, int, int, int], padding_px: int, picture: SizePx, canvas: SizePx) -> BoxPx:
    """The part of a picture that is painted at the canvas's size.

    The padded box grows in one direction to the canvas's aspect ratio, as far as the picture goes; at an edge it is
    moved inwards first. The rule is A1111's.

    Args:
        box: (left, top, right, bottom) of the mask, within the picture.
        padding_px: Context on each side.
        picture: Size of the picture.
        canvas: Size that will be painted.
    """
    left, top = max(box[0] - padding_px, 0), max(box[1] - padding_px, 0)
    right = min(box[2] + padding_px, picture.width_px)
    bottom = min(box[3] + padding_px, picture.height_px)
    if (right - left) * canvas.height_px > (bottom - top) * canvas.width_px:
        wanted = round((right - left) * canvas.height_px / canvas.width_px)
        top, bottom = _grow(top, bottom, wanted, picture.height_px)
    else:
        wanted = round((bottom - top) * canvas.width_px / canvas.height_px)
        left, right = _grow(left, right, wanted, picture.width_px)
    return BoxPx(left_px=left, top_px=top, right_px=right, bottom_px=bottom)


def _grow(start: int, end: int, wanted: int, limit: int) -> tuple[int, int]:
    """Grow [start, end) evenly to `wanted`, inside [0, limit)."""
    extra = max(min(wanted, limit) - (end - start), 0)
    start -= extra // 2
    end += extra - extra // 2
    if end > limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, min(end - start, limit)
    return start, end
