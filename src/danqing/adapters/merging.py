"""Changes of layers put into the weights themselves, with the weights they replace kept for taking them out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from danqing.adapters.change import BoundChange
from danqing.models.packing import PackedConv2d
from danqing.spec.errors import UnsupportedError


class Merged:
    """Networks of constant strength in the weights of a model.

    The engine does not use this: a batch may hold rows with other networks, and rounding a sum into bfloat16 weights
    gives other numbers than adding answers, so that a picture would depend on who shares its batch. It is for tools
    that write models, and for running one set of networks alone.

    Args:
        networks: (changes by path of the layer, strength, factors by path), all on the layers of one model.
    """

    def __init__(self, networks: Sequence[tuple[Mapping[str, BoundChange], float, Mapping[str, float]]]) -> None:
        self._networks = networks
        self._kept: list[tuple[nn.Parameter, Tensor]] = []

    def inject(self) -> Merged:
        """Add the changes to the weights.

        Raises:
            RuntimeError: They are in it already.
            UnsupportedError: A layer is packed for the CPU, or has no bias that could be changed.
        """
        if self._kept:
            raise RuntimeError("these networks are merged already: eject them first")
        sums: dict[int, tuple[nn.Parameter, Tensor]] = {}
        for changes, strength, factors in self._networks:
            for path, change in changes.items():
                for parameter, added in zip(_parameters(change, path), change.delta(), strict=True):
                    if added is None:
                        continue
                    if parameter is None:
                        raise _unmergeable(path, "it has no bias, and the network changes one")
                    total = sums.get(id(parameter), (parameter, torch.zeros_like(added)))[1]
                    sums[id(parameter)] = (parameter, total + added * strength * factors.get(path, 1.0))
        for parameter, added in sums.values():
            self._kept.append((parameter, parameter.data))
            parameter.data = (parameter.data.float() + added).to(parameter.dtype)
        return self

    def eject(self) -> None:
        """Leave the model exactly as it was found: the very tensors return."""
        for parameter, data in self._kept:
            parameter.data = data
        self._kept = []


def _parameters(change: BoundChange, path: str) -> tuple[nn.Parameter, nn.Parameter | None]:
    module = change.layer.module
    if isinstance(module, PackedConv2d):
        raise _unmergeable(path, "it is packed for this CPU")
    weight: nn.Parameter = module.get_parameter("weight")
    return weight, module.bias if isinstance(module.bias, nn.Parameter) else None


def _unmergeable(path: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the layer {path} cannot be merged: {why}", value=path, next_step="load the model with fast_cpu=False"
    )
