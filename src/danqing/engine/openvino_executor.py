"""The executor for CPUs: what can be written down as a graph is computed by OpenVINO, all else by PyTorch.

Which of the two runs a row of a Call follows from the Call alone, so that a picture does not depend on its company.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from danqing.engine.calls import Denoise, EncodeText, ModelCall
from danqing.engine.cutting import Features, branch_of, merging_of
from danqing.engine.graph_cuts import inner_branch, kept_branches
from danqing.engine.graph_inputs import (
    Shown,
    image_feeds,
    inside_feeds,
    layers_for,
    residual_feeds,
    shown_of,
    steered_inside,
)
from danqing.engine.room import BESIDE_BYTES, graph_bytes
from danqing.engine.rows import reads_more
from danqing.engine.text_graphs import TextGraphs
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.controlnet import LoadedControlNet, NetInput, Residuals
from danqing.models.families.sd import Network, StableDiffusion
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.graphs.calibrating import BOUNDS_FOLDER, rounding_of
from danqing.models.graphs.compiled import GraphShelf, ShapedGraphs
from danqing.models.graphs.emit import Changes, Written
from danqing.models.graphs.inputs import ImageLayers
from danqing.models.graphs.int8 import Rounding
from danqing.models.graphs.transformers import (
    TRANSFORMERS,
    GraphTransformer,
    outer_transformer_graph,
    transformer_graph,
)
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
from danqing.models.t2i_adapter import LoadedT2IAdapter
from danqing.models.text import TextState
from danqing.spec.model import ModelRef
from danqing.spec.network import NetworkUse

MERGED_FROM_STEPS = 4
"""Networks that act unchanged for so many steps, and image prompts in passes of so many, get a graph of their own that
holds their weights; writing one takes about two."""
MERGED_GRAPHS = 2
"""Of one denoiser; each holds all its weights once more."""
LEFT_ALONE_BATCHES = 16
"""Such a graph gives way to another set of networks and image adapter once so many batches went by without it."""
KEPT_CONTEXTS = 16
"""Batches of words that are kept as they are read."""
KEPT_NUMBERS = 3 * 512 * 512
"""Of a picture for which an autoencoder keeps its working memory: 0.4 GB that it would have to be given anew."""
_ADDED = "added_cond_kwargs"


@dataclass(frozen=True)
class _Way:
    """A denoiser's graph.

    Attributes:
        networks: Merged into it.
        inner: A branch below the outermost level whose feature it leaves, too.
        shown: Image prompts that it reads.
        inside: Whether T2I-Adapters act.
        perturbed: Whether the middle's self-attention is the identity (PAG).
    """

    networks: tuple[NetworkUse, ...]
    inner: int | None = None
    shown: Shown | None = None
    inside: bool = False
    perturbed: bool = False

    @property
    def merged(self) -> Hashable:
        """What its weights are besides the denoiser's; empty where they are no more."""
        return self.networks if self.shown is None else (*self.networks, self.shown.adapter)

    @property
    def key(self) -> Hashable:
        """Of the graph of all blocks."""
        return ("unet", self.merged) if self.inner is None else ("unet", self.merged, self.inner)


class OpenVinoExecutor(TorchExecutor):
    """Runs batches of Calls on a CPU.

    Args:
        loader: Where models come from; its device is the CPU.
        threads: Of the graphs; PyTorch's number if None.
    """

    def __init__(self, loader: Loader, *, threads: int | None = None) -> None:
        super().__init__(loader)
        self._threads = threads
        self.graphs = GraphShelf(threads, loader.budget_bytes // 2, lambda more: self._allows(more + BESIDE_BYTES))
        self.room.give_up_spare = self.graphs.drop
        self._texts_by_graph = TextGraphs(self.room, loader.budget_bytes, self.graphs, self.networks)
        self._merged: weakref.WeakKeyDictionary[nn.Module, OrderedDict[Hashable, int]] = weakref.WeakKeyDictionary()
        self._refused: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, int]] = weakref.WeakKeyDictionary()
        self._read: OrderedDict[tuple[int, ...], tuple[tuple[Tensor, ...], Tensor]] = OrderedDict()
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

    def _contexts(self, model: StableDiffusion, rows: Sequence[Tensor]) -> Tensor:
        """Contexts [tokens, width] as one batch, put together once for all steps."""
        key = tuple(map(id, rows))
        if key not in self._read:
            self._read[key] = (tuple(rows), super()._contexts(model, rows))
        self._read.move_to_end(key)
        while len(self._read) > KEPT_CONTEXTS:
            self._read.popitem(last=False)
        return self._read[key][1]

    def _graph_bytes(self, model: object) -> int:
        modules = (getattr(model, name, None) for name in ("unet", "vae", "net"))
        held = sum(self.graphs.bytes_of(module) for module in modules if isinstance(module, nn.Module))
        return held + self._texts_by_graph.bytes_of(model)

    def _encode_text(self, model: StableDiffusion, call: EncodeText) -> tuple[TextState, ...]:
        with self._texts_by_graph.reading(model, call):
            return super()._encode_text(model, call)

    def relieve(self, call: ModelCall) -> bool:
        """Make room after a single Call did not fit: give up graphs, then what PyTorch's executor gives up."""
        return self.graphs.drop() or super().relieve(call)

    def _kind(self, call: Denoise, row: int) -> Hashable:
        return (super()._kind(call, row), reads_more(call, row) or call.networks, shown_of(call))

    def _way(self, model: StableDiffusion, call: Denoise, row: int, nets: Sequence[Control]) -> Hashable:
        perturbed = row >= len(call.contexts) - call.perturbed
        plain = (
            _can_be_written(model, nets)
            and self._affordable(model.unet)
            and call.words is None
            and (call.regions is None or not call.regions.rows[row])
            and not (perturbed and (model.precision.graph == "int8" or call.settled_steps < MERGED_FROM_STEPS))
            and all(isinstance(net, (LoadedControlNet, LoadedT2IAdapter)) for net in nets)
            and merging_of(model.unet, call, nets) == 0
        )
        cut = inner_branch(model.unet, branch_of(model.unet, call))
        way = _Way(call.networks, cut, shown_of(call), steered_inside(call, row, nets), perturbed)
        if not plain or (way.merged and not (_lasting(call) and self._has_room(model, way.merged))):
            return None
        return way if self._unet_graph(model, way) is not None else None

    def _has_room(self, model: StableDiffusion, merged: Hashable) -> bool:
        """Whether networks and image adapter have a graph, or may: sets that take turns do not drive each other out."""
        sets = self._merged.setdefault(model.unet, OrderedDict())
        if merged not in sets and len(sets) >= MERGED_GRAPHS:
            oldest, last_used = next(iter(sets.items()))
            if self._batches - last_used < LEFT_ALONE_BATCHES:
                return False
            del sets[oldest]
            self.graphs.give_up_all(model.unet, oldest)
        refused = self._refused.setdefault(model.unet, {})
        # What was refused stays so for as long as it is asked for: no picture changes its way between two steps.
        lately = self._batches - refused.pop(merged, -LEFT_ALONE_BATCHES) < LEFT_ALONE_BATCHES
        if merged not in sets and (lately or not self._allows(graph_bytes(model.unet))):
            refused[merged] = self._batches
            return False
        sets[merged] = self._batches
        sets.move_to_end(merged)
        return True

    def _unet_graph(self, model: StableDiffusion, way: _Way) -> ShapedGraphs | None:
        unet, dtype = model.unet, model.precision.denoiser
        kept = kept_branches(unet, way.inner)

        def write() -> Written:
            if type(model) in TRANSFORMERS:
                alone = way == _Way(way.networks)
                return transformer_graph(unet, dtype, self._changes(model, way), kept=kept, alone=alone)
            changes, images = self._changes(model, way), self._images(model, way)
            return unet_graph(unet, dtype, changes, kept=kept, rounding=self._rounding(model, way), images=images)

        return self.graphs.get(unet, way.key, write)

    def _outer_graph(self, model: StableDiffusion, way: _Way, branch: int) -> ShapedGraphs | None:
        unet, dtype = model.unet, model.precision.denoiser

        def write() -> Written:
            if type(model) in TRANSFORMERS:
                return outer_transformer_graph(unet, dtype, branch, self._changes(model, way))
            changes, images = self._changes(model, way), self._images(model, way)
            return outer_graph(unet, dtype, branch, changes, rounding=self._rounding(model, way), images=images)

        return self.graphs.get(unet, ("outer", way.merged, branch), write)

    def _images(self, model: StableDiffusion, way: _Way) -> ImageLayers | None:
        """The layers of an image adapter that are part of a graph."""
        if way.shown is None:
            return None
        return layers_for(model.unet, self.loader.image_adapter(way.shown.adapter, way.shown.precision).weights)

    def _rounding(self, model: StableDiffusion, way: _Way) -> Rounding | None:
        """The layers that are computed in eight bits, measured once for each model; none beside image prompts."""
        if model.precision.graph != "int8" or way.shown is not None:
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
            if outer is not None and type(model) in TRANSFORMERS:
                return GraphTransformer(model.unet, outer, feature=features.given)
            return None if outer is None else _GraphOuter(model.unet, outer, way, features.reused, features.given)
        graph, kept = self._unet_graph(model, way), kept_branches(model.unet, way.inner)
        if graph is not None and type(model) in TRANSFORMERS:
            return GraphTransformer(model.unet, graph, kept, features.wanted, features.found)
        return None if graph is None else _GraphUnet(model.unet, graph, way, kept, features)

    def _image_prompts(
        self,
        model: StableDiffusion,
        adapter: ModelRef | None,
        calls: Sequence[Denoise],
        rows: Sequence[tuple[int, int]],
        network: Network | None,
    ) -> AbstractContextManager[None]:
        if isinstance(network, (_GraphUnet, _GraphOuter)) and network.way.shown is not None:
            shown = network.way.shown
            weights = self.loader.image_adapter(shown.adapter, shown.precision).weights
            network.images.update(image_feeds(weights.image_proj, calls, rows, shown.pictures))
        return super()._image_prompts(model, adapter, calls, rows, network)

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
        """Whether there is room for a module's weights once more; what is written stays."""
        return self.graphs.bytes_of(module) > 0 or self.room.holds_twice(module)

    def _allows(self, more_bytes: int) -> bool:
        """Whether there is room for so much more."""
        return self.room.allows(more_bytes)

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

    reads_float32: ClassVar[bool] = True
    unet: Any
    graph: ShapedGraphs
    way: _Way
    kept: tuple[int, ...]
    features: Features
    images: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        feeds = {SAMPLE: scaled, CONTEXT: context, **times(self.unet, timesteps, options.get(_ADDED))}
        given = (self.unet, options, self.graph.names, len(scaled) * self.way.perturbed)
        feeds |= {**residual_feeds(options), **inside_feeds(*given), **self.images}
        wanted = [place + 1 for place, branch in enumerate(self.kept) if branch in self.features.wanted]
        answer, *found = self.graph(feeds, (0, *wanted))
        self.features.found |= {self.kept[place - 1]: one for place, one in zip(wanted, found, strict=True)}
        return answer


@dataclass(frozen=True)
class _GraphOuter:
    """The graph of a UNet's outer blocks, with what its deep blocks said at an earlier step."""

    reads_float32: ClassVar[bool] = True
    unet: Any
    graph: ShapedGraphs
    way: _Way
    branch: int
    feature: Tensor
    images: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __call__(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]."""
        feeds = {SAMPLE: scaled, CONTEXT: context, **times(self.unet, timesteps, options.get(_ADDED))}
        residuals = residual_feeds(options, self.branch + 1)
        given = (self.unet, options, self.graph.names, len(scaled) * self.way.perturbed)
        feeds |= {**residuals, **inside_feeds(*given), **self.images}
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
        feeds = times(self.net, given.timesteps, given.added)
        return tuple(self.graph({SAMPLE: own, CONTEXT: given.context, HINT: hint, **feeds}))


def _lasting(call: Denoise) -> bool:
    """Whether a Call's networks are such as can be merged, and long enough."""
    return call.settled_steps >= MERGED_FROM_STEPS and all(use.kind == "lora" for use in call.networks)


def _can_be_written(model: StableDiffusion, nets: Sequence[Control]) -> bool:
    """Whether a model, with what steers it, is of the kind that graphs are written for."""
    kinds = (StableDiffusion, StableDiffusionXL, *(() if nets else TRANSFORMERS))
    return type(model) in kinds and _on_cpu(model.precision.storage, model.unet)


def _on_cpu(storage: str | None, module: nn.Module) -> bool:
    """Whether its weights lie in main memory as they are computed with."""
    return storage is None and next(module.parameters()).device.type == "cpu"
