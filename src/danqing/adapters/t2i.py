"""T2I-Adapters beside a UNet: what several add inside its levels on the way down, weighted by row, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from danqing.models.t2i_adapter import Features

SOFT = (0.25, 0.62, 0.825, 1.0)
"""A1111's factors of *my prompt matters more* for the four maps of a T2I-Adapter."""


@dataclass(frozen=True)
class AdapterRows:
    """What one T2I-Adapter does in a UNet batch of b rows.

    Attributes:
        features: Its maps for each row, one set a row; rows of one picture share theirs.
        weights: Strength in each row [b].
        fading: Whether the row's maps fade towards the first ones (*my prompt matters more*) [b].
        masks: Where each row is controlled, in [0, 1], [b, 1, H, W]; None for everywhere.
    """

    features: Sequence[Features]
    weights: Tensor
    fading: Tensor
    masks: Tensor | None = None


def soft_scales(count: int) -> list[float]:
    """Factors of *my prompt matters more* for `count` maps; a UNet with other than four levels keeps both ends.

    >>> soft_scales(4), [round(scale, 3) for scale in soft_scales(2)]
    ([0.25, 0.62, 0.825, 1.0], [0.25, 1.0])
    """
    last = len(SOFT) - 1
    found: list[float] = []
    for index in range(count):
        place = index * last / max(count - 1, 1) if count > 1 else last
        low = min(int(place), last - 1)
        share = place - low
        found.append(SOFT[low] + (SOFT[low + 1] - SOFT[low]) * share if share < 1 else SOFT[low + 1])
    return found


def added_features(parts: Sequence[AdapterRows]) -> list[Tensor]:
    """The sum of several T2I-Adapters for a batch: a map [b, c, h, w] for each level; empty where nothing acts."""
    total: list[Tensor] = []
    for part in parts:
        if not bool(part.weights.any()):
            continue
        weighted = _weighted(part)
        total = [a + b for a, b in zip(total, weighted, strict=True)] if total else weighted
    return total


def _weighted(part: AdapterRows) -> list[Tensor]:
    answer: list[Tensor] = []
    levels = len(part.features[0])
    for level, fade in zip(range(levels), soft_scales(levels), strict=True):
        features = torch.cat([row[level] for row in part.features])
        scale = torch.where(part.fading, part.weights * fade, part.weights).view(-1, 1, 1, 1)
        scaled = features * scale.to(features)
        if part.masks is not None:
            scaled = scaled * interpolate(part.masks, size=features.shape[-2:], mode="area").to(features)
        answer.append(scaled)
    return answer
