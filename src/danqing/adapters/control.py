"""ControlNets and T2I-Adapters beside a UNet: residuals of several, weighted by row, summed.

Nothing is changed in the UNet: the residuals are arguments of its call, so taking a ControlNet out is not calling it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from danqing.adapters.t2i import AdapterRows, added_features
from danqing.models.controlnet import LoadedControlNet, NetInput, Residuals

FADE = 0.825
FADE_STEPS = 12
"""The original's numbers: residual i of 13 counts 0.825^(12 − i), so the earliest one tenth, the middle all."""


@dataclass(frozen=True)
class ControlRows:
    """What one ControlNet does in a UNet batch of b rows.

    Attributes:
        net: The ControlNet.
        hints: Control maps [b, 3, H, W].
        weights: Strength in each row [b], not all 0; a row of weight 0 is not computed.
        fading: Whether the row's residuals fade towards the first ones (*my prompt matters more*) [b].
        masks: Where each row is controlled, in [0, 1], [b, 1, H, W]; None for everywhere.
        union_id: What the maps show, for a union ControlNet; the same in each row.
    """

    net: LoadedControlNet
    hints: Tensor
    weights: Tensor
    fading: Tensor
    masks: Tensor | None = None
    union_id: int | None = None


def fade_scales(count: int) -> list[float]:
    """Factors of *my prompt matters more* for `count` residuals, the middle last.

    Stable Diffusion's UNet has 13 and gets 0.825^(12 − i). A UNet with fewer keeps both ends: its exponents run evenly
    from 12 down to 0.

    >>> [round(scale, 3) for scale in fade_scales(13)][:2], round(fade_scales(7)[1], 3), fade_scales(4)[-1]
    ([0.099, 0.121], 0.146, 1.0)
    """
    last = max(count - 1, 1)
    return [FADE ** (FADE_STEPS * (1.0 - index / last)) for index in range(count)]


def control_of(parts: Sequence[ControlRows], adapters: Sequence[AdapterRows] = ()) -> Control | None:
    """What acts on at least one row, ready to be called; None where nothing does."""
    active = [part for part in parts if bool(part.weights.any())]
    features = added_features(adapters)
    return Control(ControlSum(active) if active else None, features) if active or features else None


class Control:
    """All that guides a UNet from beside it, in the form a denoiser calls.

    Args:
        total: Of the ControlNets.
        features: Of the T2I-Adapters, a map [b, c, h, w] for each level.
    """

    def __init__(self, total: ControlSum | None, features: Sequence[Tensor]) -> None:
        self._total = total
        self._features = features

    def __call__(self, given: NetInput) -> dict[str, Any]:
        """The arguments of diffusers' UNet that carry the residuals."""
        options: dict[str, Any] = {}
        if self._total is not None:
            *down, mid = self._total(given)
            options |= {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}
        if self._features:
            # The UNet takes them out of the list one by one.
            options["down_intrablock_additional_residuals"] = [one.to(given.sample) for one in self._features]
        return options


class ControlSum:
    """The sum of several ControlNets.

    Args:
        parts: One or more, each for the same rows.
    """

    def __init__(self, parts: Sequence[ControlRows]) -> None:
        self._parts = parts

    def __call__(self, given: NetInput) -> Residuals:
        """Residuals for the UNet's skip connections and, last, its middle."""
        total = _weighted(self._parts[0], given)
        for part in self._parts[1:]:
            total = tuple(a + b for a, b in zip(total, _weighted(part, given), strict=True))
        return total


def _weighted(part: ControlRows, given: NetInput) -> Residuals:
    chosen = torch.nonzero(part.weights).flatten()
    there = chosen.to(given.sample.device)
    found = part.net.residuals(given.rows(there), part.hints[chosen], part.union_id)
    weights, fading = part.weights[chosen], part.fading[chosen]
    masks = None if part.masks is None else part.masks[chosen]
    answer: list[Tensor] = []
    for residual, fade in zip(found, fade_scales(len(found)), strict=True):
        scale = torch.where(fading, weights * fade, weights).view(-1, 1, 1, 1)
        scaled = residual * scale.to(residual)
        if masks is not None:
            scaled = scaled * interpolate(masks, size=residual.shape[-2:], mode="area").to(residual)
        if len(chosen) < len(given.sample):
            whole = scaled.new_zeros((len(given.sample), *scaled.shape[1:]))
            scaled = whole.index_copy(0, there, scaled)
        answer.append(scaled)
    return tuple(answer)
