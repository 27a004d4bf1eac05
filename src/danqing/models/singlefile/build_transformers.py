"""Transformers, and the text encoders and autoencoders beside them, from single files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from danqing.models.headers import read_header
from danqing.models.precision import Precision
from danqing.models.singlefile.build import build_vae, filled
from danqing.models.singlefile.describe import vae_of_file
from danqing.models.singlefile.facts import facts_of
from danqing.models.singlefile.flux_names import to_diffusers
from danqing.models.singlefile.gguf import fill_gguf, gguf_tensors
from danqing.models.singlefile.shapes import below, tensors_of, text_config
from danqing.models.singlefile.transformers import TransformerFile, t5_config
from danqing.models.singlefile.weights import Weights
from danqing.models.storage import stored_dtypes

_CLASSES: dict[str, Any] = {"flux": FluxTransformer2DModel, "sd3": SD3Transformer2DModel}
_PROJECTION = "text_projection.weight"
_CLIP_EXTRAS = ("logit_scale", "text_model.embeddings.position_ids", "embeddings.position_ids", "text_projection")


def build_transformer(file: TransformerFile, precision: Precision) -> nn.Module:
    """The denoiser.

    Args:
        file: What the file holds.
        precision: Number formats; packed weights (GGUF) are unpacked to the denoiser's.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
        UnsupportedError: It is a GGUF file that cannot be read here.
    """
    packed = file.format == "gguf"
    tensors = gguf_tensors(file.path) if packed else Weights(file.path).below(file.prefix)
    inner = {name[len(file.prefix) :]: one for name, one in tensors.items() if name.startswith(file.prefix)}
    own = _without_other_parts(file, inner)
    if file.layout == "bfl":
        converted = to_diffusers(own)
    elif file.layout == "sai":
        converted = convert_sd3_transformer_checkpoint_to_diffusers(dict(own))
    else:
        converted = own

    def make() -> Any:
        return _CLASSES[file.family].from_config(file.config)

    if packed:
        return fill_gguf(make, converted, precision.denoiser, file.path)
    stored = stored_dtypes(make, precision)
    return filled(make, converted, precision.denoiser, file.path, stored=stored)


def _without_other_parts(file: TransformerFile, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    others = (*file.encoders.values(), "text_encoders.", *([file.vae_prefix] if file.vae_prefix else []))
    return dict(tensors) if file.prefix else {n: one for n, one in tensors.items() if not n.startswith(others)}


def build_clip(path: Path, prefix: str, text: Mapping[str, Any], dtype: torch.dtype) -> nn.Module:
    """A CLIP text encoder in transformers' names.

    Args:
        path: The file: the encoder's own, or one with other parts.
        prefix: What the encoder's names begin with.
        text: The family's facts about it; `projection` where its pooled answer is projected.
        dtype: Number format.

    Raises:
        BadFileError: It is damaged, or no such encoder.
    """
    shapes = below(tensors_of(read_header(path)), prefix)
    tensors = {name[len(prefix) :]: one for name, one in Weights(path).below(prefix).items()}
    tensors = {name: one for name, one in tensors.items() if name not in _CLIP_EXTRAS}
    config = CLIPTextConfig(**text_config(shapes, text))
    projection = tensors.pop(_PROJECTION, None)
    if text.get("projection"):
        # SD3 reads CLIP-L's pooled text as it is, whatever its file has for a projection.
        identity = text.get("identity_projection") or projection is None
        tensors[_PROJECTION] = torch.eye(config.hidden_size) if identity else projection
        config.projection_dim = tensors[_PROJECTION].shape[0]
    kind = CLIPTextModelWithProjection if text.get("projection") else CLIPTextModel
    with init_empty_weights():
        model = kind(config)
    if not hasattr(model, "text_model"):
        tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    return filled(lambda: model, tensors, dtype, path)


def build_t5(path: Path, prefix: str, dtype: torch.dtype) -> T5EncoderModel:
    """A T5 encoder in transformers' names.

    Args:
        path: The file: the encoder's own, or one with other parts.
        prefix: What the encoder's names begin with.
        dtype: Number format; in float16 the layers that overflow stay in float32.

    Raises:
        BadFileError: It is damaged, or no T5.
        UnsupportedError: It is in llama.cpp's names.
    """
    config = T5Config(**t5_config(below(tensors_of(read_header(path)), prefix)))
    weights = Weights(path)
    tensors = {name[len(prefix) :]: one for name, one in weights.below(prefix).items()}
    tensors = {name: one for name, one in tensors.items() if name.startswith(("shared.", "encoder."))}
    words = tensors.get("shared.weight", tensors.get("encoder.embed_tokens.weight"))
    if words is not None:
        tensors |= {"shared.weight": words, "encoder.embed_tokens.weight": words}
    with init_empty_weights():
        model = T5EncoderModel(config)
    known = model.state_dict().keys()
    tensors = {name: one for name, one in tensors.items() if name in known or not name.endswith("embed_tokens.weight")}
    module: T5EncoderModel = filled(lambda: model, tensors, dtype, path)
    module.tie_weights()
    if dtype is torch.float16:
        for name, layer in module.named_modules():
            if name.endswith(".wo"):
                layer.to(torch.float32)
    return module


def build_own_vae(file: TransformerFile, dtype: torch.dtype) -> AutoencoderKL:
    """The autoencoder inside the file.

    Raises:
        BadFileError: It is damaged.
    """
    config, prefix = vae_of_file(file.path, file.family)
    return build_vae(file.path, config, prefix, Weights(file.path), dtype)


def clip_facts(family: str, name: str) -> dict[str, Any]:
    """The facts about a text encoder of a family.

    Args:
        family: flux or sd3.
        name: clip_l or clip_g.
    """
    return facts_of(family)["texts"][("clip_l", "clip_g").index(name)]
