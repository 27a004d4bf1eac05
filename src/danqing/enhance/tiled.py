"""Overlapping windows over a plane, and what was made in each of them mixed into one whole.

Each window counts fully in its middle and less towards an edge that it shares. The mix is made one window after the
other, `out += share · (window − out)`: the shares of all windows sum to one at every place, and where they agree the
result is what they say, to the last bit. So a denoiser that changes nothing gives back exactly what it was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from danqing.enhance.tiles import Tiling


@dataclass(frozen=True)
class Window:
    """A part of a plane.

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
    """

    top: int
    left: int
    height: int
    width: int

    def of(self, plane: Tensor) -> Tensor:
        """The part of `[b, c, H, W]`, [b, c, height, width]."""
        return plane[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Grid:
    """Windows that cover a plane.

    Attributes:
        height: Of the plane.
        width: Of the plane.
        side: Of a window, at most.
        overlap: What neighbours share at least.
    """

    height: int
    width: int
    side: int
    overlap: int

    def windows(self) -> list[Window]:
        """All of them, row by row."""
        tiling = Tiling(tile_px=self.side, margin_px=0, ramp_px=self.overlap)
        (tall, tops), (wide, lefts) = tiling.starts(self.height), tiling.starts(self.width)
        return [Window(top, left, tall, wide) for top in tops for left in lefts]

    def weight(self, window: Window) -> Tensor:
        """How much a window counts at each of its places beside others, float32 [height, width], above 0."""
        rows = self._ramp(window.height, window.top > 0, window.top + window.height < self.height)
        columns = self._ramp(window.width, window.left > 0, window.left + window.width < self.width)
        return rows[:, None] * columns[None, :]

    def shares(self) -> list[Tensor]:
        """What each window counts in the end, float32 [height, width] each; at every place they sum to one."""
        windows = self.windows()
        total = torch.zeros(self.height, self.width)
        for window in windows:
            window.of(total).add_(self.weight(window))
        return [self.weight(window) / window.of(total) for window in windows]

    def _ramp(self, length: int, fades_in: bool, fades_out: bool) -> Tensor:
        place = torch.arange(length, dtype=torch.float32) + 0.5
        ramp = torch.ones(length)
        wide = max(self.overlap, 1)
        if fades_in:
            ramp = torch.minimum(ramp, (place / wide).clamp(max=1))
        if fades_out:
            ramp = torch.minimum(ramp, ((length - place) / wide).clamp(max=1))
        return ramp


class Mixer:
    """The whole, window by window.

    Args:
        grid: Which windows.
        channels: Of the plane.
    """

    def __init__(self, grid: Grid, channels: int) -> None:
        self._grid = grid
        self._out = torch.zeros(1, channels, grid.height, grid.width)
        self._total = torch.zeros(grid.height, grid.width)

    def add(self, window: Window, made: Tensor) -> None:
        """Mix in what was made in a window, float32 [1, c, height, width]."""
        weight = self._grid.weight(window)
        total = window.of(self._total).add_(weight)
        out = window.of(self._out)
        # The first window at a place has a share of exactly one, and out is 0 there.
        out.add_((weight / total) * (made - out))

    @property
    def result(self) -> Tensor:
        """The plane [1, c, H, W]."""
        return self._out
