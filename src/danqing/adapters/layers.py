"""One layer of a model as adapters see it: a linear, a convolution (packed or not), or a normalisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from danqing.models.packing import PackedConv2d


@dataclass(frozen=True)
class Layer:
    """A module whose answer is linear in its weight and bias.

    Attributes:
        module: A Linear, Conv2d, PackedConv2d, GroupNorm or LayerNorm.
    """

    module: nn.Module

    @property
    def weight(self) -> Tensor:
        """Its weight as an ordinary tensor, in its own number format.

        Raises:
            TypeError: The module has none that an adapter could change.
        """
        module = self.module
        if isinstance(module, PackedConv2d):
            return module.dense_weight()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)) and module.weight is not None:
            return module.weight
        raise TypeError(f"{type(module).__name__} has no weight to change")

    @property
    def is_norm(self) -> bool:
        """Whether it normalises."""
        return isinstance(self.module, (nn.GroupNorm, nn.LayerNorm))

    def apply(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """What the layer would answer to `x` with this weight and bias instead of its own; None stands for zeros."""
        module = self.module
        if isinstance(module, nn.GroupNorm):
            return functional.group_norm(x, module.num_groups, _or_zeros(weight, module), bias, module.eps)
        if isinstance(module, nn.LayerNorm):
            shape = list(module.normalized_shape)
            return functional.layer_norm(x, shape, _or_zeros(weight, module), bias, module.eps)
        if isinstance(module, nn.Linear):
            return functional.linear(x, _or_zeros(weight, module), bias)
        if weight is None:
            weight = self.weight.new_zeros(self.weight.shape)
        return self.convolve(x, weight, bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """A convolution with this layer's stride, padding and dilation.

        Raises:
            TypeError: The layer is no convolution.
        """
        module = self.module
        if isinstance(module, PackedConv2d):
            padding, stride, dilation, groups = module.geometry
            return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
        if not isinstance(module, nn.Conv2d):
            raise TypeError(f"{type(module).__name__} is no convolution")
        return functional.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)


def is_layer(module: nn.Module) -> bool:
    """Whether an adapter can change a module."""
    kinds = (nn.Linear, nn.Conv2d, PackedConv2d, nn.GroupNorm, nn.LayerNorm)
    return isinstance(module, kinds) and (isinstance(module, PackedConv2d) or module.weight is not None)


def _or_zeros(weight: Tensor | None, module: nn.Linear | nn.GroupNorm | nn.LayerNorm) -> Tensor:
    return module.weight.new_zeros(module.weight.shape) if weight is None else weight
