"""The executor for CPUs: what can be written down as a graph is computed by OpenVINO, all else by PyTorch.

Which of the two runs a row of a Call follows from the Call alone, so that a picture does not depend on its company.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from danqing.engine.calls import Denoise, ModelCall
from danqing.engine.cutting import Features, branch_of, merging_of
from danqing.engine.room import graph_bytes
from danqing.engine.rows import reads_more
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.controlnet import LoadedControlNet, NetInput, Residuals
from danqing.models.families.sd import Network, StableDiffusion
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.graphs.calibrating import BOUNDS_FOLDER, rounding_of
from danqing.models.graphs.compiled import GraphShelf, ShapedGraphs
from danqing.models.graphs.emit import Changes, Written
from danqing.models.graphs.int8 import Rounding
from danqing.models.graphs.unet import (
    CONTEXT,
    FEATURE,
    HINT,
    SAMPLE,
    controlnet_graph,
    outer_graph,
    residual_name,
    times,
    unet_graph,
)
from danqing.models.graphs.vae import LATENT, PICTURE, decoder_graph, encoder_graph
from danqing.models.loader import Control, Loader
from danqing.models.shallow import skip_channels
from danqing.spec.model import ModelRef
from danqing.spec.network import NetworkUse

MERGED_FROM_STEPS = 4
"""Networks that act unchanged for so many steps are merged into a graph of their own; writing one takes about two."""
MERGED_GRAPHS = 2
"""Of one denoiser; each holds all its weights once more."""
LEFT_ALONE_BATCHES = 16
"""A merged graph gives way to another set of networks once so many batches went by without it."""
KEPT_NUMBERS = 3 * 512 * 512
"""Of a picture for which an autoencoder keeps its working memory: 0.4 GB that it would have to be given anew."""
_DOWN, _MID = "down_block_additional_residuals", "mid_block_additional_residual"
_ADDED = "added_cond_kwargs"


@dataclass(frozen=True)
class _Way:
    """A denoiser's graph.

    Attributes:
        networks: Merged into it.
        inner: A branch below the outermost level whose feature it leaves, too.
    """

    networks: tuple[NetworkUse, ...]
    inner: int | None = None

    @property
    def key(self) -> Hashable:
        """Of the graph of all blocks."""
        return ("unet", self.networks) if self.inner is None else ("unet", self.networks, self.inner)


class OpenVinoExecutor(TorchExecutor):
    """Runs batches of Calls on a CPU.

    Args:
        loader: Where models come from; its device is the CPU.
        threads: Of the graphs; PyTorch's number if None.
    """

    def __init__(self, loader: Loader, *, threads: int | None = None) -> None:
        super().__init__(loader)
        self._threads = threads
        self.graphs = GraphShelf(threads, loader.budget_bytes // 2, self._allows)
        self._merged: weakref.WeakKeyDictionary[nn.Module, OrderedDict[tuple[NetworkUse, ...], int]] = (
            weakref.WeakKeyDictionary()
        )
        self._batches = 0
        self._rounded: weakref.WeakKeyDictionary[nn.Module, Rounding] = weakref.WeakKeyDictionary()
        loader.graphs_in_int8 = True
        loader.beside_bytes = self._graph_bytes

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        """Answer Calls of one group as one batch, in order.

        Raises:
            OutOfMemoryError: The batch did not fit; nothing was answered.
        """
        self._batches += 1
        return super().run(calls)

    def _graph_bytes(self, model: object) -> int:
        modules = (getattr(model, name, None) for name in ("unet", "vae", "net"))
        return sum(self.graphs.bytes_of(module) for module in modules if isinstance(module, nn.Module))

    def relieve(self, call: ModelCall) -> bool:
        """Make room after a single Call did not fit: give up graphs, then what PyTorch's executor gives up."""
        return self.graphs.drop() or super().relieve(call)

    def _kind(self, call: Denoise, row: int) -> Hashable:
        return (super()._kind(call, row), reads_more(call, row) or call.networks)

    def _way(self, model: StableDiffusion, call: Denoise, row: int, nets: Sequence[Control]) -> Hashable:
        plain = (
            _can_be_written(model)
            and self._affordable(model.unet)
            and call.images is None
            and call.words is None
            and (call.regions is None or not call.regions.rows[row])
            and row < len(call.contexts) - call.perturbed
            and all(isinstance(net, LoadedControlNet) for net in nets)
            and merging_of(model.unet, call, nets) == 0
        )
        if not plain or (call.networks and not (_lasting(call) and self._has_room(model, call.networks))):
            return None
        way = _Way(call.networks, _inner(model.unet, branch_of(model.unet, call)))
        return way if self._unet_graph(model, way) is not None else None

    def _has_room(self, model: StableDiffusion, networks: tuple[NetworkUse, ...]) -> bool:
        """Whether these networks have a graph, or may have one: sets that take turns do not drive each other out."""
        sets = self._merged.setdefault(model.unet, OrderedDict())
        if networks not in sets and len(sets) >= MERGED_GRAPHS:
            oldest, last_used = next(iter(sets.items()))
            if self._batches - last_used < LEFT_ALONE_BATCHES:
                return False
            del sets[oldest]
            self.graphs.give_up_all(model.unet, oldest)
        sets[networks] = self._batches
        sets.move_to_end(networks)
        return True

    def _unet_graph(self, model: StableDiffusion, way: _Way) -> ShapedGraphs | None:
        unet, dtype = model.unet, model.precision.denoiser
        kept = _kept(unet, way)

        def write() -> Written:
            return unet_graph(unet, dtype, self._changes(model, way), kept=kept, rounding=self._rounding(model))

        return self.graphs.get(unet, way.key, write)

    def _outer_graph(self, model: StableDiffusion, way: _Way, branch: int) -> ShapedGraphs | None:
        unet, dtype = model.unet, model.precision.denoiser

        def write() -> Written:
            return outer_graph(unet, dtype, branch, self._changes(model, way), self._rounding(model))

        return self.graphs.get(unet, ("outer", way.networks, branch), write)

    def _rounding(self, model: StableDiffusion) -> Rounding | None:
        """The layers that are computed in eight bits, measured once for each model."""
        if model.precision.graph != "int8":
            return None
        if model.unet not in self._rounded:
            folder = self.loader.catalog.models_dir
            self._rounded[model.unet] = rounding_of(model, folder / BOUNDS_FOLDER if folder else None, self._threads)
        return self._rounded[model.unet]

    def _changes(self, model: StableDiffusion, way: _Way) -> Changes | None:
        """What networks add to the weights of a graph."""
        return self.networks.added(model.unet, way.networks) if way.networks else None

    def _network(self, model: StableDiffusion, way: Hashable, features: Features) -> Network | None:
        if not isinstance(way, _Way):
            return None
        if features.reused is not None and features.given is not None:
            outer = self._outer_graph(model, way, features.reused)
            return None if outer is None else _GraphOuter(model.unet, outer, features.reused, features.given)
        graph = self._unet_graph(model, way)
        return None if graph is None else _GraphUnet(model.unet, graph, _kept(model.unet, way), features)

    def _controlnet(self, net: ModelRef, precision: str, model: StableDiffusion) -> Control:
        loaded = super()._controlnet(net, precision, model)
        if type(loaded) is not LoadedControlNet or not _on_cpu(loaded.precision.storage, loaded.net):
            return loaded
        if not self._affordable(loaded.net):
            return loaded
        module, dtype = loaded.net, loaded.precision.denoiser
        graph = self.graphs.get(module, "controlnet", lambda: controlnet_graph(module, dtype))
        return loaded if graph is None else _GraphControlNet(loaded.info, loaded.precision, module, graph)

    def _affordable(self, module: nn.Module) -> bool:
        """Whether a person's memory limit has room for a module's weights once more; what is written stays."""
        return self.graphs.bytes_of(module) > 0 or self._allows(graph_bytes(module))

    def _allows(self, more_bytes: int) -> bool:
        """Whether a person's memory limit has room for so much more."""
        return self.loader.memory.allows(more_bytes)

    def _decoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        return self._autoencoder(model, "decoder")

    def _encoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        return self._autoencoder(model, "encoder")

    def _autoencoder(self, model: StableDiffusion, side: str) -> Callable[[Tensor], Tensor] | None:
        # A graph's sums are float32 and so is its answer: bfloat16 bands no flat colours as PyTorch's does (54 dB).
        in_bf16 = model.precision.denoiser is torch.bfloat16
        vae, dtype = model.vae, torch.bfloat16 if in_bf16 else model.precision.vae
        if not _on_cpu(None, vae) or vae.use_tiling or vae.use_slicing or not self._affordable(vae):
            return None
        name, write = (LATENT, decoder_graph) if side == "decoder" else (PICTURE, encoder_graph)
        graph = self.graphs.get(vae, side, lambda: write(vae, dtype))
        return None if graph is None else partial(_at_rest, graph, name)


def _at_rest(graph: ShapedGraphs, name: str, x: Tensor) -> Tensor:
    """One answer of an autoencoder, which then gives up what it worked with: a gigabyte at 768 × 768."""
    (answer,) = graph({name: x})
    if max(x.numel(), answer.numel()) > KEPT_NUMBERS:
        graph.rest()
    return answer


@dataclass(frozen=True)
class _GraphUnet:
    """A UNet's graph as `StableDiffusion` calls its denoiser."""

    unet: Any
    graph: ShapedGraphs
    kept: tuple[int, ...]
    features: Features

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        feeds = {SAMPLE: scaled, CONTEXT: context, **times(self.unet, timesteps, context, options.get(_ADDED))}
        residuals: Sequence[Tensor] = (*options.get(_DOWN, ()), *([options[_MID]] if _MID in options else ()))
        feeds |= {residual_name(i): one for i, one in enumerate(residuals)}
        wanted = [place + 1 for place, branch in enumerate(self.kept) if branch in self.features.wanted]
        answer, *found = self.graph(feeds, (0, *wanted))
        self.features.found |= {self.kept[place - 1]: one for place, one in zip(wanted, found, strict=True)}
        return answer


@dataclass(frozen=True)
class _GraphOuter:
    """The graph of a UNet's outer blocks, with what its deep blocks said at an earlier step."""

    unet: Any
    graph: ShapedGraphs
    branch: int
    feature: Tensor

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        feeds = {SAMPLE: scaled, CONTEXT: context, **times(self.unet, timesteps, context, options.get(_ADDED))}
        residuals: Sequence[Tensor] = options.get(_DOWN, ())[: self.branch + 1]
        feeds |= {residual_name(i): one for i, one in enumerate(residuals)}
        if not residuals:
            last = (len(scaled), skip_channels(self.unet)[self.branch], *self.feature.shape[2:])
            feeds[residual_name(self.branch)] = torch.zeros(last)
        return self.graph({FEATURE: self.feature, **feeds})[0]


@dataclass
class _GraphControlNet(LoadedControlNet):
    """A ControlNet whose residuals a graph computes."""

    graph: ShapedGraphs

    @torch.inference_mode()
    def residuals(self, given: NetInput, hint: Tensor, union_id: int | None = None) -> Residuals:
        """The residuals of one batch, not weighted."""
        del union_id
        own = given.sample[:, : self.info.in_channels]
        feeds = times(self.net, given.timesteps, given.context, given.added)
        return tuple(self.graph({SAMPLE: own, CONTEXT: given.context, HINT: hint, **feeds}))


def _inner(unet: Any, branch: int | None) -> int | None:
    """A branch, where no graph leaves its feature anyway."""
    return None if branch is None or branch < _outermost(unet) else branch


def _kept(unet: Any, way: _Way) -> tuple[int, ...]:
    """The branches whose features a graph leaves.

    Those of the outermost level are always there: they cost nothing to speak of, where a graph of their own for Calls
    that keep them would hold all weights once more.
    """
    return (*range(_outermost(unet)), *(() if way.inner is None else (way.inner,)))


def _outermost(unet: Any) -> int:
    """How many branches the outermost level has."""
    return len(unet.down_blocks[0].resnets) + 1


def _lasting(call: Denoise) -> bool:
    """Whether a Call's networks are such as can be merged, and long enough."""
    return call.settled_steps >= MERGED_FROM_STEPS and all(use.kind == "lora" for use in call.networks)


def _can_be_written(model: StableDiffusion) -> bool:
    """Whether a model is of the kind that graphs are written for."""
    return type(model) in (StableDiffusion, StableDiffusionXL) and _on_cpu(model.precision.storage, model.unet)


def _on_cpu(storage: str | None, module: nn.Module) -> bool:
    """Whether its weights lie in main memory as they are computed with."""
    return storage is None and next(module.parameters()).device.type == "cpu"
