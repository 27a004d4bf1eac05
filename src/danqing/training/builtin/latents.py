"""Latents of every picture, computed once and kept in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset, composite
from danqing.training.builtin.loop import stage_digest, step_rng
from danqing.training.builtin.vae import COLORS, autocast

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class LatentCache:
    """`white` is float16 `[n, 2, c, h, w]` (plain, mirrored); `colored` is `[n, k, c, h, w]` with colours `[n, k]`.

    The colours are indices into the keys of `COLORS`; coloured variants are mirrored at random.
    """

    white: torch.Tensor
    colored: torch.Tensor
    colors: NDArray[np.int64]


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
    latents = encode(vae, composite(dataset.rgba[rows], WHITE), device, precision)
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


def build_cache(vae: AutoencoderKL, dataset: Dataset, config: TrainConfig, device: torch.device) -> LatentCache:
    """Encodes every picture plain and mirrored on white, and `data.backgrounds` times on a random colour."""
    precision, keys = config.precision, list(COLORS)
    plain = encode(vae, composite(dataset.rgba, WHITE), device, precision)
    mirrored = encode(vae, composite(dataset.rgba[:, :, ::-1], WHITE), device, precision)
    count = config.data.backgrounds
    colors = np.zeros((len(dataset.rgba), count), np.int64)
    painted = np.empty((len(dataset.rgba), count, 3, *dataset.rgba.shape[1:3]), np.float32)
    for row in range(len(dataset.rgba)):
        rng = step_rng(config.seed, "cache", row)
        colors[row] = rng.choice(len(keys), count, replace=False)
        for k in range(count):
            rgba = dataset.rgba[row : row + 1]
            rgba = rgba[:, :, ::-1] if rng.random() < 0.5 else rgba
            painted[row, k] = composite(rgba, COLORS[keys[colors[row, k]]][2])[0]
    flat = encode(vae, painted.reshape(-1, *painted.shape[2:]), device, precision) if count else plain[:0]
    colored = flat.view(len(dataset.rgba), count, *plain.shape[1:])
    return LatentCache(torch.stack([plain, mirrored], 1).half(), colored.half(), colors)


def cached(path: Path, vae: AutoencoderKL, dataset: Dataset, config: TrainConfig, device: torch.device) -> LatentCache:
    """`build_cache`'s result, kept in a file that is used again when autoencoder and pictures are the same."""
    weights = torch.cat([p.detach().flatten().float().cpu() for p in vae.parameters()]).numpy()
    rows = [p.concept.hexcode + p.style for p in dataset.pictures]
    key = stage_digest(hashlib.sha256(weights.tobytes()).hexdigest(), rows, config.seed, config.data)
    if path.exists():
        kept = torch.load(path, weights_only=True)
        if kept["key"] == key:
            return LatentCache(kept["white"], kept["colored"], kept["colors"].numpy())
    cache = build_cache(vae, dataset, config, device)
    temporary = path.with_suffix(".tmp")
    colors = torch.from_numpy(cache.colors)
    torch.save({"key": key, "white": cache.white, "colored": cache.colored, "colors": colors}, temporary)
    temporary.replace(path)
    return cache


def subset(dataset: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The pictures with these English labels (all when none are given); rows are numbered anew."""
    wanted = set(labels)
    keep = [p for p in dataset.pictures if not wanted or p.concept.words["en"][0] in wanted]
    rows = [p.row for p in keep]
    return Dataset(tuple(dataclasses.replace(p, row=i) for i, p in enumerate(keep)), dataset.rgba[rows])
