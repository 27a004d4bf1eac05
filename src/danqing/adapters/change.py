"""What a network does to one layer: a change of its weight and bias in proportion to the network's strength.

Every change is told for strength 1 and refers to the layer's own weight, not to what another network made of it:
networks simply add up, so their order does not matter and a row of a batch can have its own set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from danqing.adapters.layers import Layer


class Change(ABC):
    """A change of one layer."""

    @abstractmethod
    def misfit(self, weight: Tensor) -> str | None:
        """Why it cannot act on a layer with this weight, in words; None where it can."""

    @abstractmethod
    def delta(self, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What is added to a layer's weight and bias, in float32, like the weight [out, in, …] and [out].

        Args:
            weight: The layer's own, in float32.
        """

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Its numbers, to count their bytes."""

    def quick(self, x: Tensor, layer: Layer) -> Tensor | None:
        """The change of the layer's answer without a whole weight; None where there is no shorter way."""
        del x, layer
        return None


class BoundChange:
    """A change on a layer it fits.

    Args:
        change: What is changed.
        layer: Where.
    """

    def __init__(self, change: Change, layer: Layer) -> None:
        self.change = change
        self.layer = layer
        self._dense: tuple[Tensor | None, Tensor | None] | None = None

    def added(self, x: Tensor) -> Tensor:
        """What is added to the layer's answer to `x` at strength 1."""
        quick = self.change.quick(x, self.layer)
        if quick is not None:
            return quick
        if self._dense is None:
            weight, bias = self.delta()
            self._dense = (_like(weight, x), _like(bias, x))
        return self.layer.apply(x, *self._dense)

    def delta(self) -> tuple[Tensor | None, Tensor | None]:
        """The change of weight and bias at strength 1, in float32."""
        with torch.no_grad():
            return self.change.delta(self.layer.weight.detach().float())


def differs(out: int, inside: int, weight: Tensor) -> str | None:
    """Why a change [out, inside] does not fit a weight [out, in, …]; None where it does."""
    if (out, inside) == (weight.shape[0], weight[0].numel()):
        return None
    return f"it changes {out}×{inside} numbers, the layer has {weight.shape[0]}×{weight[0].numel()}"


def _like(tensor: Tensor | None, x: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.to(x)
