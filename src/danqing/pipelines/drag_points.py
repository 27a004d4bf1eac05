"""Handles on a feature map: where they are, the patches around them, and finding them again.

Places are (x, y) in pixels of the map, integers for points and their patches; a map is [1, d, h, w].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from danqing.spec.drag import DragPoint

Place = tuple[float, float]
ARRIVED = 2.0
"""A handle this near its target, in pixels of the map, has arrived (DragDiffusion)."""


@dataclass(frozen=True)
class Points:
    """Handles on their way.

    Attributes:
        starts: Where they were in the original.
        now: Where they are.
        targets: Where they shall go.
    """

    starts: tuple[Place, ...]
    now: tuple[Place, ...]
    targets: tuple[Place, ...]

    @classmethod
    def of(cls, points: Sequence[DragPoint], picture: tuple[int, int], size: tuple[int, int]) -> Points:
        """Points of a picture (width, height) on a map of this height and width."""

        def on_map(x: int, y: int) -> Place:
            height, width = size
            placed = round((x + 0.5) * width / picture[0] - 0.5), round((y + 0.5) * height / picture[1] - 0.5)
            return float(min(max(placed[0], 0), width - 1)), float(min(max(placed[1], 0), height - 1))

        starts = tuple(on_map(point.from_x_px, point.from_y_px) for point in points)
        return cls(starts, starts, tuple(on_map(point.to_x_px, point.to_y_px) for point in points))

    def under_way(self) -> list[tuple[Place, Place, Place]]:
        """Start, place and target of those that have not arrived."""
        every = zip(self.starts, self.now, self.targets, strict=True)
        return [one for one in every if math.dist(one[1], one[2]) >= ARRIVED]

    @property
    def arrived(self) -> bool:
        """Whether all of them have."""
        return not self.under_way()

    def followed(self, original: Tensor, features: Tensor, radius: int) -> Points:
        """With every handle found again: where, near its place, the features are most like the original's at its start.

        Args:
            original: Features of the original.
            features: As they are now.
            radius: How far around its place a handle is looked for; the window is cut off at the map's border.
        """
        pairs = zip(self.starts, self.now, strict=True)
        return replace(self, now=tuple(track(original, features, start, now, radius) for start, now in pairs))


def track(original: Tensor, features: Tensor, start: Place, now: Place, radius: int) -> Place:
    """The place within `radius` of `now` whose features are nearest, by L1, to the original's at `start`."""
    left, top = max(0, int(now[0]) - radius), max(0, int(now[1]) - radius)
    window = features[0, :, top : int(now[1]) + radius + 1, left : int(now[0]) + radius + 1]
    wanted = original[0, :, int(start[1]), int(start[0])]
    distance = (window - wanted[:, None, None]).abs().sum(0)
    found = int(distance.argmin())
    across = window.shape[-1]
    return float(left + found % across), float(top + found // across)


def patches(
    place: Place, now: Place, ahead: tuple[float, float], radius: int, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Pixels of a patch around `place`, and where around `now` moved `ahead` they are looked for, [n, 2] each.

    Pixels beyond the map of this height and width are left out of both.
    """
    height, width = size
    around = torch.arange(-radius, radius + 1, dtype=torch.float32)
    offsets = torch.stack(torch.meshgrid(around, around, indexing="xy"), dim=-1).reshape(-1, 2)
    source, moved = torch.tensor(place) + offsets, torch.tensor(now) + offsets
    limits = torch.tensor([width - 1.0, height - 1.0])
    inside = ((source >= 0) & (source <= limits) & (moved >= 0) & (moved <= limits)).all(dim=1)
    return source[inside], moved[inside] + torch.tensor(ahead)


def sample(features: Tensor, places: Tensor) -> Tensor:
    """Features [d, n] at places [n, 2] by bilinear interpolation; places beyond the map read its border."""
    height, width = features.shape[-2:]
    x, y = places[:, 0].clamp(0, width - 1), places[:, 1].clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(width - 2, 0)), y.floor().clamp(max=max(height - 2, 0))
    right_share, low_share = (x - left).to(features), (y - top).to(features)
    columns, rows = left.long(), top.long()
    next_columns, next_rows = (columns + 1).clamp(max=width - 1), (rows + 1).clamp(max=height - 1)
    flat = features[0]
    above = flat[:, rows, columns] * (1 - right_share) + flat[:, rows, next_columns] * right_share
    below = flat[:, next_rows, columns] * (1 - right_share) + flat[:, next_rows, next_columns] * right_share
    return above * (1 - low_share) + below * low_share
