"""Autoencoders in tiles: large pictures in memory that is bounded, by whatever computes a tile.

Tiles overlap by a quarter and fade into each other. Each sees its own surroundings alone, so that wide flat areas can
differ a little from those of a picture in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

OVERLAP = 4
"""One part in so many of a tile's side lies over its neighbour."""


@dataclass(frozen=True)
class Grid:
    """How a plane is cut.

    Attributes:
        side: Of a tile, in units: latent pixels.
        unit_in: Pixels of the input per unit and side.
        unit_out: Pixels of the output.
    """

    side: int
    unit_in: int
    unit_out: int


def in_tiles(codec: Callable[[Tensor], Tensor], x: Tensor, grid: Grid) -> Tensor:
    """What a codec makes of x, tile by tile.

    Args:
        codec: [b, c, n · unit_in, m · unit_in] to [b, d, n · unit_out, m · unit_out].
        x: [b, c, H, W], both sides multiples of `unit_in`.
        grid: How it is cut.

    Returns:
        float32 [b, d, H / unit_in · unit_out, W / unit_in · unit_out], where x is.
    """
    rows, columns = (_cuts(x.shape[axis] // grid.unit_in, grid.side) for axis in (-2, -1))
    height, width = (x.shape[axis] // grid.unit_in * grid.unit_out for axis in (-2, -1))
    down, across = (_weights(cuts, grid.unit_out, x.device) for cuts in (rows, columns))
    whole: Tensor | None = None
    for (top, bottom), fade_down in zip(rows, down, strict=True):
        for (left, right), fade_across in zip(columns, across, strict=True):
            i, o = grid.unit_in, grid.unit_out
            part = codec(x[..., top * i : bottom * i, left * i : right * i]).to(x.device, torch.float32)
            if whole is None:
                whole = torch.zeros((*part.shape[:2], height, width), device=x.device)
            whole[..., top * o : bottom * o, left * o : right * o] += part * (fade_down[:, None] * fade_across)
    if whole is None:
        raise ValueError("there is nothing to cut")
    return whole


def _cuts(length: int, side: int) -> list[tuple[int, int]]:
    """Begin and end of tiles of one size that cover a length, evenly spread."""
    if length <= side:
        return [(0, length)]
    step = side - side // OVERLAP
    count = -(-(length - side) // step) + 1
    starts = [round(at * (length - side) / (count - 1)) for at in range(count)]
    return [(start, start + side) for start in starts]


def _weights(cuts: list[tuple[int, int]], unit: int, device: torch.device) -> list[Tensor]:
    """How much each tile counts along one axis; those of all tiles add up to 1 everywhere."""
    length = cuts[-1][1] * unit
    total = torch.zeros(length, device=device)
    found: list[Tensor] = []
    for at, (begin, end) in enumerate(cuts):
        places = torch.arange(begin * unit, end * unit, device=device) + 0.5
        fade = torch.ones(len(places), device=device)
        if at > 0:
            before = cuts[at - 1][1] * unit
            fade = torch.minimum(fade, (places - begin * unit) / (before - begin * unit))
        if at + 1 < len(cuts):
            after = cuts[at + 1][0] * unit
            fade = torch.minimum(fade, (end * unit - places) / (end * unit - after))
        total[begin * unit : end * unit] += fade
        found.append(fade)
    return [fade / total[begin * unit : end * unit] for fade, (begin, end) in zip(found, cuts, strict=True)]
