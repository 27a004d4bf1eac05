"""Small ControlNets with random weights, in diffusers' real layout, and a small twin of the built-in model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

import tiny_models

HINT_CHANNELS = (8, 8, 16, 16)


def build_controls(root: Path) -> Path:
    """The models folder of `tiny_models.build_all` with ControlNets, and `mini`, made like the built-in model.

    `live` (float16) and `other` fit `tiny`; `zero` does too and does nothing; `mini-line` fits `mini`; `deep` and
    `wordy` fit none of them.
    """
    tiny_models.build_all(root)
    unet = UNet2DConditionModel.from_pretrained(root / "Stable-diffusion" / "tiny" / "unet")
    home = root / "ControlNet"
    save(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_CHANNELS), home / "zero")
    save(lively(unet, seed=11).half(), home / "sets" / "live")
    save(lively(unet, seed=12), home / "other")
    save(_plain(block_out_channels=(32, 64, 64), down_block_types=("DownBlock2D",) * 3), home / "deep")
    wordy = {"cross_attention_dim": 48, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    save(_plain(mid_block_type="UNetMidBlock2DCrossAttn", **wordy), home / "wordy")
    build_mini(root / "Stable-diffusion" / "mini")
    save(awake(_plain(in_channels=8), seed=13), home / "mini-line", base="mini", annotators=["canny"])
    return root


def lively(unet: UNet2DConditionModel, *, seed: int) -> ControlNetModel:
    """A ControlNet of this UNet whose zero convolutions are not zero."""
    return awake(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINT_CHANNELS), seed=seed)


def awake(net: ControlNetModel, *, seed: int) -> ControlNetModel:
    """The same with random numbers where training begins with zeros."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in (net.controlnet_cond_embedding.conv_out, *net.controlnet_down_blocks, net.controlnet_mid_block):
            for weight in module.parameters():
                weight.normal_(std=0.3)
    return net


def _plain(**changes: Any) -> ControlNetModel:
    """As the built-in family has them: no attention, one layer a level, no pooled text."""
    settings: dict[str, Any] = {
        "in_channels": 4,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "mid_block_type": "UNetMidBlock2D",
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "cross_attention_dim": tiny_models.CONTEXT_WIDTH,
        "norm_num_groups": 8,
        "conditioning_embedding_out_channels": HINT_CHANNELS,
    }
    return ControlNetModel(**{**settings, **changes})


def build_mini(folder: Path) -> Path:
    """A model of the built-in kind: 8 latent channels, pooled text, v-prediction."""
    tiny_models.build(folder, seed=21, prediction="v_prediction")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(22)
        UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(32, 64),
            layers_per_block=1,
            cross_attention_dim=tiny_models.CONTEXT_WIDTH,
            attention_head_dim=4,
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
            norm_num_groups=8,
        ).save_pretrained(folder / "unet")
        AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            layers_per_block=1,
            latent_channels=8,
            norm_num_groups=4,
            sample_size=tiny_models.SIZE_PX,
            scaling_factor=0.5,
        ).save_pretrained(folder / "vae")
    return folder


def save(net: ControlNetModel, folder: Path, **about: Any) -> None:
    """One diffusers folder, with `danqing.json` where there is something to say."""
    net.save_pretrained(folder)
    if about:
        (folder / "danqing.json").write_text(json.dumps(about), encoding="utf-8")
