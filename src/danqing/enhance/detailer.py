"""From things that were found to masks that are painted: filtered, sorted, merged, grown, with ADetailer's habits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from danqing.spec.retouch_steps import DetailStep

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Thing:
    """Something that was found in a picture.

    Attributes:
        score: How sure the detector is, 0 to 1.
        box: left, top, right, bottom in pixels, half open; may reach beyond the picture.
        mask: Its outline, uint8 [h, w] of the picture, 255 inside; None where only the box is known.
        label: What it is, where the detector says so.
    """

    score: float
    box: tuple[float, float, float, float]
    mask: Bytes | None = None
    label: str = ""

    def area_px(self) -> float:
        """Of the outline, else of the box."""
        if self.mask is not None:
            return float(np.count_nonzero(self.mask))
        return max(self.box[2] - self.box[0], 0.0) * max(self.box[3] - self.box[1], 0.0)

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def masks_of(things: Sequence[Thing], step: DetailStep, size: tuple[int, int]) -> list[Image.Image]:
    """The masks of a step, in the order in which they are painted; "L" of the picture's size, 255 is repainted.

    Args:
        things: What was found.
        step: What is wanted of them.
        size: Width and height of the picture.
    """
    kept = sorted_things(filtered(things, step, size), step, size)
    masks = [grown(drawn(thing, size, outline=step.outline), step) for thing in kept]
    if step.merge != "none" and masks:
        whole = np.maximum.reduce(masks)
        masks = [255 - whole if step.merge == "merge_invert" else whole]
    return [Image.fromarray(mask) for mask in masks if mask.any()]


def filtered(things: Sequence[Thing], step: DetailStep, size: tuple[int, int]) -> list[Thing]:
    """Those that are sure enough, of the right class and size, and not too many; surest first."""
    whole = float(size[0] * size[1])
    classes = {name.casefold().strip() for name in step.classes}
    kept = [
        thing
        for thing in sorted(things, key=lambda one: -one.score)
        if thing.score >= step.confidence
        and step.min_area <= thing.area_px() / whole <= step.max_area
        and (not classes or thing.label.casefold() in classes)
    ]
    if step.max_count is None or len(kept) <= step.max_count:
        return kept
    best = sorted(kept, key=lambda one: -one.area_px()) if step.keep == "area" else kept
    chosen = {id(thing) for thing in best[: step.max_count]}
    return [thing for thing in kept if id(thing) in chosen]


def sorted_things(things: Sequence[Thing], step: DetailStep, size: tuple[int, int]) -> list[Thing]:
    """In the order that a step wants."""
    middle = (size[0] / 2, size[1] / 2)
    orders = {
        "sureness": lambda one: -one.score,
        "left_to_right": lambda one: one.box[0],
        "centre_to_edge": lambda one: math.dist(one.centre, middle),
        "largest": lambda one: -one.area_px(),
    }
    return sorted(things, key=orders[step.sort])


def drawn(thing: Thing, size: tuple[int, int], *, outline: bool) -> Bytes:
    """A thing as a mask, uint8 [h, w]."""
    if outline and thing.mask is not None:
        return thing.mask.copy()
    mask = np.zeros((size[1], size[0]), np.uint8)
    left, top = (max(0, math.floor(edge + 1e-6)) for edge in thing.box[:2])
    right, bottom = (max(0, math.ceil(edge - 1e-6)) for edge in thing.box[2:])
    mask[top:bottom, left:right] = 255
    return mask


def grown(mask: Bytes, step: DetailStep) -> Bytes:
    """A mask moved and grown (or shrunk) as a step wants."""
    height, width = mask.shape
    if step.offset_x_px or step.offset_y_px:
        shift = np.array([[1, 0, step.offset_x_px], [0, 1, step.offset_y_px]], np.float32)
        mask = np.asarray(cv2.warpAffine(mask, shift, (width, height), flags=cv2.INTER_NEAREST), np.uint8)
    return dilated(mask, step.dilate_px)


def dilated(mask: Bytes, by_px: int) -> Bytes:
    """A mask grown by a square of side `by_px` (ADetailer's way), or shrunk where that is below 0."""
    if by_px == 0:
        return mask
    kernel = np.ones((abs(by_px), abs(by_px)), np.uint8)
    change = cv2.dilate if by_px > 0 else cv2.erode
    return np.asarray(change(mask, kernel, iterations=1), np.uint8)


def without_doubles(things: Sequence[Thing], most_overlap: float = 0.45) -> list[Thing]:
    """Of boxes that overlap much only the surest (non-maximum suppression); surest first."""
    kept: list[Thing] = []
    for thing in sorted(things, key=lambda one: -one.score):
        if all(overlap(thing.box, other.box) <= most_overlap or thing.label != other.label for other in kept):
            kept.append(thing)
    return kept


def overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Shared area of two boxes over the area of both."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - width * height
    return width * height / max(both, 1e-9)
