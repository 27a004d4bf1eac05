"""Latents as transformers of patches read them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

PATCH = 2
"""Side of a patch in latent pixels."""


def in_patches(scaled: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
    """What a transformer of patches of 2 × 2 answers to latents of any sides.

    A picture of odd latent sides gets a margin for its eyes alone.

    Args:
        scaled: Latents [b, c, h, w].
        answer: Even sides in, the same sides out.

    Returns:
        [b, c, h, w].
    """
    height, width = scaled.shape[-2:]
    margin = (0, width % PATCH, 0, height % PATCH)
    whole = functional.pad(scaled, margin, mode="replicate") if any(margin) else scaled
    return answer(whole)[..., :height, :width]


def from_tokens(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """What SD 3 says of each patch [b, rows · columns, 2 · 2 · c] as latents [b, c, 2 · rows, 2 · columns]."""
    patches = tokens.reshape(len(tokens), rows, columns, PATCH, PATCH, -1)
    return patches.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, rows * PATCH, columns * PATCH)
