"""The stage after the autoencoder's: the same weights trained on until latents shrink as pictures do.

A UNet paints coarse before fine. Latents whose neighbours differ as much as noise does hide the coarse from it, however
well they decode. Decoding latents pooled 2×2 and asking for the picture pooled 2×2 (EQ-VAE: Kouzelis et al. 2025) makes
them smooth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset, composite
from danqing.training.builtin.loop import (
    Ema,
    Run,
    Steps,
    make_optimizer,
    stage_digest,
    step_rng,
    step_torch,
    train_steps,
)
from danqing.training.builtin.vae import autocast, crop_batch, psnr_db, reconstruction_loss


@torch.no_grad()
def neighbor_correlation(vae: AutoencoderKL, dataset: Dataset, device: torch.device, count: int = 64) -> float:
    """How alike latents beside each other are, -1 to 1, over whole drawings on white: each channel less its mean."""
    rows = np.linspace(0, len(dataset.rgba) - 1, min(count, len(dataset.rgba))).astype(int)
    parts = [
        vae.encode(
            torch.from_numpy(composite(dataset.rgba[rows[i : i + 8]], (255, 255, 255))).to(device)
        ).latent_dist.mode()
        for i in range(0, len(rows), 8)
    ]
    z = torch.cat(parts)
    z = (z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
    return float((z[..., 1:] * z[..., :-1]).mean())


def smooth_loss(
    vae: AutoencoderKL, dataset: Dataset, config: TrainConfig, step: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reconstruction, Kullback-Leibler and scale-equivariance terms of one batch of crops; three scalars."""
    device = next(vae.parameters()).device
    target = crop_batch(dataset, step_rng(config.seed, "smooth", step), config.smooth.stage.batch, config.vae.crop_px)
    target = target.to(device, memory_format=torch.channels_last)
    with autocast(device, config.precision):
        posterior = vae.encode(target).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=step_torch(config.seed, "smooth", step)).to(device)
        z = mean + torch.exp(0.5 * logvar) * noise
        output = vae.decode(z).sample.float()
        small = vae.decode(F.avg_pool2d(z, 2)).sample.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    equivariance = reconstruction_loss(small, F.avg_pool2d(target, 2), config.vae)
    return reconstruction_loss(output, target, config.vae), kl, equivariance


def smooth_vae(
    vae: AutoencoderKL, config: TrainConfig, data: tuple[Dataset, Dataset], folder: Path, deadline: float | None = None
) -> AutoencoderKL:
    """Trains a finished autoencoder on (or goes on); measures on the second of `data`; returns averaged weights."""
    dataset, measured = data[0], data[1] if data[1].pictures else data[0]
    device = next(vae.parameters()).device
    vae.train().requires_grad_(True)
    params, stage = list(vae.parameters()), config.smooth.stage
    digest = stage_digest("smooth", config.seed, config.smooth, config.vae, config.data, config.precision)
    run = Run("smooth", folder, {"vae": vae}, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest)
    run.resume()
    newest: dict[str, torch.Tensor] = {}

    def step(number: int) -> torch.Tensor:
        newest["rec"], newest["kl"], newest["eq"] = smooth_loss(vae, dataset, config, number)
        weights = config.smooth
        return newest["rec"] + weights.kl_weight * newest["kl"] + weights.equivariance_weight * newest["eq"]

    steps = Steps(
        step,
        checked=lambda: {
            "psnr_db": round(psnr_db(vae, measured, device), 3),
            "neighbor_correlation": round(neighbor_correlation(vae, measured, device), 3),
        },
        parts=lambda: {name: round(value.item(), 5) for name, value in newest.items()},
    )
    train_steps(run, stage, steps, deadline)
    return vae.eval().requires_grad_(False)
