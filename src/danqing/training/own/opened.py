"""A model of the catalogue opened for training: its parts, frozen, on their device, through the ordinary loaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from danqing.adapters.networks import text_encoders
from danqing.models.families import sd, sdxl
from danqing.models.families.parts import Loading
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.precision import Precision, has_native_bf16
from danqing.models.text import TextEncoder
from danqing.prompt.chunks import chunk_prompt
from danqing.sampling.prediction import Prediction
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ModelInfo
from danqing.training.own.context import Context

TRAINABLE = ("danqing", "sd1", "sd2", "sdxl")
"""Families that can be trained here."""
TOKENS = 77
_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Opened:
    """A model that is trained, or trained upon.

    Attributes:
        info: What the catalogue knows of it.
        device: Where it computes.
        dtype: In which the denoiser computes; what is trained is kept in float32 all the same.
        model: As it paints: its `unet` is the module that is trained, so samples see every change.
        table: Its noise levels.
        clip_skip: Which layer of the text encoder is read, counted from the end.
        autocast: Whether the denoiser's weights are float32 and computed in `dtype`; otherwise they are in `dtype`.
    """

    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    model: StableDiffusion
    table: SigmaTable
    clip_skip: int = 1
    autocast: bool = False

    @property
    def unet(self) -> UNet2DConditionModel:
        """The denoiser."""
        return self.model.unet

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder."""
        return self.model.vae

    @property
    def texts(self) -> list[tuple[str, TextEncoder]]:
        """(part, encoder): `te` and, for SDXL, `te2`; each with `tokenizer` and `model`."""
        return text_encoders(self.model)

    @property
    def prediction(self) -> Prediction:
        """What the denoiser answers with."""
        return Prediction(self.info.prediction)

    @property
    def is_sdxl(self) -> bool:
        """Whether it reads a pooled text and sizes besides."""
        return self.info.family == "sdxl"

    @property
    def latent_scale(self) -> int:
        """Picture pixels per latent pixel."""
        return self.info.latent_scale

    @property
    def native_px(self) -> int:
        """Side of the pictures that it paints best."""
        return self.info.defaults.size_px

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, what is in float32 is computed in `dtype` where `autocast` says so."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.autocast and self.dtype != torch.float32):
            yield

    def token_ids(self, captions: Sequence[str]) -> list[Tensor]:
        """Token ids [b, 77] for each text encoder; what is longer is cut off, brackets are plain characters."""
        found: list[Tensor] = []
        for _, encoder in self.texts:
            rows = [chunk_prompt([(caption, 1.0)], encoder.tokenizer)[0].ids for caption in captions]
            found.append(torch.tensor(rows, device=self.device))
        return found

    def read_text(self, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """States float32 [b, 77, width] and pooled [b, width] or None, of ids for each text encoder; differentiable."""
        read = [encoder.states(rows, self.clip_skip) for (_, encoder), rows in zip(self.texts, ids, strict=True)]
        return torch.cat([states for states, _ in read], dim=-1), read[-1][1]

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Latents float32 [b, c, h, w] on the CPU, of pictures [b, 3, H, W] in [−1, 1]."""
        return self.model.encode_image(pictures).clone().cpu()

    def predict(self, x: Tensor, times: Tensor, context: Tensor, added: Added | None = None, **more: Any) -> Tensor:
        """The denoiser's own answer (ε or v), float32 [b, c, h, w].

        Args:
            x: What it is shown, √ᾱ·x₀ + √(1−ᾱ)·n [b, c, h, w].
            times: Time steps, integers [b].
            context: Text states [b, tokens, width].
            added: For SDXL.
            more: Further arguments of diffusers' UNet: residuals of a ControlNet.
        """
        with self.computing():
            return self.raw(x.to(self.unet_dtype), times, context.to(self.unet_dtype), added, **more).float()

    def raw(self, x: Tensor, times: Tensor, context: Tensor, added: Added | None = None, **more: Any) -> Tensor:
        """`predict` with inputs and answer in the denoiser's own format."""
        if self.is_sdxl:
            if added is None:
                raise ValueError("SDXL needs pooled text and sizes")
            more["added_cond_kwargs"] = {
                "text_embeds": added.pooled.to(self.unet_dtype),
                "time_ids": added.numbers[:, :6].to(self.device, torch.float32),
            }
        return self.unet(x, times, encoder_hidden_states=context, return_dict=False, **more)[0]

    @property
    def unet_dtype(self) -> torch.dtype:
        """Format of the denoiser's weights."""
        return torch.float32 if self.autocast else self.dtype

    def parts(self) -> dict[str, nn.Module]:
        """Its modules by kohya's names of parts: `unet`, `te`, `te2`."""
        found: dict[str, nn.Module] = {"unet": self.unet}
        for part, encoder in self.texts:
            found[part] = encoder.model
        return found


def open_model(name: str, context: Context, precision: str = "auto", *, whole: bool = False) -> Opened:
    """A model opened.

    Args:
        name: As the catalogue knows it.
        context: Where to look and where to compute.
        precision: As in a Request.
        whole: The denoiser's own weights will be trained: they are kept in float32 and computed in `precision`.

    Raises:
        NotFoundError: There is no such model.
        UnsupportedError: It cannot be trained, and why.
        BadFileError: Its files are damaged.
    """
    info = context.catalog.find(name)
    check_trainable(info)
    dtype = _format(precision, context.device)
    weights = torch.float32 if whole else dtype
    text = torch.float32 if context.device.type == "cpu" else weights
    vae = torch.float32 if dtype is torch.float16 or context.device.type == "cpu" else dtype
    formats = Precision(denoiser=weights, text=text, vae=vae, channels_last=dtype is not torch.float32)
    load = sdxl.load if info.family == "sdxl" else sd.load
    try:
        model = load(Loading(info, formats, context.device, fast_cpu=False))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadFileError(
            f"the model {info.name} cannot be loaded: {error}", value=info.path, next_step="copy its files again"
        ) from error
    if any(not weight.is_floating_point() or hasattr(weight, "quant_type") for weight in model.unet.parameters()):
        raise _refusal(info, "its weights are quantised")
    _ready_for_gradients(model, context.device)
    return Opened(info, context.device, dtype, model, cast("SigmaTable", model.table), autocast=whole)


def check_trainable(info: ModelInfo) -> None:
    """Refuse what cannot be trained.

    Raises:
        UnsupportedError: Why.
    """
    reason: str | None = None
    if info.foreign is not None:
        reason = "a pipeline of its own paints it"
    elif info.path.lower().endswith(".gguf"):
        reason = "its weights are quantised"
    elif info.family not in TRAINABLE:
        reason = f"models of the family {info.family} are not trained here"
    elif info.variant != "base":
        reason = f"it is a variant ({info.variant}), whose denoiser reads more than noisy latents"
    elif info.prediction not in ("epsilon", "v_prediction"):
        reason = f"it predicts {info.prediction}"
    if reason is not None:
        raise _refusal(info, reason)


def _refusal(info: ModelInfo, reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"{info.name} cannot be trained: {reason}",
        field="model",
        value=info.name,
        allowed="the built-in model; Stable Diffusion 1, 2 and XL as diffusers folders or single files",
        next_step="choose the model that it was made from",
    )


def _format(precision: str, device: torch.device) -> torch.dtype:
    """In which the denoiser computes.

    Raises:
        UnsupportedError: float16 on a CPU.
    """
    if precision == "float16" and device.type == "cpu":
        raise UnsupportedError(
            "float16 needs a GPU", field="precision", value=precision, allowed="auto, float32, bfloat16"
        )
    if precision != "auto":
        return _FORMATS[precision]
    if has_native_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def _ready_for_gradients(model: StableDiffusion, device: torch.device) -> None:
    """The attention that is fastest with a backward pass: the CPU's fused one is slow there at short lengths."""
    fused = device.type != "cpu"
    model.unet.set_attn_processor(AttnProcessor2_0() if fused else AttnProcessor())
    if not fused:
        for _, encoder in text_encoders(model):
            encoder.model.set_attn_implementation("eager")
