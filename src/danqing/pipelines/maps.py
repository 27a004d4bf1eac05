"""Control maps brought to the size of a pass without blurring what must stay sharp."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from danqing.spec.base import MAX_SIDE_PX
from danqing.spec.control import ControlResize
from danqing.spec.geometry import SizePx
from danqing.spec.registry.annotators import MapKind, find_annotator

Bytes = npt.NDArray[np.uint8]
FEW_COLOURS = 200
"""A map of one's own with fewer colours, not all of them grey, is taken for flat regions (A1111's number)."""


def pixel_perfect_px(picture: tuple[int, int], target: SizePx, mode: ControlResize) -> int:
    """The shorter side at which an annotator sees just the detail that will be painted (A1111's rule).

    >>> pixel_perfect_px((1000, 500), SizePx(width_px=128, height_px=128), "crop")
    128
    """
    ratio_x, ratio_y = target.width_px / picture[0], target.height_px / picture[1]
    ratio = min(ratio_x, ratio_y) if mode == "fill" else max(ratio_x, ratio_y)
    return max(1, round(ratio * min(picture)))


def at_resolution(picture: Image.Image, shorter_px: int) -> Image.Image:
    """The picture, RGB or RGBA, with this shorter side, as far as its longer one stays within the limit."""
    ratio = min(shorter_px / min(picture.size), MAX_SIDE_PX / max(picture.size))
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def kind_of(annotator: str, found: Bytes) -> MapKind:
    """What sort of map this is: as the registry says, or, for a map of one's own, as its colours say.

    Args:
        annotator: Key in the registry.
        found: The map [h, w, 3].
    """
    if annotator != "none":
        return find_annotator(annotator).map_kind
    packed = found.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours = np.unique(packed)
    if set(colours.tolist()) <= {0, 0xFFFFFF}:
        return "binary"
    grey = bool((found[..., 0] == found[..., 1]).all() and (found[..., 1] == found[..., 2]).all())
    if grey:
        return "grey"
    return "flat" if len(colours) < FEW_COLOURS else "color"


def fit(found: Bytes, size: SizePx, mode: ControlResize, kind: MapKind) -> Bytes:
    """A map at another size: stretched, cropped to fill it, or whole with its border's colour around it.

    Args:
        found: The map [h, w, 3].
        size: Size of the pass.
        mode: A1111's *Just resize*, *Crop and resize*, *Resize and fill*.
        kind: Flat colours are not mixed; lines stay black and white.

    Returns:
        [H, W, 3].
    """
    height, width = found.shape[:2]
    target = (size.width_px, size.height_px)
    if mode == "stretch":
        return _scaled(found, target, kind)
    ratio_x, ratio_y = target[0] / width, target[1] / height
    ratio = max(ratio_x, ratio_y) if mode == "crop" else min(ratio_x, ratio_y)
    inner = _scaled(found, (max(1, round(width * ratio)), max(1, round(height * ratio))), kind)
    return _centred(inner, target)


def _centred(inner: Bytes, target: tuple[int, int]) -> Bytes:
    """Cut or padded evenly to (width, height); padding has the median colour of the border."""
    height, width = inner.shape[:2]
    border = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    canvas = np.empty((target[1], target[0], 3), dtype=np.uint8)
    canvas[:] = np.median(border, axis=0).astype(np.uint8)
    shown = (min(width, target[0]), min(height, target[1]))
    from_x, from_y = (width - shown[0]) // 2, (height - shown[1]) // 2
    to_x, to_y = (target[0] - shown[0]) // 2, (target[1] - shown[1]) // 2
    part = inner[from_y : from_y + shown[1], from_x : from_x + shown[0]]
    canvas[to_y : to_y + shown[1], to_x : to_x + shown[0]] = part
    return canvas


def _scaled(found: Bytes, target: tuple[int, int], kind: MapKind) -> Bytes:
    height, width = found.shape[:2]
    if (width, height) == target:
        return found
    if kind == "flat":
        return np.asarray(cv2.resize(found, target, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    smaller = target[0] * target[1] < width * height
    scaled = cv2.resize(found, target, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    if kind == "binary":
        grey = np.asarray(scaled).mean(axis=2).astype(np.uint8)
        _, lines = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        return np.repeat(np.asarray(lines, dtype=np.uint8)[..., None], 3, axis=2)
    return np.asarray(scaled, dtype=np.uint8)
