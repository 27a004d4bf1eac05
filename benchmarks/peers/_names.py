"""The published names of Stable Diffusion 1's tensors (CompVis LDM, lllyasviel's ControlNets) from diffusers' own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}


def unet_names(state: Mapping[str, Tensor], prefix: str = "model.diffusion_model.") -> Tensors:
    """A denoiser's tensors as `input_blocks.…`, `middle_block.…`, `output_blocks.…`."""
    layers = 1 + max(int(name.split(".")[3]) for name in state if re.match(r"down_blocks\.\d+\.resnets", name))
    attended = {name.split(".")[1] for name in state if re.match(r"up_blocks\.\d+\.attentions", name)}
    return {prefix + _unet_name(name, layers, attended): one for name, one in state.items()}


def _unet_name(name: str, layers: int, attended: set[str]) -> str:
    for ours, published in _TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, published, 1)
    side, *rest = name.split(".")
    if side == "mid_block":
        part, at, *tail = rest
        return ".".join(["middle_block", "1" if part == "attentions" else str(2 * int(at)), *_inside(part, tail)])
    level, part, at, *tail = rest
    first = int(level) * (layers + 1)
    if part == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{tail[-1]}"
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if level in attended else 1}.conv.{tail[-1]}"
    block = f"output_blocks.{first + int(at)}" if side == "up_blocks" else f"input_blocks.{first + int(at) + 1}"
    return ".".join([block, "1" if part == "attentions" else "0", *_inside(part, tail)])


def _inside(part: str, tail: list[str]) -> list[str]:
    return tail if part == "attentions" else [_RESNET[tail[0]], *tail[1:]]


def vae_names(state: Mapping[str, Tensor], prefix: str = "first_stage_model.") -> Tensors:
    """An autoencoder's tensors as `encoder.down.…`, `decoder.up.…`; its attention as 1 × 1 convolutions."""
    levels = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("decoder.up_blocks"))
    found: Tensors = {}
    for name, one in state.items():
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.", new
        )
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample", new
        )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in new:
            for ours, published in _VAE_ATTENTION.items():
                new = new.replace(f"attentions.0.{ours}.", f"attentions.0.{published}.")
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
        found[prefix + new] = one[:, :, None, None] if "mid.attn_1" in new and one.ndim == 2 else one
    return found


def clip_names(state: Mapping[str, Tensor], prefix: str = "cond_stage_model.transformer.") -> Tensors:
    """A CLIP text encoder's tensors below `text_model.`, as transformers named them when the files were made."""
    found = {f"{prefix}text_model.{name.removeprefix('text_model.')}": one for name, one in state.items()}
    return found | {f"{prefix}text_model.embeddings.position_ids": torch.arange(77)[None]}


def control_names(state: Mapping[str, Tensor], prefix: str = "control_model.") -> Tensors:
    """A ControlNet's tensors as `input_blocks.…`, `zero_convs.…`, `input_hint_block.…`."""
    half = {name: one for name, one in state.items() if not name.startswith("controlnet_")}
    found = unet_names(half, prefix)
    for name, one in state.items():
        part, _, kind = name.rpartition(".")
        if name.startswith("controlnet_down_blocks."):
            found[f"{prefix}zero_convs.{part.split('.')[1]}.0.{kind}"] = one
        elif name.startswith("controlnet_mid_block."):
            found[f"{prefix}middle_block_out.0.{kind}"] = one
        elif name.startswith("controlnet_cond_embedding."):
            inner = part.split(".")[1:]
            # A SiLU stands after each convolution, so they are numbered by twos.
            at = {"conv_in": 0, "conv_out": 14}[inner[0]] if len(inner) == 1 else 2 * (int(inner[1]) + 1)
            found[f"{prefix}input_hint_block.{at}.{kind}"] = one
    return found


def lora_names(state: Mapping[str, Tensor], rank: int, generator: torch.Generator) -> Tensors:
    """A small random LoRA in kohya's names for every attention matrix of a denoiser in diffusers' names."""
    found: Tensors = {}
    for name, weight in state.items():
        if not re.search(r"attn[12]\.to_(q|k|v|out\.0)\.weight$", name):
            continue
        module = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        out, into = weight.shape
        found[f"{module}.lora_down.weight"] = (torch.randn(rank, into, generator=generator) * into**-0.5).half()
        found[f"{module}.lora_up.weight"] = (torch.randn(out, rank, generator=generator) * 0.01).half()
        found[f"{module}.alpha"] = torch.tensor(float(rank))
    return found
