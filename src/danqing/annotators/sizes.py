"""At which size an annotator works, and the way there and back."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from danqing.annotators.sheet import Bytes
from danqing.spec.base import MAX_SIDE_PX
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.annotator_types import MapKind

ResizeMode = Literal["just_resize", "crop_and_resize", "resize_and_fill"]
MIN_RESOLUTION_PX, MAX_RESOLUTION_PX = 16, 2048


def pixel_perfect_resolution(
    picture_size_px: tuple[int, int], target_size_px: tuple[int, int], resize_mode: ResizeMode = "crop_and_resize"
) -> int:
    """The shorter side at which one pixel of the map becomes one pixel of the painting (A1111's rule).

    Args:
        picture_size_px: Height and width of the control picture.
        target_size_px: Height and width of the painting.
        resize_mode: How the map will be fitted; `resize_and_fill` takes the smaller of the two scales.

    >>> pixel_perfect_resolution((1000, 500), (512, 512))
    512
    >>> pixel_perfect_resolution((1000, 500), (512, 512), "resize_and_fill")
    256
    """
    scales = [target / side for target, side in zip(target_size_px, picture_size_px, strict=True)]
    scale = min(scales) if resize_mode == "resize_and_fill" else max(scales)
    return round(scale * min(picture_size_px))


def working_size(height_px: int, width_px: int, resolution_px: int | None) -> tuple[int, int]:
    """Height and width to work at.

    Args:
        height_px: The picture's.
        width_px: The picture's.
        resolution_px: Length of the shorter side, or None for the picture's own size; a long thin picture gets less,
            so that its longer side stays within 4096.

    Raises:
        InvalidRequestError: The resolution is out of range.
    """
    if resolution_px is None:
        return height_px, width_px
    if not MIN_RESOLUTION_PX <= resolution_px <= MAX_RESOLUTION_PX:
        raise InvalidRequestError(
            "the resolution is out of range",
            field="resolution_px",
            value=resolution_px,
            allowed=f"a whole number from {MIN_RESOLUTION_PX} to {MAX_RESOLUTION_PX}",
            next_step="leave it out for the picture's own size",
        )
    scale = min(resolution_px / min(height_px, width_px), MAX_SIDE_PX / max(height_px, width_px))
    return max(1, round(height_px * scale)), max(1, round(width_px * scale))


def resize_picture(picture: Bytes, height_px: int, width_px: int) -> Bytes:
    """A picture or mask `[h, w(, c)]` at another size: averaged down, cubic up."""
    if picture.shape[:2] == (height_px, width_px):
        return picture
    shrinks = height_px * width_px < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width_px, height_px), interpolation=how), np.uint8)


def resize_map(control: Bytes, height_px: int, width_px: int, kind: MapKind) -> Bytes:
    """A map `[h, w(, 3)]` at another size, keeping what it is: binary stays binary, flat colours are not mixed.

    A thin white line survives shrinking: a pixel is white where a quarter of what it covers is.
    """
    if control.shape[:2] == (height_px, width_px):
        return control
    if kind == "flat":
        return np.asarray(cv2.resize(control, (width_px, height_px), interpolation=cv2.INTER_NEAREST), np.uint8)
    resized = resize_picture(control, height_px, width_px)
    if kind != "binary":
        return resized
    shrinks = height_px * width_px < control.shape[0] * control.shape[1]
    return np.where(resized > (63 if shrinks else 127), 255, 0).astype(np.uint8)
