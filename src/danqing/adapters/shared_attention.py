"""Self-attention of some rows that reads keys and values of another row: an edit that keeps the look of its original.

*Mutual self-attention* of MasaCtrl (arXiv 2304.08465), which DragDiffusion (arXiv 2306.14435) calls reference-latent
control. A row keeps its own queries, and with them its own layout; what it paints there is taken from the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from danqing.adapters.hooks import uncompiled

LAST_BLOCKS = 2
"""How many of the UNet's last up blocks share, as published."""


class SharedSelfAttention:
    """The UNet's own processor, with keys and values of the rows that each row reads.

    Args:
        stock: The processor it stands before.
        sources: For each row of the batch the row whose keys and values it reads.
    """

    def __init__(self, stock: Any, sources: Sequence[int]) -> None:
        self.stock = stock
        self.sources = list(sources)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The block's output for tokens [b, t, d].

        Raises:
            RuntimeError: The batch has other rows than there are sources.
        """
        del encoder_hidden_states
        if len(hidden_states) != len(self.sources):
            raise RuntimeError(f"{len(self.sources)} rows were to share, the batch has {len(hidden_states)}")
        read = hidden_states[torch.tensor(self.sources, device=hidden_states.device)]
        out: Tensor = self.stock(attn, hidden_states, read, attention_mask, temb)
        return out


def self_attentions(unet: UNet2DConditionModel) -> list[Any]:
    """The self-attentions in the order in which they act: down, middle, up."""
    parts = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return [module for part in parts if part is not None for module in _own(part)]


def first_of_last(unet: UNet2DConditionModel, blocks: int = LAST_BLOCKS) -> int:
    """Index among `self_attentions` of the first one in the last up blocks; their number if these have none."""
    return len(self_attentions(unet)) - sum(len(_own(block)) for block in list(unet.up_blocks)[-blocks:])


@contextmanager
def sharing(unet: UNet2DConditionModel, sources: Sequence[int], start_layer: int | None = None) -> Iterator[None]:
    """Inside, self-attentions from a layer on read keys and values as `sources` says; afterwards all is as before.

    Args:
        unet: Of Stable Diffusion's kind.
        sources: For each row of the batch the row whose keys and values it reads: [0, 0] lets the second read the
            first.
        start_layer: Index among `self_attentions`; the first of the last two up blocks if unset. Past the end, nothing
            is shared.
    """
    start = first_of_last(unet) if start_layer is None else start_layer
    if all(source == row for row, source in enumerate(sources)):
        start = len(self_attentions(unet))
    kept = [(attn, attn.processor) for attn in self_attentions(unet)[max(start, 0) :]]
    for attn, stock in kept:
        attn.set_processor(SharedSelfAttention(stock, sources))
    with uncompiled(unet, bool(kept)):
        try:
            yield
        finally:
            for attn, stock in kept:
                attn.set_processor(stock)


def _own(part: torch.nn.Module) -> list[Any]:
    return [module for name, module in part.named_modules() if name.endswith("attn1")]
