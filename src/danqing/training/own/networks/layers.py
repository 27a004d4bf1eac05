"""A layer's change as it is learnt: LoRA, DoRA, LoHa, LoKr.

The change of a weight is computed by the same `Change` that a file is read into, so that what is trained is what is
painted with. Only LoRA takes the shorter way over its two small layers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.adapters.change import Change
from danqing.adapters.layers import Layer
from danqing.adapters.lora import LowRank, WithMagnitude
from danqing.adapters.lycoris import Hadamard, Kronecker


@dataclass(frozen=True)
class LayerShape:
    """What a layer's change is built with.

    Attributes:
        rank: Of its products.
        alpha: The change is scaled by alpha / rank.
        dropout: Of the layer's input.
        factor: Of LoKr's split; -1 for the most even one.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    factor: int = -1


class TrainedLayer(nn.Module):
    """A change of one layer.

    Args:
        layer: Where it acts; not a part of this module.
        shape: How it is built.
        generator: Draws its first values.
    """

    def __init__(self, layer: Layer, shape: LayerShape) -> None:
        super().__init__()
        self._places: tuple[Layer] = (layer,)
        self.shape = shape

    @property
    def layer(self) -> Layer:
        """Where it acts."""
        return self._places[0]

    @property
    def scale(self) -> float:
        """Alpha over the rank."""
        return self.shape.alpha / self.shape.rank

    @abstractmethod
    def change(self) -> Change:
        """What it does to its layer by now, with gradients."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """As a file in kohya's (LyCORIS's) layout names its numbers, without alpha."""

    def added(self, x: Tensor) -> Tensor:
        """What is added to the layer's answer to `x`."""
        delta, _ = self.change().delta(self.layer.weight.detach().float())
        return self.layer.apply(self._dropped(x), None if delta is None else delta.to(x.dtype), None)

    def _dropped(self, x: Tensor) -> Tensor:
        if self.shape.dropout <= 0 or not self.training:
            return x
        return functional.dropout(x, self.shape.dropout, training=True)


class TrainedLora(TrainedLayer):
    """LoRA: up · down; up begins with zeros."""

    def __init__(self, layer: Layer, shape: LayerShape) -> None:
        super().__init__(layer, shape)
        weight = layer.weight
        more = tuple(weight.shape[2:])
        self.down = _parameter((shape.rank, weight.shape[1], *more), weight)
        self.up = _parameter((weight.shape[0], shape.rank, *[1] * len(more)), weight)

    def reset(self, generator: torch.Generator) -> None:
        """First values; without them everything is zero."""
        _uniform(self.down, generator)

    def change(self) -> Change:
        """Low rank."""
        return LowRank(self.down, self.up, self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """Two matrices."""
        return {"lora_down.weight": self.down, "lora_up.weight": self.up}

    def added(self, x: Tensor) -> Tensor:
        """The two small layers one after the other."""
        x = self._dropped(x)
        # The factor goes into the smaller matrix of the two, before it is rounded.
        down, up = (self.down * self.scale).to(x.dtype), self.up.to(x.dtype)
        if down.ndim == 2:
            return functional.linear(functional.linear(x, down), up)
        return functional.conv2d(self.layer.convolve(x, down), up)


class TrainedDora(TrainedLora):
    """DoRA (Liu et al. 2024): the sum's columns get learnt lengths, as A1111 reads them ([1, in]).

    Their own lengths take no part in gradients (section 4.3 of the paper).
    """

    def __init__(self, layer: Layer, shape: LayerShape) -> None:
        super().__init__(layer, shape)
        lengths = _column_lengths(layer.weight.detach().float())
        self.magnitude = nn.Parameter(lengths.clone())

    def change(self) -> Change:
        """Low rank with lengths."""
        return WithMagnitude(super().change(), self.magnitude)

    def tensors(self) -> dict[str, Tensor]:
        """LoRA's, and the lengths."""
        return {**super().tensors(), "dora_scale": self.magnitude}

    def added(self, x: Tensor) -> Tensor:
        """The layer with the whole change."""
        weight = self.layer.weight.detach().float()
        delta, _ = LowRank(self.down, self.up, self.scale).delta(weight)
        merged = weight if delta is None else weight + delta
        lengths = _column_lengths(merged.detach()) + torch.finfo(torch.float32).eps
        change = merged * (self.magnitude / lengths) - weight
        return self.layer.apply(self._dropped(x), change.to(x.dtype), None)


class TrainedLoha(TrainedLayer):
    """LoHa: (w1a · w1b) ∘ (w2a · w2b); w2a begins with zeros, the others as LyCORIS draws them."""

    def __init__(self, layer: Layer, shape: LayerShape) -> None:
        super().__init__(layer, shape)
        weight = layer.weight
        out, inside = weight.shape[0], weight[0].numel()
        self.w1_a, self.w2_a = (_parameter((out, shape.rank), weight) for _ in range(2))
        self.w1_b, self.w2_b = (_parameter((shape.rank, inside), weight) for _ in range(2))

    def reset(self, generator: torch.Generator) -> None:
        """First values."""
        _normal(self.w1_a, generator, 0.1)
        _normal(self.w1_b, generator, 1.0)
        _normal(self.w2_b, generator, 1.0)

    def change(self) -> Change:
        """A Hadamard product."""
        return Hadamard((self.w1_a, self.w1_b), (self.w2_a, self.w2_b), self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """Four matrices."""
        return {"hada_w1_a": self.w1_a, "hada_w1_b": self.w1_b, "hada_w2_a": self.w2_a, "hada_w2_b": self.w2_b}


class TrainedLokr(TrainedLayer):
    """LoKr: w1 ⊗ w2, where w2 is a product of two if that is smaller; w2's last factor begins with zeros."""

    def __init__(self, layer: Layer, shape: LayerShape) -> None:
        super().__init__(layer, shape)
        weight = layer.weight
        (out_1, out_2), (in_1, in_2) = split(weight.shape[0], shape.factor), split(weight.shape[1], shape.factor)
        kernel = tuple(weight.shape[2:])
        self.w1 = _parameter((out_1, in_1), weight)
        self.w2: nn.Parameter | None = None
        self.w2_a: nn.Parameter | None = None
        self.w2_b: nn.Parameter | None = None
        if shape.rank < max(out_2, in_2) / 2:
            self.w2_a = _parameter((out_2, shape.rank), weight)
            self.w2_b = _parameter((shape.rank, in_2 * math.prod(kernel)), weight)
        else:
            self.w2 = _parameter((out_2, in_2, *kernel), weight)

    @property
    def scale(self) -> float:
        """Alpha over the rank; 1 where nothing is a product, as every reader has it."""
        return 1.0 if self.w2 is not None else self.shape.alpha / self.shape.rank

    def reset(self, generator: torch.Generator) -> None:
        """First values."""
        _uniform(self.w1, generator)
        if self.w2_a is not None:
            _uniform(self.w2_a, generator)

    def change(self) -> Change:
        """A Kronecker product."""
        return Kronecker((self.w1,), self._second(), self.scale)

    def _second(self) -> tuple[Tensor, ...]:
        if self.w2 is not None:
            return (self.w2,)
        return tuple(one for one in (self.w2_a, self.w2_b) if one is not None)

    def tensors(self) -> dict[str, Tensor]:
        """Two or three matrices."""
        names = ("lokr_w2",) if self.w2 is not None else ("lokr_w2_a", "lokr_w2_b")
        return {"lokr_w1": self.w1, **dict(zip(names, self._second(), strict=True))}


KINDS: dict[str, type[Any]] = {"lora": TrainedLora, "dora": TrainedDora, "loha": TrainedLoha, "lokr": TrainedLokr}
"""As a Request names them."""


def split(size: int, factor: int) -> tuple[int, int]:
    """LyCORIS's split of a side into two, the smaller first: by `factor`, or as evenly as it can be.

    >>> split(128, -1), split(96, 4), split(7, -1)
    ((8, 16), (4, 24), (1, 7))
    """
    if factor > 0 and size % factor == 0:
        return (factor, size // factor) if factor <= size // factor else (size // factor, factor)
    most = size if factor < 0 else factor
    small, large = 1, size
    length = small + large
    while small < large:
        next_small = small + 1
        while size % next_small:
            next_small += 1
        next_large = size // next_small
        if next_small + next_large > length or next_small > most:
            break
        small, large = next_small, next_large
        length = small + large
    return (small, large) if small <= large else (large, small)


def _column_lengths(weight: Tensor) -> Tensor:
    """Lengths [1, in, …] of a weight's columns [out, in, …]."""
    dims = [dim for dim in range(weight.ndim) if dim != 1]
    return weight.square().sum(dim=dims, keepdim=True).sqrt()


def _parameter(shape: tuple[int, ...], weight: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, device=weight.device, dtype=torch.float32))


def _uniform(one: nn.Parameter, generator: torch.Generator) -> None:
    """As kohya's and PEFT's LoRA begin: Kaiming's uniform with a = √5, in ±1/√inputs."""
    bound = 1.0 / math.sqrt(one[0].numel())
    drawn = torch.rand(one.shape, generator=generator) * (2 * bound) - bound
    one.data.copy_(drawn)


def _normal(one: nn.Parameter, generator: torch.Generator, std: float) -> None:
    one.data.copy_(torch.randn(one.shape, generator=generator) * std)
