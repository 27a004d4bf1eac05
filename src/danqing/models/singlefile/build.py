"""diffusers' and transformers' modules from a checkpoint in one file; diffusers' own converters translate the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from danqing.models.mapped import Pages
from danqing.models.precision import Precision
from danqing.models.singlefile.describe import Checkpoint, TextTower
from danqing.models.singlefile.facts import EMA_PREFIX, UNET_PREFIX
from danqing.models.singlefile.shapes import is_diffusers_vae
from danqing.models.singlefile.weights import Weights
from danqing.models.storage import stored_dtypes
from danqing.spec.errors import BadFileError

Module = TypeVar("Module", bound=nn.Module)
_MINDED = 3
"""How many of the missing names a message lists."""
_CONVOLUTION = 4
"""Dimensions of a convolution's weight."""
_IGNORED = ("logit_scale", "position_ids", "text_projection.weight", "text_projection")


def build_unet(
    checkpoint: Checkpoint, weights: Weights, precision: Precision, *, channels_last: bool = False
) -> UNet2DConditionModel:
    """The denoiser, in a number format.

    Args:
        checkpoint: What the file holds.
        weights: Its tensors.
        precision: Number formats.
        channels_last: Lay out convolutions so at once; a later change would copy them all again.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    names = weights.below(UNET_PREFIX)
    if checkpoint.ema:
        names = _averaged(names, weights)
    converted = convert_ldm_unet_checkpoint(names, checkpoint.unet)
    layout = torch.channels_last if channels_last else torch.preserve_format

    def make() -> Any:
        return UNet2DConditionModel.from_config(checkpoint.unet)

    stored = stored_dtypes(make, precision)
    return filled(make, converted, precision.denoiser, checkpoint.path, layout, stored)


def build_vae(
    path: Path, config: Mapping[str, Any], prefix: str, weights: Weights, dtype: torch.dtype
) -> AutoencoderKL:
    """The autoencoder of a checkpoint or of a file of its own.

    Args:
        path: The file, for messages.
        config: Of the class.
        prefix: What its names begin with.
        weights: The file's tensors.
        dtype: Number format.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    names = {name[len(prefix) :]: tensor for name, tensor in weights.below(prefix).items()}
    names = {name: tensor for name, tensor in names.items() if name.startswith(_VAE_PARTS)}
    converted = names if is_diffusers_vae(names) else convert_ldm_vae_checkpoint(names, config)
    return filled(lambda: AutoencoderKL.from_config(dict(config)), converted, dtype, path)


_VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def build_text(checkpoint: Checkpoint, tower: TextTower, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """One text encoder.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    kind = CLIPTextModelWithProjection if tower.projection else CLIPTextModel
    config = CLIPTextConfig(**tower.config)
    names = weights.below(tower.prefix)
    with init_empty_weights():
        model = kind(config)
    if tower.layout == "open_clip":
        converted = convert_open_clip_checkpoint(model, _projected(names, tower), prefix=tower.prefix)
        # Stable Diffusion 2 reads the layer before the last; the last one is in the file and used by nobody.
        converted = {name: tensor for name, tensor in converted.items() if _layer(name) < config.num_hidden_layers}
    else:
        converted = convert_ldm_clip_checkpoint({_with_text_model(name): one for name, one in names.items()})
    if not hasattr(model, "text_model"):
        converted = {name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
    known = model.state_dict().keys()
    kept = {name: one for name, one in converted.items() if name in known or not name.endswith(_IGNORED)}
    return filled(lambda: model, kept, dtype, checkpoint.path)


def build_alphas(checkpoint: Checkpoint) -> Tensor:
    """ᾱ of the noise schedule [T]."""
    return DDPMScheduler(**checkpoint.scheduler, rescale_betas_zero_snr=checkpoint.zero_snr).alphas_cumprod


def _projected(names: dict[str, Tensor], tower: TextTower) -> dict[str, Tensor]:
    """The tower's tensors; some files keep the projection as a layer (`text_projection.weight`), transposed."""
    layer, plain = f"{tower.prefix}text_projection.weight", f"{tower.prefix}text_projection"
    if layer in names and plain not in names:
        names[plain] = names.pop(layer).T
    return names


def _averaged(names: dict[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """The averaged weight in the place of each that has one; their names are written without dots."""
    flat = {name: EMA_PREFIX + name.removeprefix("model.").replace(".", "") for name in names}
    return {name: weights.get(flat[name], tensor) for name, tensor in names.items()}


def _with_text_model(name: str) -> str:
    """Some old files lack the `text_model` level that transformers brought in."""
    for part in ("embeddings.", "encoder.", "final_layer_norm."):
        name = name.replace(f".transformer.{part}", f".transformer.text_model.{part}")
    return name


def _layer(name: str) -> int:
    parts = name.partition("encoder.layers.")[2].split(".")
    return int(parts[0]) if parts[0].isdigit() else -1


def filled(
    make: Callable[[], Any],
    tensors: Mapping[str, Any],
    dtype: torch.dtype,
    path: Path,
    layout: torch.memory_format = torch.preserve_format,
    stored: Mapping[str, torch.dtype] | None = None,
) -> Any:
    """A module with these weights, each copied once into its number format, convolutions in this layout.

    Args:
        make: Makes it; on the meta device.
        tensors: Under its own names.
        dtype: Number format.
        path: The file, or the folder of the files, that the tensors are mapped from: its pages are let go meanwhile.
        layout: Of convolutions.
        stored: Names of weights that are kept in a smaller format, with that.

    Raises:
        BadFileError: The tensors are not the module's.
    """
    with init_empty_weights():
        module = cast("nn.Module", make())
    wanted = {name: tuple(one.shape) for name, one in module.state_dict().items()}
    given = {name: tuple(one.shape) for name, one in tensors.items() if one is not None}
    wrong = sorted({name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)})
    if wrong:
        shown = ", ".join(f"{name} {given.get(name, 'missing')}" for name in wrong[:_MINDED])
        raise BadFileError(
            f"{path.name} does not hold the network that its shapes promise: {len(wrong)} tensors differ",
            value=shown,
            allowed=", ".join(f"{name} {wanted.get(name, 'not there')}" for name in wrong[:_MINDED]),
            next_step="download the file again, or use its folder in diffusers' layout",
        )
    pages = Pages(path)
    copies: dict[int, Tensor] = {}
    smaller = stored or {}
    for name, tensor in tensors.items():
        # Tied weights are one tensor under two names.
        if id(tensor) not in copies:
            own = layout if tensor.dim() == _CONVOLUTION else torch.preserve_format
            copy = tensor.to(dtype, copy=True, memory_format=own)
            copies[id(tensor)] = copy.to(smaller[name]) if name in smaller else copy
            pages.copied(tensor.nbytes)
    pages.let_go()
    state = {name: copies[id(tensor)] for name, tensor in tensors.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module
