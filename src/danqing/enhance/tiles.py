"""A picture enlarged tile by tile: overlapping tiles, weights that sum to one, and one band of rows in memory.

`enlarge_tiled` is a generator, as samplers are: it yields a tile `[1, 3, h, w]`, is sent the enlarged one, and returns
the whole picture. Whoever drives it decides where the network runs.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danqing.spec.errors import WorkerError

Pixels = npt.NDArray[np.uint8]
"""`[h, w, 3]`"""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut, in pixels of the small picture.

    Attributes:
        tile_px: Largest side of a tile.
        margin_px: What is thrown away at a tile's inner edges: networks see no neighbours there.
        ramp_px: Over how many pixels one tile fades into the next.
    """

    tile_px: int = 192
    margin_px: int = 8
    ramp_px: int = 8

    @property
    def overlap_px(self) -> int:
        """How much neighbouring tiles share at least."""
        return 2 * self.margin_px + self.ramp_px

    def starts(self, length_px: int) -> tuple[int, list[int]]:
        """Side of the tiles along one axis and where each begins, evenly spaced.

        >>> Tiling(tile_px=64, margin_px=4, ramp_px=8).starts(100)
        (64, [0, 36])
        >>> Tiling(tile_px=64).starts(50)
        (50, [0])
        """
        if length_px <= self.tile_px:
            return length_px, [0]
        step = max(1, self.tile_px - self.overlap_px)
        count = math.ceil((length_px - self.tile_px) / step) + 1
        last = length_px - self.tile_px
        return self.tile_px, [round(place * last / (count - 1)) for place in range(count)]

    def count(self, width_px: int, height_px: int) -> int:
        """How many tiles a picture has."""
        return len(self.starts(width_px)[1]) * len(self.starts(height_px)[1])

    def weights(self, length_px: int, scale: int) -> list[Floats]:
        """The weight of each tile's enlarged pixels along one axis; at every pixel of the picture they sum to one."""
        side, starts = self.starts(length_px)
        own = [self._profile(side * scale, scale, place > 0, place < len(starts) - 1) for place in range(len(starts))]
        total = np.zeros(length_px * scale, np.float32)
        for start, weight in zip(starts, own, strict=True):
            total[start * scale : (start + side) * scale] += weight
        return [w / total[start * scale : (start + side) * scale] for start, w in zip(starts, own, strict=True)]

    def _profile(self, length: int, scale: int, fades_in: bool, fades_out: bool) -> Floats:
        margin, ramp = self.margin_px * scale, self.ramp_px * scale
        place = np.arange(length, dtype=np.float32) + 0.5
        weight = np.ones(length, np.float32)
        if fades_in:
            weight = np.minimum(weight, np.clip((place - margin) / ramp, 0, 1))
        if fades_out:
            weight = np.minimum(weight, np.clip((length - place - margin) / ramp, 0, 1))
        return weight.astype(np.float32)


def enlarge_tiled(picture: Pixels, tiling: Tiling) -> Generator[Tensor, Tensor, Pixels]:
    """Yield tiles float32 `[1, 3, h, w]` in [0, 1]; take them `scale` times larger; return the whole, uint8.

    Args:
        picture: `[h, w, 3]`.
        tiling: How to cut it.

    Raises:
        WorkerError: An answer is not a whole multiple of its tile.
    """
    height, width = picture.shape[:2]
    (tile_h, tops), (tile_w, lefts) = tiling.starts(height), tiling.starts(width)
    bands: list[Pixels] = []
    scale, across, down = 0, list[Floats](), list[Floats]()
    buffer = np.zeros(0, np.float32)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            tile = (yield _tensor(picture[top : top + tile_h, left : left + tile_w]))[0]
            if scale == 0:
                scale = _scale_of(tile, tile_h, tile_w)
                across, down = tiling.weights(width, scale), tiling.weights(height, scale)
                buffer = np.zeros((3, tile_h * scale, width * scale), np.float32)
            large = tile.detach().to("cpu", torch.float32).numpy()
            at = slice(left * scale, (left + tile_w) * scale)
            buffer[:, :, at] += large * down[row][:, None] * across[column][None, :]
        finished = ((tops[row + 1] if row + 1 < len(tops) else top + tile_h) - top) * scale
        bands.append(np.rint(buffer[:, :finished].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8))
        carried = np.zeros_like(buffer)
        carried[:, : buffer.shape[1] - finished] = buffer[:, finished:]
        buffer = carried
    return np.concatenate(bands)


def _scale_of(tile: Tensor, height: int, width: int) -> int:
    scale = tile.shape[-1] // width
    if scale < 1 or tile.shape[-2:] != (height * scale, width * scale):
        raise WorkerError(
            "the upscaler's answer does not fit its tile", value=list(tile.shape), allowed=f"{width}×{height} × n"
        )
    return scale


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(2, 0, 1).unsqueeze(0).contiguous()
