"""A small LoRA that learns one picture, so that an edit of it stays the same thing: the first stage of DragDiffusion.

Low-rank changes of query, key, value and output of every attention (Hu et al. 2021, arXiv 2106.09685), trained on the
picture's latent at random noise levels (Shi et al. 2023, arXiv 2306.14435, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.adapters.hooks import uncompiled

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


class IdentityLora:
    """Two small matrices beside each projection of each attention; without effect until it is trained.

    Args:
        unet: What it acts on; not changed.
        rank: Of the products.
        seed: Of the first matrices.
    """

    def __init__(self, unet: nn.Module, rank: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for name in _projections(unet):
            layer: Any = unet.get_submodule(name)
            outside, inside = layer.out_features, layer.in_features
            device = next(unet.parameters()).device
            # As diffusers begins its LoRA layers: small noise below, nothing above.
            down = (torch.randn(rank, inside, generator=generator) / rank).to(device)
            self.pairs[name] = (down, torch.zeros(outside, rank, device=device))

    def parameters(self) -> list[Tensor]:
        """All matrices, which learn from now on."""
        return [matrix.requires_grad_(True) for pair in self.pairs.values() for matrix in pair]

    def freeze(self) -> None:
        """Learn no more."""
        for pair in self.pairs.values():
            for matrix in pair:
                matrix.requires_grad_(False)
                matrix.grad = None

    @property
    def size_bytes(self) -> int:
        """Of all matrices."""
        return sum(matrix.numel() * matrix.element_size() for pair in self.pairs.values() for matrix in pair)

    @contextmanager
    def acting(self, unet: nn.Module) -> Iterator[None]:
        """Inside, it acts in this UNet, on every row; afterwards the UNet is as it was."""
        handles = [unet.get_submodule(name).register_forward_hook(_adder(*pair)) for name, pair in self.pairs.items()]
        with uncompiled(unet):
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()


def _projections(unet: nn.Module) -> list[str]:
    found = [name for name, _ in unet.named_modules() if name.endswith(("attn1", "attn2"))]
    return [f"{attention}.{projection}" for attention in found for projection in PROJECTIONS]


def _adder(down: Tensor, up: Tensor) -> Any:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        added = functional.linear(functional.linear(x.float(), down), up)
        return output + added.to(output.dtype)

    return hook
