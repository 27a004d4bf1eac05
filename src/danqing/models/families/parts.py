"""The parts of a Stable Diffusion from wherever they lie: a diffusers folder, or one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from danqing.models.derived import load_unet
from danqing.models.folder_parts import load_part
from danqing.models.precision import Precision
from danqing.models.prepare import packs, prepare_denoiser
from danqing.models.preview import LatentRgb
from danqing.models.singlefile import build
from danqing.models.singlefile.describe import Checkpoint, describe, vae_of_file
from danqing.models.singlefile.facts import CLIP_TOKENIZER
from danqing.models.singlefile.weights import Weights
from danqing.models.text import TextEncoder, TextOptions
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import MissingWeightsError
from danqing.spec.model import ModelInfo

ALIGNMENT_BYTES = 64
"""Where torch's own allocator puts tensors on a CPU."""


@dataclass(frozen=True)
class Loading:
    """A model to be loaded: what every family's `load` is given.

    Attributes:
        info: From the catalogue; `path` is a diffusers folder or a file.
        precision: Number formats.
        device: Where it shall compute.
        vae_path: An autoencoder to use instead of the model's own: a diffusers folder or a file.
        fast_cpu: As for `prepare_denoiser`.
    """

    info: ModelInfo
    precision: Precision
    device: torch.device
    vae_path: Path | None = None
    fast_cpu: bool = True

    def around(self, denoiser: nn.Module) -> dict[str, Any]:
        """What the models of all families hold alike, with the denoiser made ready."""
        return {
            "info": self.info,
            "precision": self.precision,
            "device": self.device,
            "unet": prepare_denoiser(denoiser, self.precision, self.device, fast_cpu=self.fast_cpu),
            "preview": LatentRgb.of(self.info),
        }


@dataclass
class Parts:
    """What a checkpoint is made of.

    Attributes:
        texts: Its text encoders, on their device.
        unet: The denoiser, in its number format but not yet on its device.
        vae: The autoencoder, on its device.
        table: Its noise levels.
    """

    texts: tuple[TextEncoder, ...]
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    table: SigmaTable


@dataclass(frozen=True)
class Tower:
    """Where a text encoder lies in a diffusers folder.

    Attributes:
        folder: `text_encoder` or `text_encoder_2`.
        tokenizer: `tokenizer` or `tokenizer_2`.
        projection: Whether it gives a pooled text.
    """

    folder: str
    tokenizer: str
    projection: bool = False


def load_parts(task: Loading, *, towers: Sequence[Tower], hidden: bool = False) -> Parts:
    """Read a checkpoint.

    Args:
        task: Which, and how.
        towers: The text encoders of a diffusers folder.
        hidden: Whether the text encoders are read as SDXL reads them.

    Raises:
        BadFileError: A file is damaged.
        MissingWeightsError: There is no autoencoder anywhere.
    """
    info, precision, device = task.info, task.precision, task.device
    place = Path(info.weights_path)
    if place.is_file():
        return _from_file(describe(place), task, hidden=hidden)
    texts: list[TextEncoder] = []
    for tower in towers:
        kind = CLIPTextModelWithProjection if tower.projection else CLIPTextModel
        model = load_part(kind, place / tower.folder, precision.text)
        texts.append(TextEncoder(place / tower.tokenizer, ready(model, device), device, TextOptions(hidden=hidden)))
    return Parts(
        texts=tuple(texts),
        unet=owned(load_unet(info, precision.denoiser, precision)),
        vae=ready(_load_vae(task.vae_path or _beside(info) or place / "vae", info, precision.vae), device),
        table=SigmaTable.from_alphas_cumprod(DDPMScheduler.from_pretrained(place / "scheduler").alphas_cumprod),
    )


def _from_file(checkpoint: Checkpoint, task: Loading, *, hidden: bool) -> Parts:
    weights, precision, device = Weights(checkpoint.path), task.precision, task.device
    vae_path = task.vae_path or _beside(task.info)
    last = precision.channels_last and not packs(precision, device, fast_cpu=task.fast_cpu)
    texts = [
        TextEncoder(
            CLIP_TOKENIZER,
            ready(build.build_text(checkpoint, tower, weights, precision.text), device),
            device,
            TextOptions(pad_id=tower.pad_id, hidden=hidden),
        )
        for tower in checkpoint.texts
    ]
    if vae_path is not None:
        vae = load_vae(vae_path, checkpoint.config, precision.vae)
    elif checkpoint.vae is None:
        raise _no_vae(checkpoint.path)
    else:
        vae = build.build_vae(checkpoint.path, checkpoint.vae, checkpoint.vae_prefix, weights, precision.vae)
    return Parts(
        texts=tuple(texts),
        unet=build.build_unet(checkpoint, weights, precision, channels_last=last),
        vae=ready(vae, device),
        table=SigmaTable.from_alphas_cumprod(build.build_alphas(checkpoint)),
    )


def load_vae(path: Path, config: str, dtype: torch.dtype) -> AutoencoderKL:
    """An autoencoder from a diffusers folder or a file.

    Args:
        path: Where it lies.
        config: Whose latents it makes, as the facts are named: sd1, sd2, sdxl.
        dtype: Number format.

    Raises:
        BadFileError: It is damaged.
    """
    if path.is_dir():
        return load_part(AutoencoderKL, path, dtype)
    found, prefix = vae_of_file(path, config)
    return build.build_vae(path, found, prefix, Weights(path), dtype)


def _load_vae(path: Path, info: ModelInfo, dtype: torch.dtype) -> AutoencoderKL:
    return load_vae(path, "sdxl" if info.family == "sdxl" else "sd1", dtype)


def _beside(info: ModelInfo) -> Path | None:
    return Path(info.vae_path) if info.vae_path else None


def ready(module: Any, device: torch.device) -> Any:
    """A module that is called and not trained, on its device."""
    ready: nn.Module = owned(module).to(device)
    return ready.eval().requires_grad_(False)


def owned(module: Any) -> Any:
    """A module whose weights lie in memory of its own, where vector instructions want them.

    The libraries leave weights in the mapped file, at odd addresses: products of one row then differ in their last bits
    from those of the same weights elsewhere, and the file must not be replaced while the model lives.
    """
    weights: nn.Module = module
    with torch.no_grad():
        for one in (*weights.parameters(), *weights.buffers()):
            if one.device.type == "cpu" and one.data_ptr() % ALIGNMENT_BYTES:
                one.data = one.data.clone()
    return module


def _no_vae(path: Path) -> MissingWeightsError:
    return MissingWeightsError(
        f"{path.name} has no autoencoder inside, and none lies beside it",
        field="vae",
        value=path.name,
        allowed=f"{path.stem}.vae.safetensors beside it, or a file in models/VAE",
        next_step="put an autoencoder of the same family into models/VAE and choose it",
    )
