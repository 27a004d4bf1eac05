"""Small image adapters with random weights in the published IP-Adapter form, and the image towers that feed them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import tiny_controls
import tiny_models
from danqing.adapters.ip_adapter import fresh
from danqing.models.ip_adapter import IpAdapterWeights

EMBEDDING = 24
SIZE_PX = 32


def build_images(root: Path) -> Path:
    """The models folder of `tiny_models.build_all` with `mini`, made like the built-in model, and image adapters.

    `like-tiny` and `second` fit `tiny`, `other` and `tiny-inpaint`; `like-mini` fits `mini`, which it names; `wide`
    fits none of them; `pickled` cannot be run.
    """
    tiny_models.build_all(root)
    tiny_controls.build_mini(root / "Stable-diffusion" / "mini")
    home = root / "IP-Adapter"
    build_tower(home / "image_encoder")
    for name, model, seed in (("like-tiny", "tiny", 31), ("second", "tiny", 32), ("like-mini", "mini", 33)):
        unet = UNet2DConditionModel.from_pretrained(root / "Stable-diffusion" / model / "unet")
        lively(unet, seed=seed).save(home / f"{name}.safetensors")
    (home / "like-mini.json").write_text(json.dumps({"name": "like-mini", "base": "mini"}), encoding="utf-8")
    IpAdapterWeights(EMBEDDING, 48, (48, 48)).save(home / "wide.safetensors")
    (home / "pickled.bin").write_bytes(b"\x80\x02}q\x00.")
    return root


def lively(unet: UNet2DConditionModel, *, seed: int) -> IpAdapterWeights:
    """An adapter of this UNet whose pictures make a difference that tests can see."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        weights = fresh(unet, EMBEDDING)
        for layer in weights.ip_adapter.values():
            layer.to_k_ip.weight.mul_(3.0).add_(torch.randn_like(layer.to_k_ip.weight) * 0.2)
            layer.to_v_ip.weight.mul_(2.0).add_(torch.randn_like(layer.to_v_ip.weight) * 0.2)
    return weights.eval().requires_grad_(False)


def build_tower(folder: Path, *, seed: int = 30, width: int = EMBEDDING) -> Path:
    """A CLIP image tower in transformers' layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=SIZE_PX,
                patch_size=8,
                projection_dim=width,
                initializer_factor=4.0,
            )
        ).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": SIZE_PX},
        crop_size={"height": SIZE_PX, "width": SIZE_PX},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)
    return folder
