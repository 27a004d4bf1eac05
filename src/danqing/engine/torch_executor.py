"""The PyTorch executor: any device, eager or compiled."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danqing.adapters.ip_adapter import IpAdapter, image_rows
from danqing.adapters.lllite import acting as lllites_acting
from danqing.adapters.networks import LoadedNetworks
from danqing.adapters.prompt_to_prompt import coupled
from danqing.adapters.regions import attending
from danqing.adapters.token_merging import merged
from danqing.engine.calls import (
    Decode,
    Denoise,
    Describe,
    Description,
    EmbedImage,
    EncodeImage,
    EncodeText,
    Exclusive,
    ModelCall,
    ModelKey,
    Upscale,
    Work,
)
from danqing.engine.costs import Costs, Part
from danqing.engine.cutting import Features, features_of, in_torch, keep, merging_of, reused_branch
from danqing.engine.room import Room
from danqing.engine.rows import (
    added_of,
    control_of_rows,
    couples_of,
    image_adapters_of,
    images_of_row,
    kind_of,
    lllites_of,
    nets_of,
    networks_of,
    regions_of_row,
    weight_px,
)
from danqing.enhance.bench import Bench
from danqing.enhance.shelf import LoadedUpscalers
from danqing.models.families.foreign import ForeignModel
from danqing.models.families.sd import Network, StableDiffusion
from danqing.models.loader import Control as ControlNet
from danqing.models.loader import Loader
from danqing.models.preview import to_uint8
from danqing.models.text import TextState
from danqing.spec.errors import OutOfMemoryError
from danqing.spec.model import ModelRef
from danqing.spec.registry.foreign import is_foreign

# Latent pixels in one denoiser batch, for the sake of memory; twice as many halve the speed of a CPU (caches).
CPU_BATCH_LATENT_PX = 8_192
GPU_BATCH_LATENT_PX = 131_072
# As many are supposed to take as long as a batch takes anyway, as long as nothing is measured.
CPU_HALF_LATENT_PX = 4_096
GPU_HALF_LATENT_PX = 32_768
TEXT_CACHE_ENTRIES = 256
IMAGE_CACHE_ENTRIES = 256
_OOM_PHRASES = ("can't allocate memory", "out of memory", "not enough memory")


class _Batch(NamedTuple):
    """What rows must have in common to be computed together.

    Attributes:
        tokens: Length of their contexts.
        perturbed: Whether the middle's self-attention is the identity (PAG).
        adapter: The image adapter.
        way: What computes them.
        reused: The branch whose deep feature is used again; None where all blocks are computed.
        merging: Share of like tokens that are taken together.
    """

    tokens: int
    perturbed: bool
    adapter: ModelRef | None
    way: Hashable
    reused: int | None
    merging: float


class TorchExecutor:
    """Runs batches of Calls with PyTorch.

    Args:
        loader: Where models come from.
        compiled: Compile the denoiser with torch.compile at its first use.
    """

    def __init__(self, loader: Loader, *, compiled: bool = False) -> None:
        self.loader = loader
        self.compiled = compiled
        self.costs = Costs()
        self.room = Room(loader)
        self._texts: OrderedDict[tuple[Any, ...], TextState] = OrderedDict()
        self._embeddings: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._compiled: dict[int, Any] = {}
        self.upscalers = LoadedUpscalers(loader.catalog, loader.device)
        self.bench = Bench(loader.catalog, loader.device)
        self.networks = LoadedNetworks(loader.catalog.networks)

    def group_key(self, call: ModelCall) -> Hashable:
        """Calls with equal keys may run in one batch."""
        if isinstance(call, Denoise):
            extra = None if call.extra is None else tuple(call.extra.shape[1:])
            return ("denoise", call.model, tuple(call.x.shape[1:]), extra, call.control_set)
        if isinstance(call, EncodeText):
            return ("text", call.model, call.emphasis, call.clip_skip)
        if isinstance(call, EmbedImage):
            return ("embed", call.encoder)
        if isinstance(call, EncodeImage):
            return ("encode", call.model, tuple(call.image.shape[1:]))
        if isinstance(call, Decode):
            return ("decode", call.model, tuple(call.latent.shape[1:]))
        if isinstance(call, Describe):
            return ("describe", call.model)
        if isinstance(call, Upscale):
            return ("upscale", call.upscaler, tuple(call.tile.shape[1:]))
        return ("exclusive", call.key, id(call))

    def rows(self, call: ModelCall) -> int:
        """How many rows of a batch this Call takes."""
        return len(call.contexts) if isinstance(call, Denoise) else 1

    def max_rows(self, call: ModelCall) -> int:
        """How many rows a batch of such Calls may have at most, for the sake of memory."""
        weight = weight_px(call)
        if weight is None:
            return 1 if isinstance(call, (Exclusive, Work)) else 64
        on_cpu = self.loader.device.type == "cpu"
        rows = max(1, int((CPU_BATCH_LATENT_PX if on_cpu else GPU_BATCH_LATENT_PX) // weight))
        return self.room.most_rows(call, rows)

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        """What the time of a Call depends on; empty where batches are as large as they can be, whatever they cost."""
        weight = weight_px(call)
        if weight is None:
            return ()
        group = self.group_key(call)
        half_rows = (CPU_HALF_LATENT_PX if self.loader.device.type == "cpu" else GPU_HALF_LATENT_PX) / weight
        if not isinstance(call, Denoise):
            return (Part(group, 1, half_rows),)
        kinds = Counter(self._kind(call, row) for row in range(len(call.contexts)))
        return tuple(Part((group, kind), rows, half_rows) for kind, rows in kinds.items())

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        """Answer Calls of one group as one batch, in order.

        Raises:
            OutOfMemoryError: The batch did not fit; nothing was answered.
        """
        try:
            return self._run(calls)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory(calls[0]) from error
        except RuntimeError as error:
            if any(phrase in str(error).lower() for phrase in _OOM_PHRASES):
                raise self._out_of_memory(calls[0]) from error
            raise

    def relieve(self, call: ModelCall) -> bool:
        """Make room after a single Call did not fit: offload, then tile. False when nothing more can be done."""
        if isinstance(call, EmbedImage):
            return self.loader.drop_others(self.loader.image_encoder(call.encoder))
        if isinstance(call, Work):
            return self.loader.drop_others()
        if isinstance(call, Upscale):
            side_px = max(call.tile.shape[-2:])
            return self.loader.drop_others() or self.upscalers.get(call.upscaler).tile_smaller(side_px)
        try:
            if is_foreign(call.model.model.family):
                pipeline = self.loader.foreign(call.model.model, call.model.precision)
                return self.loader.drop_others(pipeline) or pipeline.tile()
            model = self._model(call.model)
        except (OutOfMemoryError, torch.OutOfMemoryError, MemoryError):
            return self.loader.drop_others()
        nets = [self.loader.controlnet(net, call.model.precision, model) for net in nets_of(call)]
        images = [self.loader.image_adapter(one, call.model.precision) for one in image_adapters_of([call])]
        if self.loader.drop_others(model, *nets, *images) or (not networks_of(call) and self.networks.drop()):
            return True
        return isinstance(call, (Decode, EncodeImage)) and model.tile()

    def forget_texts(self) -> None:
        """Read every text anew from here on."""
        self._texts.clear()

    def preview(self, model: ModelKey, denoised: Tensor, *, decode: bool) -> npt.NDArray[np.uint8] | None:
        """A small RGB picture uint8 [h, w, 3] of a latent [1, c, h, w], by the linear map or by the VAE."""
        loaded = self._model(model)
        if decode:
            tile = self.room.tile(loaded, "decode", denoised)
            return to_uint8(loaded.decode(denoised, tile=tile)[0].permute(1, 2, 0))
        return loaded.preview.paint(denoised)

    def _model(self, key: ModelKey) -> StableDiffusion:
        model = self.loader.get(key.model, key.vae, key.precision)
        if self.compiled and id(model) not in self._compiled:
            model.unet.compile(dynamic=False)
            self._compiled[id(model)] = model
        return model

    def _run(self, calls: Sequence[ModelCall]) -> list[Any]:
        first = calls[0]
        if isinstance(first, Upscale):
            tiles = torch.cat([cast("Upscale", call).tile for call in calls])
            upscaler = self.room.fitted(self.upscalers.get(first.upscaler), max(tiles.shape[-2:]))
            return list(torch.split(upscaler(tiles), 1))
        if isinstance(first, EmbedImage):
            return self._embed([cast("EmbedImage", call) for call in calls])
        if isinstance(first, (Exclusive, Work)):
            return [first.run(self.bench) if isinstance(first, Work) else self._run_exclusive(first)]
        if isinstance(first, Describe):
            model = self.room.prepared([cast("Describe", call) for call in calls], lambda: self._model(first.model))
            return [Description(model.info, model.table)] * len(calls)
        model = self._model(first.model)
        if isinstance(first, Denoise):
            return self._denoise(model, [cast("Denoise", call) for call in calls])
        if isinstance(first, EncodeText):
            return [self._encode_text(model, cast("EncodeText", call)) for call in calls]
        if isinstance(first, EncodeImage):
            images = torch.cat([cast("EncodeImage", call).image for call in calls])
            tile = self.room.tile(model, "encode", images)
            return list(torch.split(model.encode_image(images, self._encoder(model), tile), 1))
        return self._decode(model, [cast("Decode", call) for call in calls])

    def _run_exclusive(self, call: Exclusive) -> Any:
        model = self._exclusive(call.model)
        if not call.networks or isinstance(model, ForeignModel):
            return call.run(model)
        with self.networks.in_denoiser(model.unet, [call.networks] * call.batch_rows):
            return call.run(model)

    def _exclusive(self, key: ModelKey) -> StableDiffusion | ForeignModel:
        """The model that work of its own is given: a whole pipeline, where its family is painted by one."""
        if is_foreign(key.model.family):
            return self.loader.foreign(key.model, key.precision)
        return self._model(key)

    def _denoise(self, model: StableDiffusion, calls: Sequence[Denoise]) -> list[Tensor]:
        """One batch for each context length; rows go back to the Calls they came from."""
        adapters = image_adapters_of(calls)
        nets = [self._controlnet(net, calls[0].model.precision, model) for net in nets_of(calls[0])]
        buckets: defaultdict[_Batch, list[tuple[int, int]]] = defaultdict(list)
        for index, call in enumerate(calls):
            # One image adapter leaves rows without image prompts alone, so that they stay together; two do not mix.
            mixed = len(adapters) > 1 and call.images is not None
            adapter = call.images.adapter if mixed and call.images is not None else next(iter(adapters), None)
            for row, context in enumerate(call.contexts):
                perturbed = row >= len(call.contexts) - call.perturbed
                way = self._way(model, call, row, nets)
                reused, merging = reused_branch(model.unet, call), merging_of(model.unet, call, nets)
                buckets[_Batch(context.shape[0], perturbed, adapter, way, reused, merging)].append((index, row))
        answers = [torch.empty((len(call.contexts), *call.x.shape[1:])) for call in calls]
        for batch, rows in buckets.items():
            output = self._denoise_rows(model, batch, calls, rows, nets)
            for (index, row), denoised in zip(rows, output, strict=True):
                answers[index][row] = denoised
        return answers

    def _denoise_rows(
        self,
        model: StableDiffusion,
        batch: _Batch,
        calls: Sequence[Denoise],
        rows: Sequence[tuple[int, int]],
        nets: Sequence[ControlNet],
    ) -> Tensor:
        """Rows (Call, row of the Call) of one batch [b, c, h, w]."""
        with_extra = calls[0].extra is not None
        features = features_of(model.unet, calls, rows, batch.reused)
        network = self._network(model, batch.way, features)
        with ExitStack() as stack:
            stack.enter_context(coupled(model.unet, couples_of(calls, rows), len(rows)))
            places = [regions_of_row(calls[index].regions, row) for index, row in rows]
            stack.enter_context(attending(model.unet, places))
            stack.enter_context(self._image_prompts(model, batch.adapter, calls, rows, network))
            acting = [calls[index].networks for index, _ in rows]
            stack.enter_context(self.networks.in_denoiser(model.unet, acting))
            stack.enter_context(lllites_acting(model.unet, lllites_of(nets, calls, rows)))
            stack.enter_context(merged(model.unet, batch.merging))
            if network is None:
                network = stack.enter_context(in_torch(model.unet, features))
            output = model.denoise(
                self._sent([calls[index].latent_of(row) for index, row in rows]),
                torch.tensor([calls[index].sigma for index, _ in rows]),
                self._contexts(model, [calls[index].contexts[row] for index, row in rows]),
                torch.cat([cast("Tensor", calls[index].extra) for index, _ in rows]) if with_extra else None,
                perturbed=batch.perturbed,
                control=control_of_rows(nets, calls, rows),
                added=added_of(calls, rows),
                network=network,
            )
        keep(model.unet, features, calls, rows)
        return self._fetched(output)

    def _sent(self, rows: Sequence[Tensor]) -> Tensor:
        """Latents [1, c, h, w] as one batch, where its arithmetic is done."""
        return torch.cat(list(rows))

    def _contexts(self, model: StableDiffusion, rows: Sequence[Tensor]) -> Tensor:
        """Contexts [tokens, width] as one batch."""
        del model
        return torch.stack(list(rows))

    def _fetched(self, answer: Tensor) -> Tensor:
        """A batch's answer in main memory; read before the next one is asked for."""
        return answer

    def _kind(self, call: Denoise, row: int) -> Hashable:
        """What a row's time depends on besides its group; rows of one kind share a batch."""
        return kind_of(call, row)

    def _way(self, model: StableDiffusion, call: Denoise, row: int, nets: Sequence[ControlNet]) -> Hashable:
        """What runs a row, for executors that have more than one way: rows of one way share a batch."""
        del model, call, row, nets

    def _network(self, model: StableDiffusion, way: Hashable, features: Features) -> Network | None:
        """What stands for the denoiser's own module, as far as deep features ask for its blocks."""
        del model, way, features

    def _controlnet(self, net: ModelRef, precision: str, model: StableDiffusion) -> ControlNet:
        return self.loader.controlnet(net, precision, model)

    def _decoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        """What stands for the autoencoder's own decoder."""
        del model

    def _encoder(self, model: StableDiffusion) -> Callable[[Tensor], Tensor] | None:
        """What stands for its encoder."""
        del model

    def _image_prompts(
        self,
        model: StableDiffusion,
        adapter: ModelRef | None,
        calls: Sequence[Denoise],
        rows: Sequence[tuple[int, int]],
        network: Network | None,
    ) -> AbstractContextManager[None]:
        """The image prompts of a batch of (Call, row of the Call) in the UNet, for as long as the context is open."""
        if adapter is None or network is not None:
            return nullcontext()
        weights = self.loader.image_adapter(adapter, calls[0].model.precision).weights
        images = [images_of_row(calls[index].images, row) for index, row in rows]
        return IpAdapter(weights).acting(model.unet, image_rows(weights.image_proj, images))

    def _embed(self, calls: Sequence[EmbedImage]) -> list[Tensor]:
        """Embeddings [width] in order; a picture that was seen lately is not looked at again."""
        new = {call.sha256: call for call in calls if (call.encoder.sha256, call.sha256) not in self._embeddings}
        answers = {call.sha256: self._embeddings.get((call.encoder.sha256, call.sha256)) for call in calls}
        if new:
            encoder = self.loader.image_encoder(calls[0].encoder)
            found = encoder.embed([call.picture for call in new.values()])
            answers |= dict(zip(new, found, strict=True))
        for sha256, embedding in answers.items():
            self._embeddings[calls[0].encoder.sha256, sha256] = cast("Tensor", embedding)
        while len(self._embeddings) > IMAGE_CACHE_ENTRIES:
            self._embeddings.popitem(last=False)
        return [cast("Tensor", answers[call.sha256]) for call in calls]

    def _encode_text(self, model: StableDiffusion, call: EncodeText) -> tuple[TextState, ...]:
        def cached(text: str) -> TextState:
            loaded = (call.networks, call.embeddings)
            key = (call.model.model.sha256, call.model.precision, text, call.emphasis, call.clip_skip, loaded)
            if key not in self._texts:
                with self.networks.in_text(model, *loaded):
                    self._texts[key] = model.read_text([text], call.emphasis, call.clip_skip)[0]
            self._texts.move_to_end(key)
            while len(self._texts) > TEXT_CACHE_ENTRIES:
                self._texts.popitem(last=False)
            return self._texts[key]

        return tuple(cached(text) for text in call.texts)

    def _decode(self, model: StableDiffusion, calls: Sequence[Decode]) -> list[Tensor]:
        latents = torch.cat([call.latent for call in calls])
        pictures = model.decode(latents, self._decoder(model), self.room.tile(model, "decode", latents))
        if not model.preview.ready:
            model.preview.fit(latents, pictures)
        return list(torch.split(pictures, 1))

    def _out_of_memory(self, call: ModelCall) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"not enough memory on {self.loader.device} for this picture",
            field="size",
            value=type(call).__name__,
            next_step="paint a smaller picture or fewer at once, or close other programs",
        )
