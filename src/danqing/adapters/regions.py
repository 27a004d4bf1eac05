"""Words of regions in a UNet: each cross-attention reads every region's words, each at its own place.

The result of a cross-attention becomes Σ Mᵢ · Attention(Q, Kᵢ, Vᵢ) over the whole and its regions, where the masks Mᵢ
are a partition of unity on the layer's own grid; the program whose behaviour is kept is *attention couple* for ComfyUI.
Self-attention still sees the picture as one. A row without regions comes out as it would without this, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from danqing.adapters.hooks import row_subset
from danqing.adapters.ip_adapter import cross_attentions


@dataclass
class RowRegions:
    """The regions of one row.

    Attributes:
        shares: Of the whole and of each region, [1 + n, 1, h, w] on the latent grid; their sum is 1.
        contexts: The words of each region, [tokens, width] each.
    """

    shares: Tensor
    contexts: Sequence[Tensor]
    _grids: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict[tuple[int, torch.device], Tensor])

    def on(self, tokens: int, device: torch.device) -> Tensor:
        """The shares as a layer with this many tokens has them, [1 + n, tokens, 1].

        Raises:
            ValueError: No halving of the latent grid has so many places.
        """
        key = (tokens, device)
        if key not in self._grids:
            height, width = layer_grid(self.shares.shape[-2], self.shares.shape[-1], tokens)
            small = functional.adaptive_avg_pool2d(self.shares, (height, width))
            self._grids[key] = small.flatten(2).transpose(1, 2).to(device)
        return self._grids[key]


def layer_grid(height: int, width: int, tokens: int) -> tuple[int, int]:
    """The layer's grid: the latent's, halved until it has this many places (odd sides are rounded up)."""
    h, w = height, width
    while h * w > tokens:
        h, w = (h + 1) // 2, (w + 1) // 2
    if h * w != tokens:
        raise ValueError(f"no halving of {height}×{width} has {tokens} places")
    return h, w


class RegionCrossAttention:
    """The UNet's own processor, called once for the whole and once for each region of a row.

    Args:
        stock: The processor it stands before.
        rows: The regions of each row of the batch; None for none.
    """

    def __init__(self, stock: Any, rows: Sequence[RowRegions | None]) -> None:
        self.stock = stock
        self.rows = rows

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The block's output for tokens [b, t, d]."""
        out: Tensor = self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        mixed: dict[int, Tensor] = {}
        for index, row in enumerate(self.rows):
            if row is None:
                continue
            own = hidden_states[index : index + 1]
            shares = row.on(own.shape[1], own.device).to(own.dtype)
            total = out[index : index + 1] * shares[:1]
            with row_subset(torch.tensor([index], device=own.device)):
                for share, words in zip(shares[1:], row.contexts, strict=True):
                    read = words[None].to(own)
                    total = total + share * self.stock(attn, own, read, attention_mask, temb)
            mixed[index] = total
        if not mixed:
            return out
        return torch.cat([mixed.get(index, out[index : index + 1]) for index in range(len(out))])


@contextmanager
def attending(unet: UNet2DConditionModel, rows: Sequence[RowRegions | None]) -> Iterator[None]:
    """Inside the block the cross-attentions read the regions' words; afterwards the UNet is as it was found."""
    if not any(row is not None for row in rows):
        yield
        return
    kept = [(attn, attn.processor) for attn in cross_attentions(unet)]
    for attn, stock in kept:
        attn.set_processor(RegionCrossAttention(stock, rows))
    try:
        yield
    finally:
        for attn, stock in kept:
            attn.set_processor(stock)
