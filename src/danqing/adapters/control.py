"""ControlNets beside a UNet: residuals of several, weighted by row, summed.

Nothing is changed in the UNet: the residuals are arguments of its call, so taking a ControlNet out is not calling it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from danqing.models.controlnet import LoadedControlNet, Residuals

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
    """

    net: LoadedControlNet
    hints: Tensor
    weights: Tensor
    fading: Tensor
    masks: Tensor | None = None


def fade_scales(count: int) -> list[float]:
    """Factors of *my prompt matters more* for `count` residuals, the middle last.

    Stable Diffusion's UNet has 13 and gets 0.825^(12 − i). A UNet with fewer keeps both ends: its exponents run evenly
    from 12 down to 0.

    >>> [round(scale, 3) for scale in fade_scales(13)][:2], round(fade_scales(7)[1], 3), fade_scales(4)[-1]
    ([0.099, 0.121], 0.146, 1.0)
    """
    last = max(count - 1, 1)
    return [FADE ** (FADE_STEPS * (1.0 - index / last)) for index in range(count)]


def control_of(parts: Sequence[ControlRows]) -> ControlSum | None:
    """What acts on at least one row, ready to be called; None where nothing does."""
    active = [part for part in parts if bool(part.weights.any())]
    return ControlSum(active) if active else None


class ControlSum:
    """The sum of several ControlNets, in the form a denoiser calls.

    Args:
        parts: One or more, each for the same rows.
    """

    def __init__(self, parts: Sequence[ControlRows]) -> None:
        self._parts = parts

    def __call__(self, sample: Tensor, timesteps: Tensor, context: Tensor) -> Residuals:
        """Residuals for the UNet's skip connections and, last, its middle.

        Args:
            sample: The UNet's scaled input [b, c, h, w].
            timesteps: [b].
            context: Text states [b, tokens, width].
        """
        total = _weighted(self._parts[0], sample, timesteps, context)
        for part in self._parts[1:]:
            total = tuple(a + b for a, b in zip(total, _weighted(part, sample, timesteps, context), strict=True))
        return total


def _weighted(part: ControlRows, sample: Tensor, timesteps: Tensor, context: Tensor) -> Residuals:
    chosen = torch.nonzero(part.weights).flatten()
    there = chosen.to(sample.device)
    found = part.net.residuals(sample[there], timesteps[there], context[there], part.hints[chosen])
    weights, fading = part.weights[chosen], part.fading[chosen]
    masks = None if part.masks is None else part.masks[chosen]
    answer: list[Tensor] = []
    for residual, fade in zip(found, fade_scales(len(found)), strict=True):
        scale = torch.where(fading, weights * fade, weights).view(-1, 1, 1, 1)
        scaled = residual * scale.to(residual)
        if masks is not None:
            scaled = scaled * interpolate(masks, size=residual.shape[-2:], mode="area").to(residual)
        if len(chosen) < len(sample):
            whole = scaled.new_zeros((len(sample), *scaled.shape[1:]))
            scaled = whole.index_copy(0, there, scaled)
        answer.append(scaled)
    return tuple(answer)
