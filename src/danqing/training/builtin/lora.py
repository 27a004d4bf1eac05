"""Low-rank changes of a UNet's weights while it is trained (LoRA, Hu et al. 2021, arXiv:2106.09685).

The layers read W + up · down through a parametrisation, so that training sees exactly the weights that merging makes.
The scale is always 1 (alpha equals the rank), which every reader of the file assumes where nothing else is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

# The pooled text's layers only ever saw whole captions; a picture's change has nothing to teach them.
SKIPPED = ("add_embedding",)


class LowRankWeight(nn.Module):
    """Adds up · down to a weight [out, in] or [out, in, kh, kw].

    Args:
        weight: The layer's own.
        rank: At most this; no more than the matrix has.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out, inside = weight.shape[0], weight[0].numel()
        rank = min(rank, out, inside)
        self.down = nn.Parameter(torch.empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(torch.zeros(out, rank, *[1] * (weight.ndim - 2)))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.active = True

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer computes with."""
        if not self.active:
            return weight
        return weight + (self.up.flatten(1) @ self.down.flatten(1)).view_as(weight)


class Lora(nn.Module):
    """All changes of one UNet.

    Args:
        parts: Layer name → its change.
    """

    def __init__(self, parts: dict[str, LowRankWeight]) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.parts = nn.ModuleList(parts.values())

    @contextmanager
    def off(self) -> Iterator[None]:
        """The UNet is as it was inside the block."""
        self._switch(active=False)
        try:
            yield
        finally:
            self._switch(active=True)

    def tensors(self) -> dict[str, Tensor]:
        """The file's content in diffusers' format, float16 on the CPU."""
        out: dict[str, Tensor] = {}
        for name, part in zip(self.names, self.parts, strict=True):
            out[f"unet.{name}.lora_A.weight"] = part.down.detach().half().cpu().contiguous()
            out[f"unet.{name}.lora_B.weight"] = part.up.detach().half().cpu().contiguous()
        return out

    def _switch(self, *, active: bool) -> None:
        for part in self.parts:
            part.active = active


def attach(unet: nn.Module, rank: int, skip: tuple[str, ...] = SKIPPED) -> Lora:
    """Freezes the UNet and gives its linear and convolution layers a change that starts at nothing.

    Args:
        unet: Changed in place.
        rank: Of every change.
        skip: Layers whose names begin so stay as they are.
    """
    unet.eval().requires_grad_(False)
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.startswith(skip)
    }
    parts: dict[str, LowRankWeight] = {}
    for name, layer in layers.items():
        parts[name] = LowRankWeight(layer.weight, rank).to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", parts[name])
    return Lora(parts)
