"""Stable Diffusion folders with random weights, in diffusers' own layout, for what does not depend on the picture."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77
# Seeded noise that fills large weights in blocks: drawing each of 860 M numbers would take longer than the benchmark.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Shape:
    """What a model looks like.

    Attributes:
        unet: Arguments of UNet2DConditionModel.
        vae: Arguments of AutoencoderKL.
        text: Arguments of CLIPTextConfig.
        prediction: What the UNet predicts.
        native_px: Side of the pictures it is for.
        steps: Sampling steps by default.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    prediction: str = "epsilon"
    native_px: int = 512
    steps: int = 20
    beta_schedule: str = field(default="scaled_linear")


def _vae(channels: int, widths: tuple[int, ...], groups: int) -> dict[str, Any]:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths,
        "layers_per_block": 1,
        "latent_channels": channels,
        "norm_num_groups": groups,
    }


def _text(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "projection_dim": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": TOKENS,
    }


# unet/config.json of Stable Diffusion 1.5, as published; VAE and text encoder small, since only the UNet is timed.
SD15 = Shape(
    unet={
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
    },
    vae=_vae(4, (8, 8, 8, 8), 4),
    text=_text(768, 1, 12),
)
# The built-in family's shape (src/danqing/training/configs/builtin-cpu.toml).
MINI = Shape(
    unet={
        "sample_size": 16,
        "in_channels": 8,
        "out_channels": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (128, 256, 256),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": 256,
        "norm_num_groups": 32,
    },
    vae=_vae(8, (32, 64, 128, 128), 16),
    text=_text(256, 4, 4),
    prediction="v_prediction",
    native_px=128,
    beta_schedule="linear",
)
TINY = Shape(
    unet={
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 32,
        "norm_num_groups": 8,
    },
    vae=_vae(4, (8, 8, 16, 16), 4),
    text=_text(32, 2, 2),
    native_px=32,
    steps=3,
)


def write_folder(folder: Path, shape: Shape, dtype: torch.dtype = torch.float16) -> Path:
    """Write a model folder that the catalogue accepts and the loader loads.

    Args:
        folder: Where; made if missing.
        shape: What it looks like.
        dtype: Number format of the files.
    """
    _write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextModel(CLIPTextConfig(vocab_size=2 * 256 + 2, bos_token_id=512, eos_token_id=513, **shape.text))
    text.to(dtype).save_pretrained(folder / "text_encoder")
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**shape.unet), AutoencoderKL(**shape.vae)
    fill(unet, dtype).save_pretrained(folder / "unet")
    fill(vae, dtype).save_pretrained(folder / "vae")
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule=shape.beta_schedule, prediction_type=shape.prediction
    )
    scheduler.save_pretrained(folder / "scheduler")
    _write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    defaults = {"size_px": shape.native_px, "steps": shape.steps}
    _write_json(folder / "danqing.json", {"family": "sd1", "defaults": defaults})
    return folder


def fill(module: nn.Module, dtype: torch.dtype, seed: int = 0) -> Any:
    """A module made on the meta device, with memory and seeded weights; norms begin as the identity.

    Args:
        module: Made under `torch.device("meta")`.
        dtype: Its number format.
        seed: Of the weights.
    """
    noise = torch.randn(BLOCK, generator=torch.Generator().manual_seed(seed))
    filled = module.to_empty(device="cpu")
    for parameter in filled.parameters():
        parameter.data = parameter.data.to(dtype)
    for part in filled.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
                parameter.data.fill_(1.0 if name == "weight" else 0.0)
            elif name == "bias":
                parameter.data.zero_()
            else:
                _fill_with(parameter.data, noise * parameter[0].numel() ** -0.5)
    return filled.eval().requires_grad_(False)


def _fill_with(weight: torch.Tensor, noise: torch.Tensor) -> None:
    flat = weight.view(-1)
    for start in range(0, flat.numel(), len(noise)):
        part = flat[start : start + len(noise)]
        part.copy_(noise[: len(part)])


def _write_tokenizer(folder: Path) -> None:
    """CLIP's byte-level alphabet with no merges: every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), BEGIN, END]
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": END}
    _write_json(folder / "tokenizer_config.json", {**special, "model_max_length": TOKENS})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
