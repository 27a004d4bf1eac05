"""The executor for CPUs: what can be written down as a graph is computed by OpenVINO, all else by PyTorch.

Which of the two runs a row of a Call follows from the Call alone, so that a picture does not depend on its company.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danqing.engine.calls import Denoise, ModelCall
from danqing.engine.cutting import Features, branch_of, merging_of
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.controlnet import LoadedControlNet, NetInput, Residuals
from danqing.models.families.sd import Network, StableDiffusion
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.graphs.compiled import CompiledGraph, GraphShelf
from danqing.models.graphs.emit import Changes, Written
from danqing.models.graphs.unet import (
    CONTEXT,
    FEATURE,
    HINT,
    SAMPLE,
    TIME,
    controlnet_graph,
    outer_graph,
    residual_name,
    time_embedding,
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
        self.graphs = GraphShelf(threads)
        self._merged: weakref.WeakKeyDictionary[nn.Module, OrderedDict[tuple[NetworkUse, ...], int]] = (
            weakref.WeakKeyDictionary()
        )
        self._batches = 0
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

    def _way(self, model: StableDiffusion, call: Denoise, row: int, nets: Sequence[Control]) -> Hashable:
        plain = (
            _can_be_written(model)
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

    def _unet_graph(self, model: StableDiffusion, way: _Way) -> CompiledGraph | None:
        unet, dtype = model.unet, model.precision.denoiser
        kept = _kept(unet, way)

        def write() -> Written:
            return unet_graph(unet, dtype, self._changes(model, way), kept=kept)

        return self.graphs.get(unet, way.key, write)

    def _outer_graph(self, model: StableDiffusion, way: _Way, branch: int) -> CompiledGraph | None:
        unet, dtype = model.unet, model.precision.denoiser

        def write() -> Written:
            return outer_graph(unet, dtype, branch, self._changes(model, way))

        return self.graphs.get(unet, ("outer", way.networks, branch), write)

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
        module, dtype = loaded.net, loaded.precision.denoiser
        graph = self.graphs.get(module, "controlnet", lambda: controlnet_graph(module, dtype))
        return loaded if graph is None else _GraphControlNet(loaded.info, loaded.precision, module, graph)

    def _decoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        return self._autoencoder(model, "decoder")

    def _encoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        return self._autoencoder(model, "encoder")

    def _autoencoder(self, model: StableDiffusion, side: str) -> Callable[[Tensor], Tensor] | None:
        vae, dtype = model.vae, model.precision.vae
        if not _on_cpu(None, vae) or vae.use_tiling or vae.use_slicing:
            return None
        name, write = (LATENT, decoder_graph) if side == "decoder" else (PICTURE, encoder_graph)
        graph = self.graphs.get(vae, side, lambda: write(vae, dtype))
        return None if graph is None else lambda x: graph({name: x})[0]


@dataclass(frozen=True)
class _GraphUnet:
    """A UNet's graph as `StableDiffusion` calls its denoiser."""

    unet: Any
    graph: CompiledGraph
    kept: tuple[int, ...]
    features: Features

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        emb = time_embedding(self.unet, timesteps, context, options.get(_ADDED))
        residuals: Sequence[Tensor] = (*options.get(_DOWN, ()), *([options[_MID]] if _MID in options else ()))
        nothing = torch.zeros(1, 1, 1, 1)
        count = len(self.graph.names) - 3
        feeds = {residual_name(i): residuals[i] if residuals else nothing for i in range(count)}
        wanted = [place + 1 for place, branch in enumerate(self.kept) if branch in self.features.wanted]
        answer, *found = self.graph({SAMPLE: scaled, TIME: emb, CONTEXT: context, **feeds}, (0, *wanted))
        self.features.found |= {self.kept[place - 1]: one for place, one in zip(wanted, found, strict=True)}
        return answer


@dataclass(frozen=True)
class _GraphOuter:
    """The graph of a UNet's outer blocks, with what its deep blocks said at an earlier step."""

    unet: Any
    graph: CompiledGraph
    branch: int
    feature: Tensor

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        emb = time_embedding(self.unet, timesteps, context, options.get(_ADDED))
        residuals: Sequence[Tensor] = options.get(_DOWN, ())[: self.branch + 1]
        if not residuals:
            last = (len(scaled), skip_channels(self.unet)[self.branch], *self.feature.shape[2:])
            residuals = (*[torch.zeros(1, 1, 1, 1)] * self.branch, torch.zeros(last))
        feeds = {residual_name(i): one for i, one in enumerate(residuals)}
        return self.graph({SAMPLE: scaled, TIME: emb, CONTEXT: context, FEATURE: self.feature, **feeds})[0]


@dataclass
class _GraphControlNet(LoadedControlNet):
    """A ControlNet whose residuals a graph computes."""

    graph: CompiledGraph

    @torch.inference_mode()
    def residuals(self, given: NetInput, hint: Tensor, union_id: int | None = None) -> Residuals:
        """The residuals of one batch, not weighted."""
        del union_id
        own = given.sample[:, : self.info.in_channels]
        emb = time_embedding(self.net, given.timesteps, given.context, given.added)
        return tuple(self.graph({SAMPLE: own, TIME: emb, CONTEXT: given.context, HINT: hint}))


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
