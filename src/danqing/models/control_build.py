"""diffusers' control networks from one file; diffusers' own converter translates latent diffusion's names."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING, convert_controlnet_checkpoint
from torch import Tensor, nn

from danqing.models.control_files import ControlFile
from danqing.models.control_shapes import RES_BLOCKS
from danqing.models.packing import PackedConv2d
from danqing.models.singlefile.build import filled
from danqing.models.singlefile.weights import Weights

_MARKER = "lora_controlnet"


def build_control(
    found: ControlFile, dtype: torch.dtype, base: UNet2DConditionModel | None = None
) -> ControlNetModel | ControlNetUnionModel | T2IAdapter:
    """The network that a file holds.

    Args:
        found: From `describe_control`.
        dtype: Number format.
        base: The UNet that a Control-LoRA changes; others need none.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    weights = Weights(found.path)
    cut = len(found.prefix)
    tensors = {name[cut:]: one for name, one in weights.below(found.prefix).items()}
    if found.kind == "t2i_adapter":
        named = {f"adapter.{_adapter_name(found, name)}": one for name, one in tensors.items()}
        return filled(lambda: T2IAdapter(**found.config), named, dtype, found.path)
    config = found.config
    if found.kind == "control_lora":
        if base is None:
            raise RuntimeError("a Control-LoRA was to be loaded without the UNet that it changes")
        config = _config_of(base, found.config)
        named = _changed(base, tensors, config)
    elif found.layout == "diffusers":
        named = tensors
    else:
        named = _translated(tensors, config)
    kind = ControlNetUnionModel if found.kind == "union" else ControlNetModel
    return filled(lambda: kind(**config), named, dtype, found.path)


def _translated(names: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What stands below latent diffusion's names, below diffusers'."""
    blocks = [int(name.split(".")[1]) for name in names if name.startswith("zero_convs.")]
    # The converter counts the blocks by their tensors, and a Control-LoRA may have none for one.
    counted = {f"control_model.input_blocks.{block}.0.op.none": None for block in blocks}
    prefixed = {f"control_model.{name}": one for name, one in names.items()}
    converted = convert_controlnet_checkpoint({**counted, **prefixed}, config)
    added = DIFFUSERS_TO_LDM_MAPPING["controlnet"]["addition_embed_type"]
    converted |= {ours: names[theirs] for ours, theirs in added.items() if theirs in names}
    return {name: one for name, one in converted.items() if one is not None}


def _adapter_name(found: ControlFile, name: str) -> str:
    """A T2I-Adapter's tensor as diffusers names it."""
    if found.layout == "diffusers" or not name.startswith("body."):
        return name
    _, at, *rest = name.split(".")
    if found.config["adapter_type"] == "light_adapter":
        return ".".join(["body", at, *("resnets" if part == "body" else part for part in rest)])
    level, block = divmod(int(at), RES_BLOCKS)
    inner = [] if rest[0] == "in_conv" else ["resnets", str(block)]
    return ".".join(["body", str(level), *inner, *rest])


# --- Control-LoRA -----------------------------------------------------------------------------------------------------


def _config_of(base: UNet2DConditionModel, found: dict[str, Any]) -> dict[str, Any]:
    """The config of the ControlNet that has this UNet's encoder."""
    known = set(inspect.signature(ControlNetModel.__init__).parameters) - {"self"}
    own = {key: value for key, value in base.config.items() if key in known}
    entry = ("in_channels", "conditioning_channels", "conditioning_embedding_out_channels")
    return own | {key: found[key] for key in (*entry, "global_pool_conditions")}


def _changed(base: UNet2DConditionModel, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The encoder's weights W, W + up · down where the file has a pair, and the file's own where it has a whole one."""
    whole = {re.sub(r"\.up$", ".weight", name): name for name in tensors if not name.endswith(".down")}
    whole.pop(_MARKER, None)
    state = _dense_state(base)
    changes = _translated(whole, config)
    for name, theirs in changes.items():
        state[name] = _sum(state[name], tensors, theirs) if theirs.endswith(".up") else tensors[theirs]
    if "conv_in.weight" not in changes:
        state["conv_in.weight"] = state["conv_in.weight"][:, : config["in_channels"]]
    return state


def _sum(weight: Tensor, tensors: dict[str, Tensor], up_name: str) -> Tensor:
    up, down = tensors[up_name].float(), tensors[f"{up_name.removesuffix('.up')}.down"].float()
    change = (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
    # Of an inpainting UNet's input the first channels are the latent's.
    return weight.to(change)[:, : change.shape[1]] + change


def _dense_state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The first half's tensors on the CPU, packed convolutions as ordinary weights."""
    found: dict[str, Tensor] = {}
    for name, module in unet.named_modules():
        if isinstance(module, PackedConv2d):
            found[f"{name}.weight"] = module.dense_weight()
            if module.bias is not None:
                found[f"{name}.bias"] = module.bias
        elif not _inside_packed(unet, name):
            found |= {f"{name}.{own}".lstrip("."): one for own, one in module.named_parameters(recurse=False)}
    half = ("conv_in.", "time_embedding.", "add_embedding.", "down_blocks.", "mid_block.")
    return {name: one.detach().cpu() for name, one in found.items() if name.startswith(half)}


def _inside_packed(unet: nn.Module, name: str) -> bool:
    parent = name.rpartition(".")[0]
    return bool(parent) and isinstance(unet.get_submodule(parent), PackedConv2d)
