"""A picture pulled at some of its points like a sheet of rubber; loads no torch, so that the front may use it.

Each handle moves along its line to its target in small steps. In every step a disc around it moves as one piece, and
its pull falls off smoothly to nothing at the edge of what may change; several handles share a place by the inverse
square of their distances. A chain of such small steps never folds the picture over, however far a point is dragged, and
it is followed backwards from each place to the place its colour comes from, so that nothing is left empty but what
came from beyond the picture. FastDrag (arXiv 2405.15769) stretches the latent in one such step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from danqing.spec.drag import DragPoint, check_points
from danqing.spec.errors import InvalidRequestError

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

GRID_PX = 160
"""Longest side of the grid on which the pull is followed; finer detail than this is none of a smooth pull's."""
MAX_STEPS = 48
STEP_PX = 1.5
CORE_SHARE = 0.08
"""Radius of what moves as one piece, of the picture's shorter side."""
REACH_SHARE = 0.2
"""How far beyond that a point reaches where no mask says so, likewise; never less than its own way and a half."""
STRAINED = (1.6, 2.6)
"""Stretching or squeezing from which a place begins to be repaired, and at which it is altogether."""
_ROUNDING = 512.0
_NEAR = 1e-3


@dataclass(frozen=True)
class Pull:
    """Where the colour of each place comes from.

    Attributes:
        offset: Source less place, in pixels (x, y), [h, w, 2].
        strain: How much a place is stretched or squeezed, 1 for not at all, [h, w].
        beyond: Whether its source lies beyond the picture, [h, w].
        reach: What may change at all, [h, w].
    """

    offset: Floats
    strain: Floats
    beyond: npt.NDArray[np.bool_]
    reach: npt.NDArray[np.bool_]

    @property
    def repair(self) -> Floats:
        """How much of each place wants to be painted anew, 0 to 1, [h, w]."""
        low, high = STRAINED
        wanted = np.clip((self.strain - low) / (high - low), 0.0, 1.0)
        wanted = np.where(self.beyond, 1.0, wanted)
        return (wanted * self.reach).astype(np.float32)

    @property
    def moved(self) -> npt.NDArray[np.bool_]:
        """Whether a place's colour comes from elsewhere, [h, w]."""
        return np.any(self.offset != 0.0, axis=-1)


def pull(
    points: Sequence[DragPoint], size: tuple[int, int], mask: Bytes | None = None, radius_px: float | None = None
) -> Pull:
    """What dragging does to a picture of this size.

    Args:
        points: Handles and targets, in its pixels.
        size: Its width and height.
        mask: [h, w]; what is 128 or more may change. None: what the points reach.
        radius_px: What moves with a handle as one piece.

    Raises:
        InvalidRequestError: A point lies outside the picture or the mask, or the mask is of another size.
    """
    width, height = size
    check_points(points, width, height)
    handles = np.array([[p.from_x_px, p.from_y_px, p.to_x_px, p.to_y_px] for p in points], np.float64)
    core = radius_px if radius_px is not None else max(2.0, CORE_SHARE * min(size))
    reach = _reach(handles, size, core) if mask is None else _allowed(mask, size, points)
    offset = np.zeros((height, width, 2), np.float32)
    if any(not point.stays for point in points):
        offset = _offset(handles, reach, core, fixed=radius_px is not None)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    source_x, source_y = x + offset[..., 0], y + offset[..., 1]
    beyond = (source_x < -0.5) | (source_y < -0.5) | (source_x > width - 0.5) | (source_y > height - 0.5)
    return Pull(offset, _strain(offset), beyond, reach)


def warp(image: Bytes, pulled: Pull) -> Bytes:
    """A picture [h, w, 3], or a mask [h, w], as the pull leaves it; what does not move is the same to the bit."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        image,
        x + pulled.offset[..., 0],
        y + pulled.offset[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    keep = pulled.moved if image.ndim == 2 else pulled.moved[..., None]
    return np.where(keep, moved, image)


def preview(
    image: Image.Image,
    points: Sequence[DragPoint],
    mask: Image.Image | None = None,
    *,
    radius_px: int | None = None,
    max_side_px: int = 512,
) -> Image.Image:
    """What a drag will roughly look like: the picture pulled but not repaired, RGB, its longest side at most so long.

    Raises:
        InvalidRequestError: As for `pull`.
    """
    return preview_with_share(image, points, mask, radius_px=radius_px, max_side_px=max_side_px)[0]


def preview_with_share(
    image: Image.Image,
    points: Sequence[DragPoint],
    mask: Image.Image | None = None,
    *,
    radius_px: int | None = None,
    max_side_px: int = 512,
) -> tuple[Image.Image, float]:
    """As `preview`, and the share of the picture that the real drag would paint anew, 0 to 1."""
    check_points(points, image.width, image.height)
    if mask is not None and mask.size != image.size:
        raise _other_size(mask.size, image.size)
    scale = min(1.0, max_side_px / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB")
    small = small if small.size == size else small.resize(size, Image.Resampling.BILINEAR)
    # Generous at the edge, so that a point beside it is not lost by the smaller scale.
    allowed = (
        None if mask is None else np.asarray(mask.convert("L").resize(size, Image.Resampling.BILINEAR).point(_any))
    )
    moved = [scaled_point(point, image.size, size) for point in points]
    pulled = pull(moved, size, allowed, None if radius_px is None else max(1.0, radius_px * scale))
    return Image.fromarray(warp(np.asarray(small), pulled)), float(pulled.repair.mean())


def _any(value: int) -> int:
    return 255 if value else 0


def scaled_point(point: DragPoint, before: tuple[int, int], after: tuple[int, int]) -> DragPoint:
    """A point of a picture of one size (width, height) on the same picture at another one; pixel centres match."""

    def at(value: int, axis: int) -> int:
        moved = round((value + 0.5) * after[axis] / before[axis] - 0.5)
        return min(max(moved, 0), after[axis] - 1)

    return DragPoint(
        from_x_px=at(point.from_x_px, 0),
        from_y_px=at(point.from_y_px, 1),
        to_x_px=at(point.to_x_px, 0),
        to_y_px=at(point.to_y_px, 1),
    )


def _other_size(mask: tuple[int, int], picture: tuple[int, int]) -> InvalidRequestError:
    return InvalidRequestError(
        "mask and picture differ in size",
        field="mask",
        value=f"{mask[0]}x{mask[1]}",
        allowed=f"{picture[0]}x{picture[1]}",
        next_step="draw the mask on this picture, or scale it to the same size",
    )


def _allowed(mask: Bytes, size: tuple[int, int], points: Sequence[DragPoint]) -> npt.NDArray[np.bool_]:
    if mask.shape[:2] != size[::-1]:
        raise _other_size((mask.shape[1], mask.shape[0]), size)
    allowed = mask >= 128
    for index, point in enumerate(points):
        for end, x, y in (("from", point.from_x_px, point.from_y_px), ("to", point.to_x_px, point.to_y_px)):
            if not point.stays and not allowed[y, x]:
                raise InvalidRequestError(
                    f"the {'handle' if end == 'from' else 'target'} lies where nothing may change",
                    field=f"points.{index}.{end}_x_px",
                    value=f"{x},{y}",
                    allowed="a place that the mask shows white",
                    next_step="paint the mask over the handle, its target and the way between them",
                )
    return allowed


def _reach(handles: npt.NDArray[np.float64], size: tuple[int, int], core: float) -> npt.NDArray[np.bool_]:
    """What the points reach by themselves, as a mask: thick lines from the handles to their targets."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    reach = np.zeros((height, width), np.bool_)
    for from_x, from_y, to_x, to_y in handles:
        way = (to_x - from_x, to_y - from_y)
        length = math.hypot(*way)
        if length == 0:
            continue
        along = np.clip(((x - from_x) * way[0] + (y - from_y) * way[1]) / length**2, 0.0, 1.0)
        distance = np.hypot(x - from_x - along * way[0], y - from_y - along * way[1])
        reach |= distance <= core + max(1.5 * length, REACH_SHARE * min(size))
    return reach


def _offset(handles: npt.NDArray[np.float64], reach: npt.NDArray[np.bool_], core: float, *, fixed: bool) -> Floats:
    """Offsets [h, w, 2] of the whole picture, followed on a grid of at most `GRID_PX`."""
    height, width = reach.shape
    scale = max(1.0, max(width, height) / GRID_PX)
    grid = (max(1, round(width / scale)), max(1, round(height / scale)))
    ratio = np.array([grid[0] / width, grid[1] / height])
    on_grid = (handles.reshape(-1, 2, 2) + 0.5) * ratio - 0.5
    small = cv2.resize(reach.astype(np.uint8), grid, interpolation=cv2.INTER_NEAREST)
    room = cv2.distanceTransform(small, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) if (small == 0).any() else None
    starts, ends = on_grid[:, 0], on_grid[:, 1]
    radii = _radii(starts, ends, room, core * float(ratio.min()), fixed=fixed)
    followed = _followed(starts, ends, radii, room, grid)
    offset = cv2.resize(followed, (width, height), interpolation=cv2.INTER_LINEAR) / ratio.astype(np.float32)
    offset = np.round(offset * _ROUNDING) / np.float32(_ROUNDING)
    return np.where(reach[..., None], offset, np.float32(0.0)).astype(np.float32)


def _radii(
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    room: Floats | None,
    core: float,
    *,
    fixed: bool,
) -> npt.NDArray[np.float64]:
    """The radius of each handle's disc [n]: less where the mask or another handle is near."""
    radii = np.full(len(starts), core)
    if fixed:
        return radii
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        for at in (start, end):
            if room is not None:
                y = min(max(round(at[1]), 0), room.shape[0] - 1)
                x = min(max(round(at[0]), 0), room.shape[1] - 1)
                radii[index] = min(radii[index], 0.5 * float(room[y, x]))
        others = [
            min(float(np.hypot(*(starts[k] - start))), float(np.hypot(*(ends[k] - end))))
            for k in range(len(starts))
            if k != index and not np.allclose(ends[k] - starts[k], end - start)
        ]
        radii[index] = max(0.5, min([radii[index], *(0.4 * gap for gap in others)]))
    return radii


def _followed(
    starts: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    room: Floats | None,
    grid: tuple[int, int],
) -> Floats:
    """Offsets on the grid [h, w, 2]: every place followed back along the pulls."""
    y0, x0 = np.mgrid[: grid[1], : grid[0]].astype(np.float32)
    x, y = x0.copy(), y0.copy()
    ways = ends - starts
    longest = float(np.hypot(ways[:, 0], ways[:, 1]).max())
    steps = min(MAX_STEPS, max(1, math.ceil(longest / STEP_PX)))
    for step in range(steps):
        # Midpoints of each little step, so that the handles' discs are met where they are.
        centres = ends - ways * ((step + 0.5) / steps)
        free = None if room is None else cv2.remap(room, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        total = np.zeros_like(x)
        move_x, move_y = np.zeros_like(x), np.zeros_like(x)
        half = 0.5 * np.hypot(ways[:, 0], ways[:, 1]) / steps
        for centre, way, radius, slack in zip(centres, ways / steps, radii, half, strict=True):
            away = np.maximum(np.hypot(x - centre[0], y - centre[1]) - radius - slack, 0.0)
            weight = 1.0 / (away * away + _NEAR)
            fall = _falloff(away, free, grid)
            total += weight
            move_x += weight * fall * np.float32(way[0])
            move_y += weight * fall * np.float32(way[1])
        x -= move_x / total
        y -= move_y / total
    return np.stack([x - x0, y - y0], axis=-1).astype(np.float32)


def _falloff(away: Floats, free: Floats | None, grid: tuple[int, int]) -> Floats:
    """The share of a pull that is felt: 1 on the disc, 0 where nothing may change, smooth between."""
    room = np.float32(2.0 * max(grid)) if free is None else free
    share = away / (away + room + 1e-6)
    return cast("Floats", (1.0 - share) ** 2 * (1.0 + 2.0 * share))


def _strain(offset: Floats) -> Floats:
    """The larger of how much a place is stretched and how much it is squeezed, from the offsets' derivatives [h, w]."""
    (xx, xy), (yx, yy) = (_slopes(offset[..., axis]) for axis in (0, 1))
    a, d = xx + 1.0, yy + 1.0
    # Singular values of the 2×2 matrix of source by place.
    mean = np.hypot((a + d) / 2, (yx - xy) / 2)
    half = np.hypot((a - d) / 2, (xy + yx) / 2)
    largest, smallest = mean + half, np.abs(mean - half)
    return np.maximum(largest, 1.0 / np.maximum(smallest, 1e-3)).astype(np.float32)


def _slopes(values: Floats) -> tuple[Any, Any]:
    """Derivatives by x and by y."""
    by_y, by_x = np.gradient(values) if min(values.shape) > 1 else (np.zeros_like(values), np.zeros_like(values))
    return by_x, by_y
