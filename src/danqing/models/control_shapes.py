"""Configs of diffusers' control networks from the shapes of a file's tensors. No torch.

Three layouts: latent diffusion's (lllyasviel's ControlNets and Stability's Control-LoRAs), diffusers' own, and
TencentARC's T2I-Adapters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from danqing.models.singlefile import shapes
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.files import TensorInfo

RES_BLOCKS = 2
"""Residual blocks in each level of a full T2I-Adapter; its flat list does not show where a level ends."""
_KEPT = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "transformer_layers_per_block",
    "cross_attention_dim",
    "use_linear_projection",
    "attention_head_dim",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "downsample_padding",
    "mid_block_scale_factor",
    "flip_sin_to_cos",
    "freq_shift",
)
_ADDED = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")


def ldm_config(tensors: shapes.Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `ControlNetModel` in latent diffusion's names.

    Args:
        tensors: Of the ControlNet, without their prefix.
        base: The config of the family's denoiser.

    Raises:
        BadFileError: A tensor that every such network has is missing.
        UnsupportedError: A shape that diffusers' class cannot have.
    """
    entry = _shape(tensors, "input_blocks.0.0.weight")
    # A ControlNet is the first half of a denoiser: only what leaves the other half is missing.
    whole = {**tensors, "out.2.weight": TensorInfo("float32", entry)}
    config = shapes.unet_config(whole, base)
    added = "label_emb.0.0.weight" in tensors
    hints = _hint_widths(tensors, r"input_hint_block\.(\d+)\.weight")
    return {
        **{key: config[key] for key in (*_KEPT, *(_ADDED if added else ())) if key in config},
        **_hint(hints),
    }


def diffusers_config(tensors: shapes.Shapes, base: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a `ControlNetModel` or `ControlNetUnionModel` in diffusers' names; arguments as for `ldm_config`.

    Raises:
        BadFileError: A tensor that every such network has is missing.
        UnsupportedError: A shape that diffusers' class cannot have.
    """
    layers: dict[int, int] = {}
    widths: dict[int, int] = {}
    for name, info in tensors.items():
        found = re.fullmatch(r"down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight", name)
        if found:
            level, layer = int(found[1]), int(found[2])
            layers[level] = max(layers.get(level, 0), layer + 1)
            widths[level] = info.shape[0]
    levels = range(len(widths))
    if not widths or set(widths) != set(levels):
        raise _missing("down_blocks.0.resnets.0.conv1.weight")
    if len(set(layers.values())) != 1:
        raise UnsupportedError(
            "the ControlNet's levels have unlike numbers of layers",
            value=[layers[level] for level in levels],
            allowed="the same number in each level",
        )
    depths = [_depth(tensors, f"down_blocks.{level}.attentions.0.") for level in levels]
    middle = _depth(tensors, "mid_block.attentions.0.")
    keys = _first(tensors, "attn2.to_k.weight")
    config = {
        **{key: base[key] for key in _KEPT if key in base},
        "in_channels": _shape(tensors, "conv_in.weight")[1],
        "block_out_channels": [widths[level] for level in levels],
        "layers_per_block": layers[0],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if middle else "UNetMidBlock2D",
        # diffusers reads the last level's depth for the middle too.
        "transformer_layers_per_block": [*(depth or 1 for depth in depths[:-1]), depths[-1] or middle or 1],
        "use_linear_projection": len(_first(tensors, "proj_in.weight")) == 2,
    }
    if keys:
        config["cross_attention_dim"] = keys[1]
    if not isinstance(base["attention_head_dim"], int):
        config["attention_head_dim"] = [max(1, widths[level] // shapes.HEAD_WIDTH) for level in levels]
    if "add_embedding.linear_1.weight" in tensors:
        config |= {key: base[key] for key in _ADDED if key in base}
        config["projection_class_embeddings_input_dim"] = _shape(tensors, "add_embedding.linear_1.weight")[1]
    config |= _diffusers_hint(tensors)
    if "task_embedding" in tensors:
        del config["mid_block_type"]  # a union ControlNet's middle always reads the text
        config |= _union(tensors)
    return config


def lora_tensors(tensors: shapes.Shapes) -> dict[str, TensorInfo]:
    """The tensors that a Control-LoRA stands for: each pair of `up` and `down` as the weight that it changes."""
    found = {name: info for name, info in tensors.items() if not name.endswith((".up", ".down"))}
    for name, up in tensors.items():
        down = tensors.get(f"{name.removesuffix('.up')}.down")
        if name.endswith(".up") and down is not None:
            found[f"{name.removesuffix('.up')}.weight"] = TensorInfo(up.dtype, (up.shape[0], *down.shape[1:]))
    for name in list(found):
        # Where training left a norm alone the file has none, and the depth is counted by them.
        block = re.match(r".*\.transformer_blocks\.\d+\.", name)
        if block is not None:
            found.setdefault(f"{block[0]}norm1.weight", TensorInfo("float32", (1,)))
    return found


def adapter_config(tensors: shapes.Shapes, *, diffusers: bool) -> dict[str, Any]:
    """The config of a `T2IAdapter`.

    Args:
        tensors: Without `adapter.`.
        diffusers: Whether the names are diffusers' and not TencentARC's.

    Raises:
        BadFileError: A tensor that every such network has is missing.
        UnsupportedError: An adapter of another shape.
    """
    light = "conv_in.weight" not in tensors
    entry = _shape(tensors, "body.0.in_conv.weight" if light else "conv_in.weight")[1]
    large = entry in (16 * 16, 3 * 16 * 16)
    factor = 16 if large else 8
    if entry % (factor * factor):
        raise UnsupportedError(
            "the T2I-Adapter takes maps of another kind", value=f"{entry} channels", allowed="64, 192, 256, 768"
        )
    blocks = 1 + max(at for (at,) in _numbered(tensors, r"body\.(\d+)\..*"))
    if light:
        widths = [_shape(tensors, f"body.{at}.out_conv.weight")[0] for at in range(blocks)][:-1]
        inner = "resnets" if diffusers else "body"
        count = 1 + max(at for (at,) in _numbered(tensors, rf"body\.0\.{inner}\.(\d+)\..*"))
    elif diffusers:
        widths = [_shape(tensors, f"body.{at}.resnets.0.block1.weight")[0] for at in range(blocks)]
        count = 1 + max(at for (at,) in _numbered(tensors, r"body\.0\.resnets\.(\d+)\..*"))
    else:
        count = RES_BLOCKS
        widths = [_shape(tensors, f"body.{at}.block1.weight")[0] for at in range(0, blocks, RES_BLOCKS)]
    return {
        "in_channels": entry // (factor * factor),
        "channels": widths,
        "num_res_blocks": count,
        "downscale_factor": factor,
        "adapter_type": "light_adapter" if light else "full_adapter_xl" if large else "full_adapter",
    }


def adapter_widths(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of the levels of the UNet that a T2I-Adapter is for."""
    widths = tuple(int(one) for one in config["channels"])
    if config["adapter_type"] == "light_adapter":
        return (*widths, widths[-1])
    # The last map of SDXL's adapters goes into the middle block, which is as wide as the last level.
    return widths[:-1] if config["adapter_type"] == "full_adapter_xl" else widths


def _hint_widths(tensors: shapes.Shapes, pattern: str) -> list[tuple[int, ...]]:
    found = {at: tensors[name].shape for name, (at,) in _numbered_names(tensors, pattern).items()}
    return [found[at] for at in sorted(found)]


def _hint(convolutions: list[tuple[int, ...]]) -> dict[str, Any]:
    """From the convolutions that take the map in: two of each width, and the last one to the network's."""
    if len(convolutions) < 2:
        raise _missing("input_hint_block.0.weight")
    return {
        "conditioning_channels": convolutions[0][1],
        "conditioning_embedding_out_channels": [shape[0] for shape in convolutions[:-1:2]],
    }


def _diffusers_hint(tensors: shapes.Shapes) -> dict[str, Any]:
    prefix = "controlnet_cond_embedding"
    ends = [_shape(tensors, f"{prefix}.{end}.weight") for end in ("conv_in", "conv_out")]
    return _hint([ends[0], *_hint_widths(tensors, rf"{prefix}\.blocks\.(\d+)\.weight"), ends[1]])


def _union(tensors: shapes.Shapes) -> dict[str, Any]:
    types, width = _shape(tensors, "task_embedding")
    layers = _numbered(tensors, r"transformer_layes\.(\d+)\..*")
    return {
        "num_control_type": types,
        "num_trans_channel": width,
        "num_trans_layer": 1 + max((at for (at,) in layers), default=0),
        "num_proj_channel": _shape(tensors, "spatial_ch_projs.weight")[0],
    }


def _depth(tensors: shapes.Shapes, prefix: str) -> int:
    return len(set(_numbered(tensors, re.escape(prefix) + r"transformer_blocks\.(\d+)\.norm1\.weight")))


def _numbered(names: Iterable[str], pattern: str) -> list[tuple[int, ...]]:
    return list(_numbered_names(names, pattern).values())


def _numbered_names(names: Iterable[str], pattern: str) -> dict[str, tuple[int, ...]]:
    compiled = re.compile(pattern)
    matches = ((name, compiled.fullmatch(name)) for name in names)
    return {name: tuple(int(group) for group in found.groups()) for name, found in matches if found}


def _shape(tensors: shapes.Shapes, name: str) -> tuple[int, ...]:
    info = tensors.get(name)
    if info is None:
        raise _missing(name)
    return info.shape


def _first(tensors: shapes.Shapes, ending: str) -> tuple[int, ...]:
    return next((info.shape for name, info in tensors.items() if name.endswith(ending)), ())


def _missing(name: str) -> BadFileError:
    return BadFileError(
        "a control network is incomplete: a tensor that each of its kind has is not there",
        value=name,
        next_step="download the file again",
    )
