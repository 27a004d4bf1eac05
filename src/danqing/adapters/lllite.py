"""ControlNet-LLLite in a UNet: pre-hooks change what linear layers read, by row, for as long as a context is open.

Several add up: each computes its part from what the layer would read without any of them. A row that none acts on
comes out bit for bit as without them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from danqing.adapters.control import fade_scales
from danqing.adapters.hooks import RowWeights, add_rows, called_rows, uncompiled
from danqing.adapters.module_names import UnetNames, unet_names
from danqing.models.lllite import Embeddings, LLLiteModule, LoadedLLLite
from danqing.spec.errors import UnsupportedError


@dataclass(frozen=True)
class LLLiteRows:
    """What one ControlNet-LLLite does in a UNet batch of b rows.

    Attributes:
        net: The network.
        embeddings: What its layers read of each row's map; rows of one picture share theirs.
        weights: Strength in each row [b].
        fading: Whether the row's strength fades towards the first blocks (*my prompt matters more*) [b].
        masks: Where each row is controlled, in [0, 1], [b, 1, H, W]; None for everywhere.
    """

    net: LoadedLLLite
    embeddings: Sequence[Embeddings]
    weights: Tensor
    fading: Tensor
    masks: Tensor | None = None


_NAMES: weakref.WeakKeyDictionary[nn.Module, UnetNames] = weakref.WeakKeyDictionary()


@contextmanager
def acting(unet: nn.Module, parts: Sequence[LLLiteRows]) -> Iterator[None]:
    """The networks act in a UNet inside the block.

    Raises:
        UnsupportedError: The UNet has not all the layers that one of them acts before.
    """
    active = [part for part in parts if bool(part.weights.any())]
    if not active:
        yield
        return
    if unet not in _NAMES:
        _NAMES[unet] = unet_names(path for path, _ in unet.named_modules())
    names = _NAMES[unet]
    places: dict[str, list[_Layer]] = {}
    for part in active:
        for path, layer in _layers(part, names).items():
            places.setdefault(path, []).append(layer)
    with ExitStack() as stack:
        stack.enter_context(uncompiled(unet))
        for path, layers in places.items():
            stack.callback(unet.get_submodule(path).register_forward_pre_hook(_changer(layers)).remove)
        yield


def block_scales(names: UnetNames) -> dict[str, float]:
    """Factors of *my prompt matters more* for a UNet's blocks: a block counts as the ControlNet residual beside it."""
    blocks = names.block_names(attended=False)
    downward = sum(name.startswith("IN") for name in blocks)
    scales = fade_scales(downward + 1)
    found: dict[str, float] = {}
    for name in blocks:
        if name.startswith("IN"):
            found[name] = scales[int(name[2:])]
        else:
            # Up-block j reads the residuals in reverse order.
            found[name] = scales[-1] if name == "M00" else scales[max(downward - 1 - int(name[3:]), 0)]
    return found


class _Layer:
    """One network before one layer.

    Args:
        module: What computes.
        embeddings: [1, rows, columns, c] for each row of the batch.
        strengths: Of each row.
        masks: As in `LLLiteRows`.
    """

    def __init__(
        self, module: LLLiteModule, embeddings: Sequence[Tensor], strengths: RowWeights, masks: Tensor | None
    ) -> None:
        self._module = module
        self._strengths = strengths
        self._embeddings = torch.cat(list(embeddings)).flatten(1, 2)
        self._masks: Tensor | None = None
        if masks is not None:
            grid = embeddings[0].shape[1:3]
            self._masks = interpolate(masks, size=grid, mode="area").flatten(1)[..., None].to(self._embeddings)

    def added(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """(additions, strengths, rows or None for all); None where it does not act on these rows, or on such tokens."""
        weights, rows = self._strengths.chosen(x)
        if x.ndim != 3 or not len(weights) or x.shape[1] != self._embeddings.shape[1]:
            return None
        subset = called_rows(len(x), len(self._embeddings))
        picked = rows
        if subset is not None:
            there = subset.to(x.device)
            picked = there if rows is None else there[rows]
        embeddings = self._embeddings if picked is None else self._embeddings[picked]
        found = self._module.added(x if rows is None else x[rows], embeddings)
        if self._masks is not None:
            found = found * (self._masks if picked is None else self._masks[picked]).to(found)
        return found, weights, rows


def _layers(part: LLLiteRows, names: UnetNames) -> dict[str, _Layer]:
    """A network's layers by the path of the UNet's module."""
    scales = block_scales(names)
    strengths: dict[float, RowWeights] = {}
    found: dict[str, _Layer] = {}
    for name, module in part.net.layers().items():
        path = names.paths.get(name)
        if path is None:
            raise UnsupportedError(
                f"the ControlNet-LLLite {part.net.info.name} acts before a layer that the model has not",
                field="controls.model",
                value=name,
                allowed="models with the attentions of SDXL's base model",
                next_step="choose another ControlNet, or another model",
            )
        scale = scales.get(names.block_of(path) or "", 1.0)
        if scale not in strengths:
            strengths[scale] = RowWeights(torch.where(part.fading, part.weights * scale, part.weights))
        own = [one[name] for one in part.embeddings]
        found[path] = _Layer(module, own, strengths[scale], part.masks)
    return found


def _changer(layers: Sequence[_Layer]) -> Any:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x: Tensor = inputs[0]
        parts = [one for layer in layers if (one := layer.added(x)) is not None]
        for added, weights, rows in parts:
            x = add_rows(x, added, weights, rows)
        return (x, *inputs[1:])

    return hook
