"""The executor for NVIDIA GPUs: recorded graphs where nothing of an adapter acts inside the denoiser, else eager.

Which of the two runs a row of a Call follows from the Call alone, so that a picture does not depend on its company
beyond what another size of batch rounds differently.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from danqing.engine.calls import Decode, Denoise, ModelCall, ModelKey
from danqing.engine.cutting import Features, merging_of
from danqing.engine.room import widths_of
from danqing.engine.rows import reads_more
from danqing.engine.torch_executor import TorchExecutor
from danqing.engine.warmup import Warmup, WarmupOptions
from danqing.models.compiling import can_have_twin, why_not_compiled
from danqing.models.controlnet import LoadedControlNet, NetInput, Residuals
from danqing.models.cuda_graphs import CudaRecorder, Feeds, Work
from danqing.models.families.sd import Network, StableDiffusion
from danqing.models.families.sdxl import StableDiffusionXL
from danqing.models.loader import Control, Loader
from danqing.models.shallow import keeping, outer_blocks
from danqing.models.transfers import Transfers
from danqing.spec.model import ModelRef

_DOWN, _MID = "down_block_additional_residuals", "mid_block_additional_residual"
_ADDED = "added_cond_kwargs"
_RECORDED = "recorded"
SHARE = 0.8
"""Of the free memory that pictures decoded together may use: allocators lose some of it between blocks."""


@dataclass(frozen=True)
class _Whole:
    """A call of a whole UNet, which leaves the features of some branches."""

    wanted: tuple[int, ...]

    def work(self, network: Any) -> Work:
        """The answer, then the features."""

        def call(feeds: Feeds) -> tuple[Tensor, ...]:
            found: dict[int, Tensor] = {}
            options = {"encoder_hidden_states": feeds["context"], **_options(feeds)}
            with keeping(network, self.wanted, found):
                answer: Tensor = network(feeds["sample"], feeds["timesteps"], return_dict=False, **options)[0]
            return (answer, *(found[branch] for branch in self.wanted))

        return call


@dataclass(frozen=True)
class _Outer:
    """A call of a UNet's outer blocks alone."""

    branch: int

    def work(self, network: Any) -> Work:
        """The answer."""

        def call(feeds: Feeds) -> tuple[Tensor, ...]:
            given = (feeds["sample"], feeds["timesteps"], feeds["context"], _options(feeds))
            return (outer_blocks(network, *given, feature=feeds["feature"], branch=self.branch),)

        return call


@dataclass(frozen=True)
class _Beside:
    """A call of a ControlNet."""

    def work(self, network: Any) -> Work:
        """Its residuals, the middle last."""

        def call(feeds: Feeds) -> tuple[Tensor, ...]:
            given = (feeds["sample"], feeds["timesteps"], feeds["context"], feeds["hint"])
            down, mid = network(*given, return_dict=False, **_options(feeds))
            return (*down, mid)

        return call


class CudaExecutor(TorchExecutor):
    """Runs batches of Calls on a GPU.

    Args:
        loader: Where models come from; its device is a CUDA one.
        warmup: Calls denoisers and ControlNets; with CUDA graphs if None.
    """

    def __init__(self, loader: Loader, warmup: Warmup | None = None) -> None:
        super().__init__(loader)
        self.warmup = warmup or Warmup(CudaRecorder(loader.device, loader.memory.free), _options_for(loader.device))
        self.transfers = Transfers(loader.device)
        self._arranged: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._fixed: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()
        loader.beside_bytes = self._graph_bytes

    def relieve(self, call: ModelCall) -> bool:
        """Make room after a single Call did not fit: give up recordings, then what PyTorch's executor gives up."""
        if self.warmup.drop():
            torch.cuda.empty_cache()
            return True
        return super().relieve(call)

    def _graph_bytes(self, model: object) -> int:
        modules = (getattr(model, name, None) for name in ("unet", "net"))
        return sum(self.warmup.bytes_of(module) for module in modules if isinstance(module, nn.Module))

    def _model(self, key: ModelKey) -> StableDiffusion:
        model = super()._model(key)
        vae: Any = model.vae
        if vae not in self._arranged:
            if model.precision.vae is not torch.float32 and not _waits(vae):
                # Convolutions in 16 bits read channels last; otherwise each of them turns its input over.
                vae.to(memory_format=torch.channels_last)
            self._arranged.add(vae)
        return model

    def _kind(self, call: Denoise, row: int) -> Hashable:
        return (super()._kind(call, row), reads_more(call, row) or bool(call.networks))

    def _way(self, model: StableDiffusion, call: Denoise, row: int, nets: Sequence[Control]) -> Hashable:
        plain = (
            type(model) in (StableDiffusion, StableDiffusionXL)
            and call.images is None
            and call.words is None
            and not call.networks
            and (call.regions is None or not call.regions.rows[row])
            and row < len(call.contexts) - call.perturbed
            and all(isinstance(net, LoadedControlNet) for net in nets)
            and merging_of(model.unet, call, nets) == 0
        )
        return _RECORDED if plain and self._can_be_recorded(model.unet, model.precision.storage) else None

    def _can_be_recorded(self, network: nn.Module, storage: str | None) -> bool:
        """Whether nothing moves a network's weights, looked at once; and whether they lie on the device now."""
        if network not in self._fixed:
            self._fixed[network] = can_have_twin(network, storage, self.loader.device)
        return self._fixed[network] and next(network.parameters()).device.type == self.loader.device.type

    def _network(self, model: StableDiffusion, way: Hashable, features: Features) -> Network | None:
        return partial(self._answer, model.unet, features) if way == _RECORDED else None

    def _answer(
        self,
        unet: Any,
        features: Features,
        scaled: Tensor,
        timesteps: Tensor,
        context: Tensor,
        options: dict[str, Any],
    ) -> Tensor:
        """The answer [b, c, h, w] to a scaled input [b, c, h, w]; what was asked for is left in the features."""
        feeds = _feeds(scaled, timesteps, context, options)
        if features.reused is not None and features.given is not None:
            feeds["feature"] = features.given.to(scaled)
            return self.warmup(unet, _Outer(features.reused), feeds)[0]
        answer, *found = self.warmup(unet, _Whole(features.wanted), feeds)
        features.found |= dict(zip(features.wanted, found, strict=True))
        return answer

    def _controlnet(self, net: ModelRef, precision: str, model: StableDiffusion) -> Control:
        loaded = super()._controlnet(net, precision, model)
        # A union net and a Control-LoRA have inputs, or weights, of their own making.
        if not isinstance(loaded, LoadedControlNet) or loaded.info.kind != "controlnet":
            return loaded
        if not self._can_be_recorded(loaded.net, loaded.precision.storage):
            return loaded
        return _RecordedControlNet(loaded.info, loaded.precision, loaded.net, self.warmup)

    def _sent(self, rows: Sequence[Tensor]) -> Tensor:
        return self.transfers.send(rows)

    def _contexts(self, model: StableDiffusion, rows: Sequence[Tensor]) -> Tensor:
        return torch.stack([self.transfers.keep(one, model.precision.denoiser) for one in rows])

    def _fetched(self, answer: Tensor) -> Tensor:
        return self.transfers.fetch(answer)

    def _decode(self, model: StableDiffusion, calls: Sequence[Decode]) -> list[Tensor]:
        """As many pictures at once as free memory has room for; one that finds none alone is decoded in tiles."""
        each = max(1, widths_of(model).decode(1, *calls[0].latent.shape[-2:]))
        step = max(1, int(self.warmup.free_bytes * SHARE) // each)
        parts = [super(CudaExecutor, self)._decode(model, calls[at : at + step]) for at in range(0, len(calls), step)]
        return [picture for part in parts for picture in part]


@dataclass
class _RecordedControlNet(LoadedControlNet):
    """A ControlNet that is called by buckets."""

    warmup: Warmup

    @torch.inference_mode()
    def residuals(self, given: NetInput, hint: Tensor, union_id: int | None = None) -> Residuals:
        """The residuals of one batch, not weighted."""
        del union_id
        own = given.sample[:, : self.info.in_channels]
        hint = hint.to(own)
        if self.precision.channels_last:
            own, hint = (one.contiguous(memory_format=torch.channels_last) for one in (own, hint))
        reads = self.net.config["addition_embed_type"] == "text_time"
        feeds = _feeds(own, given.timesteps, given.context, {_ADDED: given.added} if reads else {})
        return self.warmup(self.net, _Beside(), {**feeds, "hint": hint})


def _options_for(device: torch.device) -> WarmupOptions:
    return WarmupOptions(compile_after=None) if why_not_compiled(device) else WarmupOptions()


def _waits(module: nn.Module) -> bool:
    """Whether its weights wait in main memory."""
    return any(hasattr(part, "_diffusers_hook") for part in module.modules())


def _feeds(scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> dict[str, Tensor]:
    """What a UNet is told, by name."""
    feeds = {"sample": scaled, "timesteps": timesteps, "context": context}
    feeds |= {f"down{place}": one for place, one in enumerate(options.get(_DOWN, ()))}
    if _MID in options:
        feeds["mid"] = options[_MID]
    return {**feeds, **(options.get(_ADDED) or {})}


def _options(feeds: Feeds) -> dict[str, Any]:
    """The same as diffusers wants it, besides what every call has."""
    options: dict[str, Any] = {}
    if "mid" in feeds:
        count = sum(name.startswith("down") for name in feeds)
        options[_DOWN] = tuple(feeds[f"down{place}"] for place in range(count))
        options[_MID] = feeds["mid"]
    if "text_embeds" in feeds:
        options[_ADDED] = {name: feeds[name] for name in ("text_embeds", "time_ids")}
    return options
