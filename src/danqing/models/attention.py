"""Attention processors of our own."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor


class PerturbedAttention:
    """Self-attention whose attention map is the identity: every token sees only its own value.

    Source: Ahn et al., *Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance*, arXiv 2403.17377.
    """

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """The block's output for tokens [b, t, d]: values projected out, residual kept as the block keeps it."""
        residual = hidden_states
        value: Tensor = attn.to_v(hidden_states)
        out: Tensor = attn.to_out[1](attn.to_out[0](value))
        if attn.residual_connection:
            out = out + residual
        return torch.div(out, attn.rescale_output_factor)


class ChunkedAttention:
    """Self-attention over many tokens as plain matrix products in chunks, where that beats PyTorch's fused kernel.

    PyTorch's CPU kernel is slow in bfloat16 at head widths that are no multiple of 32, such as Stable Diffusion 1's 40:
    4096 tokens × 8 heads × 2 rows took 332 ms with it and 232 ms so. Scores are rounded to bfloat16 here; keys are
    centred first, which changes no attention weight and keeps the scores small. Everything else (cross-attention, few
    tokens, masks, gradients) goes to the stock processor.
    """

    min_tokens = 1024
    chunk_tokens = 1024

    def __init__(self) -> None:
        self._stock = AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The block's output for tokens [b, t, d]."""
        plain = encoder_hidden_states is None and attention_mask is None and attn.group_norm is None
        if not plain or hidden_states.ndim != 3 or hidden_states.shape[1] < self.min_tokens or torch.is_grad_enabled():
            out: Tensor = self._stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return out
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        mixed = attend(query, key, value, attn.heads, self.chunk_tokens)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        if attn.residual_connection:
            mixed = mixed + hidden_states
        return torch.div(mixed, attn.rescale_output_factor)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, chunk_tokens: int) -> Tensor:
    """Softmax attention of query, key, value [b, t, heads · d], a head and a chunk of queries at a time."""
    width = query.shape[-1] // heads
    key = (key - key.mean(dim=1, keepdim=True)) * width**-0.5
    out = torch.empty_like(query)
    for row in range(query.shape[0]):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            keys = key[row, :, part].t().contiguous()
            values = value[row, :, part].contiguous()
            queries = query[row, :, part].contiguous()
            for start in range(0, len(queries), chunk_tokens):
                scores = torch.mm(queries[start : start + chunk_tokens], keys)
                out[row, start : start + chunk_tokens, part] = torch.mm(torch.softmax(scores, dim=-1), values)
    return out


def speed_up(unet: Any) -> None:
    """Give a UNet the faster self-attention where its head width asks for it."""
    changed = dict(unet.attn_processors)
    for name in changed:
        module = unet.get_submodule(name.removesuffix(".processor"))
        width = module.to_q.weight.shape[0] // module.heads
        if ".attn1." in name and width % 32:
            changed[name] = ChunkedAttention()
    unet.set_attn_processor(changed)
