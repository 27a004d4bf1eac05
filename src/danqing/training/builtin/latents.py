"""Latents of every painted scene, computed once and kept in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from danqing.training.builtin.dataset import Dataset, composite
from danqing.training.builtin.loop import stage_digest
from danqing.training.builtin.pool import Pool, to_tensor_scale
from danqing.training.builtin.vae import autocast

WHITE = (255, 255, 255)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: NDArray[np.float32], device: torch.device, precision: str) -> torch.Tensor:
    """The latents' means, float32 `[n, c, h, w]` on the CPU."""
    out: list[torch.Tensor] = []
    for i in range(0, len(pictures), 16):
        x = torch.from_numpy(pictures[i : i + 16]).to(device, memory_format=torch.channels_last)
        with autocast(device, precision):
            out.append(vae.encode(x).latent_dist.mode().float().cpu())
    return torch.cat(out)


def normalize_latents(vae: AutoencoderKL, dataset: Dataset, device: torch.device, precision: str) -> None:
    """Folds each channel's mean and spread into the 1×1 convolutions, so that latents have mean 0 and variance 1.

    `scaling_factor` is then exactly 1. Calling it twice changes nothing more than rounding.
    """
    rows = np.linspace(0, len(dataset.rgba) - 1, min(len(dataset.rgba), 256)).astype(int)
    latents = encode(vae, composite(np.asarray(dataset.rgba[rows]), WHITE), device, precision)
    mean, std = latents.mean((0, 2, 3)).to(device), latents.std((0, 2, 3)).clamp_min(1e-4).to(device)
    c = len(mean)
    with torch.no_grad():
        into, back = vae.quant_conv, vae.post_quant_conv
        if into is None or back is None:
            raise TypeError("the autoencoder was built without its 1x1 convolutions")
        into.weight[:c] /= std.view(-1, 1, 1, 1)
        into.bias[:c] = (into.bias[:c] - mean) / std
        into.bias[c:] -= 2 * std.log()
        back.bias += (back.weight[:, :, 0, 0] * mean).sum(1)
        back.weight *= std.view(1, -1, 1, 1)


def encode_pool(vae: AutoencoderKL, pool: Pool, device: torch.device, precision: str) -> torch.Tensor:
    """Every painted scene, float16 `[n, variants, c, h, w]`."""
    rows = [encode(vae, to_tensor_scale(np.asarray(painted)), device, precision).half() for painted in pool.rgb]
    return torch.stack(rows)


def cached(path: Path, vae: AutoencoderKL, pool: Pool, device: torch.device, precision: str) -> torch.Tensor:
    """`encode_pool`'s result, kept in a file that is used again when autoencoder and scenes are the same."""
    weights = torch.cat([p.detach().flatten().float().cpu() for p in vae.parameters()]).numpy()
    rows = [p.concept.hexcode + p.style for p in pool.pictures]
    key = stage_digest(hashlib.sha256(weights.tobytes()).hexdigest(), rows, pool.scenes)
    if path.exists():
        kept = torch.load(path, weights_only=True, mmap=True)
        if kept["key"] == key:
            return kept["latents"]
    latents = encode_pool(vae, pool, device, precision)
    temporary = path.with_suffix(".tmp")
    torch.save({"key": key, "latents": latents}, temporary)
    temporary.replace(path)
    return latents
