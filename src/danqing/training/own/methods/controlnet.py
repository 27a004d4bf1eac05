"""ControlNet (Zhang et al. 2023, arXiv 2302.05543): a copy of the UNet's way down that reads a map beside the noise.

It starts as the paper has it: the UNet's own weights, joined to it by convolutions of zeros, so that at first nothing
changes; or further, from a ControlNet that is there. The maps are made by an annotator from each picture as it is
shown, cropped and mirrored, or they are the set's own.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import ControlNetModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.annotators import annotate
from danqing.models.controlnet import load_controlnet
from danqing.models.precision import Precision
from danqing.planning.controls import check_fits
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.registry.annotators import ANNOTATORS, find_annotator
from danqing.spec.training_methods import ControlNetRequest
from danqing.training.own.context import Context
from danqing.training.own.data import Batch, Show
from danqing.training.own.methods.base import CardFacts, Sample, Settings
from danqing.training.own.methods.diffusion import SAMPLE_SEED, DiffusionMethod, family_settings
from danqing.training.own.networks.network import EXACT_BYTES
from danqing.training.own.noise import Noised
from danqing.training.own.opened import Opened
from danqing.training.own.pictures import Example
from danqing.training.own.sampling import Painting, grid, paint
from danqing.training.own.seeds import seed_of

DEFAULTS = {
    "danqing": Settings(steps=1500, batch=8, learning_rate=2e-4),
    "*": Settings(steps=5000, batch=2, learning_rate=1e-5),
}
"""By family of the model; Zhang et al.: 1e-5."""
HINT_CHANNELS = (16, 32, 96, 256)
"""Of the layers that bring the map to the latents' size, one halving between two."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
_SAMPLES = 4


class ControlNet(DiffusionMethod):
    """A ControlNet beside the frozen model."""

    request: ControlNetRequest
    net: ControlNetModel
    annotator: str | None
    _maps: dict[tuple[int, bool], NDArray[np.uint8]]

    @classmethod
    def open(cls, request: ControlNetRequest, context: Context) -> Self:
        """Model, set, maps, and the network as it starts.

        Raises:
            DanqingError: The annotator needs weights, the set lacks maps, or `start_from` does not fit.
        """
        method = cls()
        folder = method.begin(request, context)
        method.annotator = None if request.annotator is None else _annotator(request.annotator)
        if method.annotator is None:
            _check_maps(request, method.made.pictures)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.net = start(method.opened, request, context)
        method._maps = {}
        method.show(folder)
        if request.gradient_checkpointing:
            method.net.enable_gradient_checkpointing()
        if request.cache and not context.estimating:
            for example in method.data.examples:
                for mirrored in (False, True) if request.mirror else (False,):
                    method.control_map(example, mirrored=mirrored)
        return method

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """The ControlNet."""
        return [(list(self.net.parameters()), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """The ControlNet alone: the model is frozen."""
        return {"controlnet": self.net}

    def answer(self, noisy: Noised, drawn: Batch) -> Tensor:
        """What the denoiser says with the ControlNet's residuals."""
        added: dict[str, Tensor] | None = None
        if drawn.added is not None:
            numbers = drawn.added.numbers[:, :6]
            added = {"text_embeds": drawn.added.pooled, "time_ids": numbers}
        more = self.residuals(noisy.x, drawn.times, drawn.context, self.hints(drawn.shows), added)
        return self.opened.predict(noisy.x, drawn.times, drawn.context, drawn.added, **more)

    def residuals(
        self, x: Tensor, times: Tensor, context: Tensor, hints: Tensor, added: dict[str, Tensor] | None
    ) -> dict[str, Any]:
        """What the UNet is given besides, by diffusers' names.

        Args:
            x: What the UNet is shown [b, c, h, w].
            times: Time steps [b].
            context: Text states [b, tokens, width].
            hints: Maps from 0 to 1 [b, 3, H, W].
            added: Pooled texts and sizes; for SDXL.
        """
        opened = self.opened
        with torch.autocast(opened.device.type, dtype=opened.dtype, enabled=opened.dtype != torch.float32):
            down, mid = self.net(x.float(), times, context.float(), hints, added_cond_kwargs=added, return_dict=False)
        dtype = opened.unet_dtype
        return {
            "down_block_additional_residuals": [one.to(dtype) for one in down],
            "mid_block_additional_residual": mid.to(dtype),
        }

    def hints(self, shows: Sequence[Show]) -> Tensor:
        """The maps of a batch, float32 from 0 to 1 [b, 3, H, W], on the model's device."""
        maps = [self.control_map(show.example, mirrored=show.mirrored) for show in shows]
        found = torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).float() / 255.0
        return found.contiguous().to(self.opened.device)

    def control_map(self, example: Example, *, mirrored: bool) -> NDArray[np.uint8]:
        """The map of a picture as it is shown, uint8 [H, W, 3].

        Raises:
            UnsupportedError: The annotator cannot work on it.
            BadFileError: It cannot be read.
        """
        key = (example.index, mirrored)
        if key in self._maps:
            return self._maps[key]
        reader = self.data.reader
        if self.annotator is None:
            own = reader.conditioning(example, mirrored=mirrored)
            if own is None:
                raise ValueError("looked for when it was opened")
            found = _pixels(own)
        else:
            found = self._annotated(example, _pixels(reader.picture(example, mirrored=mirrored)))
        if self.request.cache:
            self._maps[key] = found
        return found

    def _annotated(self, example: Example, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        name = self.annotator or ""
        try:
            return annotate(name, picture, seed=seed_of(self.request.seed, "annotator", example.index) % 2**32)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{name} cannot draw a map of {example.picture.file}: {error.message}",
                field="annotator",
                value=name,
                allowed="an annotator that works on every picture of the set",
                next_step="set this picture's repeats to 0, or choose another annotator",
            ) from error

    def sample(self, step: int) -> Sequence[Sample]:
        """Maps, what is painted under them, and the same noise without them."""
        del step
        chosen = (self.data.held_out or self.data.examples)[:_SAMPLES]
        bucket = chosen[0].bucket
        chosen = [one for one in chosen if one.bucket == bucket]
        prompts = [one.caption for one in chosen]
        if self.request.sample_prompts:
            asked = self.request.sample_prompts
            prompts = [asked[i % len(asked)] for i in range(len(chosen))]
        shows = [Show(one, mirrored=False, caption=prompt) for one, prompt in zip(chosen, prompts, strict=True)]
        hints = self.hints(shows)
        look = type(self.look())(**{**vars(self.look()), "width_px": bucket[0], "height_px": bucket[1]})
        wanted = [Painting(prompt, SAMPLE_SEED + i) for i, prompt in enumerate(prompts)]
        with self.steering(hints):
            steered = paint(self.opened, wanted, look)
        bare = paint(self.opened, wanted, look)
        maps = [Image.fromarray(self.control_map(one, mirrored=False)) for one in chosen]
        labels = [f"{prompt} {said}" for said in ("- map", "- with", "- without") for prompt in prompts]
        return [Sample(grid([*maps, *steered, *bare], labels, len(chosen)))]

    @contextmanager
    def steering(self, hints: Tensor) -> Iterator[None]:
        """Inside, whatever paints with the model is steered by these maps [n, 3, H, W], one for each picture."""

        def add(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            x, times = args[:2]
            # Guidance shows every picture twice or more.
            repeated = hints.repeat(len(x) // len(hints), 1, 1, 1)
            context, added = kwargs["encoder_hidden_states"], kwargs.get("added_cond_kwargs")
            with torch.no_grad():
                more = self.residuals(x, times, context, repeated, added)
            return args, {**kwargs, **more}

        handle = self.opened.unet.register_forward_pre_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """A folder in diffusers' layout, float16 if it is large; `danqing.json` says what it follows."""
        del step
        target, temporary = folder / name, folder / f"{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.net.save_config(temporary)
        size = sum(one.numel() * 4 for one in self.net.parameters())
        dtype = torch.float32 if size <= EXACT_BYTES else torch.float16
        state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in self.net.state_dict().items()}
        save_file(state, temporary / WEIGHTS, {"format": "pt"})
        about = {
            "name": name,
            "kind": "controlnet",
            "base": self.opened.info.name,
            "annotators": [] if self.annotator is None else [self.annotator],
            "description": f"Follows {self._follows()}; learnt from {self.made.name}.",
        }
        (temporary / "danqing.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        return [target]

    def _follows(self) -> str:
        if self.annotator is None:
            return "the maps of its training set"
        return f"what {find_annotator(self.annotator).name} draws"

    def preparation_s(self) -> float:
        """Maps are drawn too, hardly noticed beside the encoding."""
        return super().preparation_s()

    def card(self) -> CardFacts:
        """What it follows, and how it is called."""
        facts = super().card()
        name = self.request.name
        by = f" by the annotator `{self.annotator}`" if self.annotator else ", drawn as the set's maps are"
        usage = (
            f"Choose `{name}` as the ControlNet and give it a map{by}. The folder goes into `models/ControlNet`; "
            "diffusers opens it with `ControlNetModel.from_pretrained(folder)`."
        )
        more = {
            "follows": self._follows(),
            "started from": self.request.start_from or "the UNet's own weights, joined by zeros",
        }
        return CardFacts("ControlNet", {**facts.facts, **more}, usage, facts.licence_note)


def start(opened: Opened, request: ControlNetRequest, context: Context) -> ControlNetModel:
    """The network as training begins, float32, with gradients.

    Raises:
        NotFoundError: There is no such ControlNet.
        UnsupportedError: It is of another kind, or does not fit the model.
    """
    if request.start_from is None:
        halvings = round(math.log2(opened.latent_scale))
        channels = (*HINT_CHANNELS, *[HINT_CHANNELS[-1]] * halvings)[: halvings + 1]
        # Its first values beside the copy are drawn; nobody else's numbers shall change by that.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(request.seed, "controlnet", 0))
            net: Any = ControlNetModel.from_unet(opened.unet, conditioning_embedding_out_channels=channels)
    else:
        info = context.catalog.find_controlnet(request.start_from)
        if info.kind != "controlnet":
            raise UnsupportedError(
                f"{info.name} cannot be trained further: it is a {info.kind.replace('_', ' ')}",
                field="start_from",
                value=info.name,
                allowed="an ordinary ControlNet",
                next_step="leave it out, to start from the model itself",
            )
        check_fits(info, opened.info)
        formats = Precision(torch.float32, torch.float32, torch.float32, channels_last=False)
        loaded = load_controlnet(info, formats, torch.device("cpu"), fast_cpu=False).net
        if not isinstance(loaded, ControlNetModel):
            raise TypeError(type(loaded))
        net = loaded
    on_cpu = opened.device.type == "cpu"
    net = net.float().to(opened.device).requires_grad_(True)
    net.set_attn_processor(AttnProcessor() if on_cpu else AttnProcessor2_0())
    return net.train()


def _annotator(name: str) -> str:
    """The key of an annotator that needs no weights.

    Raises:
        InvalidRequestError: There is none of this name.
        UnsupportedError: It needs weights.
    """
    info = find_annotator(name)
    if info.weights is not None:
        free = sorted(one.key for one in ANNOTATORS if one.weights is None)
        raise UnsupportedError(
            f"{info.name} needs weights of its own; trainers take annotators that need none",
            field="annotator",
            value=name,
            allowed=", ".join(free),
            next_step="make the maps with `danqing annotate` and import them with the pictures",
        )
    return info.key


def _check_maps(request: ControlNetRequest, pictures: Sequence[Any]) -> None:
    """Refuse a set without maps where no annotator draws them."""
    bare = [one.file for one in pictures if one.repeats and one.conditioning is None]
    if bare:
        raise InvalidRequestError(
            f"{len(bare)} pictures of the set have no control map, for example {bare[0]}",
            field="annotator",
            value=request.annotator,
            allowed="an annotator, or a set that brings a map for every picture",
            next_step="choose an annotator, or import the maps as conditioning/ beside the pictures",
        )


def _pixels(picture: Tensor) -> NDArray[np.uint8]:
    """Uint8 [H, W, 3] of a picture [3, H, W] in [−1, 1]."""
    return ((picture.permute(1, 2, 0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
