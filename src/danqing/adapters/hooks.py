"""Networks in a module tree for as long as a context is open, with a strength for every row of the batch.

Forward hooks add what a change makes of a layer's input; the layer itself stays as it is, so packed and compiled-for
layers work and taking a network out is taking the hooks out. A row of strength 0 comes out bit for bit as without the
network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from danqing.adapters.change import BoundChange


class RowWeights:
    """A strength for each row of a batch, as layers ask for it.

    Args:
        weights: [b], in float32.
    """

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self._known: dict[tuple[Any, ...], tuple[Tensor, Tensor | None, Tensor | None]] = {}

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Strengths that are not 0 and the rows they belong to (None: all), for a layer that is called with `x`.

        Raises:
            RuntimeError: The layer is called with other rows than the batch has.
        """
        count = len(x)
        subset = called_rows(count, len(self.weights))
        key = (count, x.device, id(subset))
        if key not in self._known:
            # The subset is kept, so that no other one takes its identity.
            self._known[key] = (*self._choose(count, subset, x.device), subset)
        return self._known[key][:2]

    def _choose(self, count: int, subset: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor | None]:
        weights = self.weights if subset is None else self.weights[subset.to(self.weights.device)]
        if len(weights) != count:
            raise RuntimeError(f"a layer was called with {count} rows, the batch has {len(weights)}")
        if bool(weights.all()):
            return weights.to(device), None
        rows = torch.nonzero(weights).flatten()
        return weights[rows].to(device), rows.to(device)


@dataclass(frozen=True)
class Acting:
    """A network in a batch.

    Attributes:
        changes: By path of the layer.
        weights: Its strength in each row [b].
        factors: By path of the layer, from block weights; 1 where it names none.
    """

    changes: Mapping[str, BoundChange]
    weights: Tensor
    factors: Mapping[str, float] = field(default_factory=dict[str, float])


_SUBSETS: list[Tensor] = []


def called_rows(count: int, total: int) -> Tensor | None:
    """Which rows of a batch of `total` a layer is called with that has `count`; None for all of them."""
    subset = _SUBSETS[-1] if _SUBSETS else None
    return None if subset is None or len(subset) != count or count == total else subset


@contextmanager
def row_subset(rows: Tensor | None) -> Iterator[None]:
    """Inside, layers may be called with these rows of the batch alone, as image prompts do; None for all."""
    if rows is None:
        yield
        return
    _SUBSETS.append(rows)
    try:
        yield
    finally:
        _SUBSETS.pop()


@contextmanager
def hooked(root: nn.Module, networks: Sequence[Acting]) -> Iterator[None]:
    """The networks act in a module tree inside the block."""
    places: dict[str, list[tuple[BoundChange, RowWeights]]] = {}
    for network in networks:
        by_factor: dict[float, RowWeights] = {}
        for path, change in network.changes.items():
            factor = network.factors.get(path, 1.0)
            if factor != 0:
                strengths = by_factor.setdefault(factor, RowWeights(network.weights * factor))
                places.setdefault(path, []).append((change, strengths))
    handles = [root.get_submodule(path).register_forward_hook(_adder(parts)) for path, parts in places.items()]
    with uncompiled(root, bool(handles)):
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def uncompiled(root: nn.Module, when: bool = True) -> Iterator[None]:
    """Inside, a compiled module runs as it was written: compiled code does not see hooks that come later."""
    compiled = getattr(root, "_compiled_call_impl", None)
    if compiled is None or not when:
        yield
        return
    root._compiled_call_impl = None
    try:
        yield
    finally:
        root._compiled_call_impl = compiled


def add_rows(output: Tensor, added: Tensor, weights: Tensor, rows: Tensor | None) -> Tensor:
    """The output with weighted additions in some rows; the others stay bit for bit."""
    scaled = added * weights.view(-1, *[1] * (added.ndim - 1)).to(added)
    return output + scaled if rows is None else output.index_add(0, rows, scaled.to(output))


def _adder(parts: Sequence[tuple[BoundChange, RowWeights]]) -> Any:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        for change, strengths in parts:
            weights, rows = strengths.chosen(x)
            if len(weights):
                output = add_rows(output, change.added(x if rows is None else x[rows]), weights, rows)
        return output

    return hook
