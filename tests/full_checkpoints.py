"""A Stable Diffusion 1.5 of the whole published size with random weights, made tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from danqing.models.singlefile.facts import facts_of
from tiny_checkpoints import clip_names, unet_names, vae_names


def sd15(path: Path) -> Path:
    """2.1 GB in float16, with names and shapes of `v1-5-pruned-emaonly.safetensors`."""
    facts = facts_of("sd1")
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(facts["unet"])
        vae = AutoencoderKL.from_config(facts["vae"])
        text = CLIPTextModel(CLIPTextConfig(**facts["texts"][0]["config"]))
    shapes = {f"model.diffusion_model.{name}": one for name, one in unet_names(unet).items()}
    shapes |= {f"first_stage_model.{name}": one for name, one in vae_names(vae).items()}
    shapes |= clip_names(text, "cond_stage_model.transformer.")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: _random(one) for name, one in shapes.items()}, path)
    return path


def _random(like: Tensor) -> Tensor:
    if not like.is_floating_point():
        return torch.arange(like.numel()).reshape(like.shape)
    # Small enough for float16 after many layers.
    return torch.empty(like.shape, dtype=torch.float16).normal_(std=0.02)
