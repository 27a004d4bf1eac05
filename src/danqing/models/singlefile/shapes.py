"""Configs of diffusers' classes from the shapes of a file's tensors, so that odd checkpoints load too. No torch.

The names are those of the published latent-diffusion checkpoints; what shapes do not show comes from the family.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.files import Header, TensorInfo

Shapes = Mapping[str, TensorInfo]

STATE_DICT = "state_dict."
HEAD_WIDTH = 64
"""Channels of an attention head in Stable Diffusion 2, XL and in all of CLIP's text towers."""


def below(tensors: Shapes, prefix: str) -> dict[str, TensorInfo]:
    """The tensors whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: info for name, info in tensors.items() if name.startswith(prefix)}


def tensors_of(header: Header) -> Shapes:
    """The tensors of a header; those of a training record's `state_dict` under their own names."""
    inner = below(header.tensors, STATE_DICT)
    return inner or header.tensors


def unet_config(tensors: Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `UNet2DConditionModel` in latent diffusion's names (`input_blocks.0.0.weight`, …).

    Args:
        tensors: Of the denoiser, without their prefix.
        base: The family's config.

    Raises:
        BadFileError: A tensor that every such network has is missing.
        UnsupportedError: A shape that diffusers' class cannot have.
    """
    widths, counts, depths = _levels(tensors)
    if len(set(counts)) != 1:
        raise UnsupportedError(
            "the denoiser's levels have unlike numbers of layers", value=counts, allowed="the same number in each level"
        )
    middle = _depth(tensors, "middle_block.1.")
    # A level without attention has no depth; diffusers reads the last one for the middle block.
    listed = [depth or (middle if at == len(depths) - 1 else 1) for at, depth in enumerate(depths)]
    if middle == 0 or middle != listed[-1]:
        raise UnsupportedError(
            "the denoiser's middle block is not as deep as its last level",
            value=middle,
            allowed=f"{max(listed[-1], 1)} transformer blocks",
            next_step="use the checkpoint as a diffusers folder",
        )
    config = {
        **base,
        "in_channels": _shape(tensors, "input_blocks.0.0.weight")[1],
        "out_channels": _shape(tensors, "out.2.weight")[0],
        "block_out_channels": widths,
        "layers_per_block": counts[0],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": listed[0] if len(set(listed)) == 1 else listed,
        "cross_attention_dim": _first(tensors, "attn2.to_k.weight")[1],
        "use_linear_projection": len(_first(tensors, "proj_in.weight")) == 2,
    }
    if not isinstance(base["attention_head_dim"], int):
        config["attention_head_dim"] = [max(1, width // HEAD_WIDTH) for width in widths]
    if "label_emb.0.0.weight" in tensors:
        config["projection_class_embeddings_input_dim"] = _shape(tensors, "label_emb.0.0.weight")[1]
    return config


def vae_config(tensors: Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an `AutoencoderKL`, in latent diffusion's names or in diffusers'.

    Args:
        tensors: Of the autoencoder, without their prefix.
        base: The family's config.

    Raises:
        BadFileError: A tensor that every such network has is missing.
    """
    level, layer = r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight", 2
    if is_diffusers_vae(tensors):
        level = r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight"
    found = _numbered(tensors, level)
    widths = {at: tensors[name].shape[0] for name, (at, _) in found.items()}
    if not widths:
        raise _missing("encoder.down.0.block.0.conv1.weight")
    layer = 1 + max(at for _, at in found.values())
    return {
        **base,
        "block_out_channels": [widths[at] for at in sorted(widths)],
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": layer,
        "latent_channels": _shape(tensors, "decoder.conv_in.weight")[1],
        "use_quant_conv": "quant_conv.weight" in tensors,
        "use_post_quant_conv": "post_quant_conv.weight" in tensors,
    }


def is_diffusers_vae(names: Iterable[str]) -> bool:
    """Whether an autoencoder has diffusers' names."""
    return any(name.startswith("encoder.down_blocks.") for name in names)


def text_config(tensors: Shapes, text: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a CLIP text tower in transformers' or OpenCLIP's names.

    Args:
        tensors: Of the tower, without their prefix.
        text: The family's facts about it: `layout`, `config`, `drops_last_layer`, `projection`.

    Raises:
        BadFileError: A tensor that every such network has is missing.
    """
    base: Mapping[str, Any] = text["config"]
    if text["layout"] == "open_clip":
        tokens = _shape(tensors, "token_embedding.weight")
        positions = _shape(tensors, "positional_embedding")
        layers = 1 + max(at for (at,) in _numbered(tensors, r"transformer\.resblocks\.(\d+)\.ln_1\.weight").values())
        layers -= 1 if text.get("drops_last_layer") else 0
        inner = _shape(tensors, "transformer.resblocks.0.mlp.c_fc.weight")[0]
        projected = tensors.get("text_projection")
    else:
        tokens = _first(tensors, "embeddings.token_embedding.weight")
        positions = _first(tensors, "embeddings.position_embedding.weight")
        layers = 1 + max(at for (at,) in _numbered(tensors, r".*encoder\.layers\.(\d+)\.mlp\.fc1\.weight").values())
        inner = _first(tensors, "encoder.layers.0.mlp.fc1.weight")[0]
        projected = None
    return {
        **base,
        "vocab_size": tokens[0],
        "hidden_size": tokens[1],
        "max_position_embeddings": positions[0],
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": max(1, tokens[1] // HEAD_WIDTH),
        "projection_dim": base["projection_dim"] if projected is None else projected.shape[1],
    }


def _levels(tensors: Shapes) -> tuple[list[int], list[int], list[int]]:
    """Width, number of layers and depth of attention (0 for none) of each level on the way down."""
    widths, counts, depths = [0], [0], [0]
    last = max((at for (at,) in _numbered(tensors, r"input_blocks\.(\d+)\.0\..*").values()), default=0)
    for block in range(1, last + 1):
        if f"input_blocks.{block}.0.op.weight" in tensors:
            widths, counts, depths = [*widths, 0], [*counts, 0], [*depths, 0]
            continue
        widths[-1] = _shape(tensors, f"input_blocks.{block}.0.in_layers.2.weight")[0]
        counts[-1] += 1
        depths[-1] = max(depths[-1], _depth(tensors, f"input_blocks.{block}.1."))
    if not widths[0]:
        raise _missing("input_blocks.1.0.in_layers.2.weight")
    return widths, counts, depths


def _depth(tensors: Shapes, prefix: str) -> int:
    pattern = re.escape(prefix) + r"transformer_blocks\.(\d+)\.norm1\.weight"
    return len(Counter(at for (at,) in _numbered(tensors, pattern).values()))


def _numbered(names: Iterable[str], pattern: str) -> dict[str, tuple[int, ...]]:
    """The numbers in the names that a pattern matches as a whole."""
    compiled = re.compile(pattern)
    matches = ((name, compiled.fullmatch(name)) for name in names)
    return {name: tuple(int(group) for group in found.groups()) for name, found in matches if found}


def _shape(tensors: Shapes, name: str) -> tuple[int, ...]:
    info = tensors.get(name)
    if info is None:
        raise _missing(name)
    return info.shape


def _first(tensors: Shapes, ending: str) -> tuple[int, ...]:
    for name, info in tensors.items():
        if name.endswith(ending):
            return info.shape
    raise _missing(ending)


def _missing(name: str) -> BadFileError:
    return BadFileError(
        "a checkpoint is incomplete: a tensor that each of its kind has is not there",
        value=name,
        next_step="download the file again",
    )
