"""Attention processors of our own."""

from __future__ import annotations

from typing import Any

import torch
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
