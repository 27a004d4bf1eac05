"""The autoencoder stage: pictures ↔ latents `[n, c, h/8, w/8]`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.training.builtin.config import TrainConfig, VaeConfig
from danqing.training.builtin.dataset import Dataset, composite
from danqing.training.builtin.groupnorm import use_fast_group_norm
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


def build_vae(config: VaeConfig) -> AutoencoderKL:
    """A small AutoencoderKL; no attention, so that it works alike at every picture size."""
    blocks = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        sample_size=config.crop_px,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def crop_batch(dataset: Dataset, rng: np.random.Generator, batch: int, crop_px: int) -> torch.Tensor:
    """Random crops over white or a random colour, mirrored at random: `[batch, 3, crop, crop]` in [-1, 1]."""
    size = dataset.rgba.shape[1]
    out = np.empty((batch, 3, crop_px, crop_px), np.float32)
    for i in range(batch):
        row = int(rng.integers(len(dataset.rgba)))
        top, left = (int(v) for v in rng.integers(0, size - crop_px + 1, 2))
        patch: NDArray[np.uint8] = dataset.rgba[row, top : top + crop_px, left : left + crop_px]
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        red, green, blue = (255, 255, 255) if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(0, 256, 3))
        out[i] = composite(patch[None], (red, green, blue))[0]
    return torch.from_numpy(out)


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, config: VaeConfig) -> torch.Tensor:
    """L1, plus L1 between finite differences at three scales, plus the squared error of the picture reduced eightfold.

    The differences keep edges sharp at next to no cost; the last term is for hues, which L1 alone learns late.
    """
    loss = F.l1_loss(output, target)
    for _ in range(3):
        for dim in (2, 3):
            loss = loss + config.gradient_weight * F.l1_loss(output.diff(dim=dim), target.diff(dim=dim))
        output, target = F.avg_pool2d(output, 2), F.avg_pool2d(target, 2)
    return loss + config.color_weight * F.mse_loss(output, target)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast, or none for `precision = "fp32"`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def psnr_db(vae: AutoencoderKL, dataset: Dataset, device: torch.device, count: int = 64) -> float:
    """Mean PSNR over whole pictures on white (peak 2 on the [-1, 1] scale), in float32."""
    rows = np.linspace(0, len(dataset.rgba) - 1, min(count, len(dataset.rgba))).astype(int)
    values: list[float] = []
    for i in range(0, len(rows), 8):
        x = torch.from_numpy(composite(dataset.rgba[rows[i : i + 8]], (255, 255, 255))).to(device)
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        mse = ((x - y) ** 2).flatten(1).mean(1).clamp_min(1e-8)
        values += (10 * torch.log10(4.0 / mse)).tolist()
    return float(np.mean(values))


def vae_run(config: TrainConfig, folder: Path, device: torch.device) -> tuple[AutoencoderKL, Run]:
    """The autoencoder and its optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed)
    vae = build_vae(config.vae).to(device, memory_format=torch.channels_last)
    use_fast_group_norm(vae)
    params = list(vae.parameters())
    digest = stage_digest("vae", config.seed, config.vae, config.data, config.precision)
    run = Run(
        "vae",
        folder,
        {"vae": vae},
        make_optimizer([(params, 1.0)], config.vae.stage),
        Ema(params, config.vae.stage.ema),
        digest,
    )
    run.resume()
    return vae, run


def vae_losses(
    vae: AutoencoderKL, dataset: Dataset, config: TrainConfig, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruction loss and Kullback-Leibler divergence of one batch of crops; two scalars."""
    device = next(vae.parameters()).device
    target = crop_batch(dataset, step_rng(config.seed, "vae", step), config.vae.stage.batch, config.vae.crop_px)
    target = target.to(device, memory_format=torch.channels_last)
    with autocast(device, config.precision):
        posterior = vae.encode(target).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=step_torch(config.seed, "vae", step)).to(device)
        output = vae.decode(mean + torch.exp(0.5 * logvar) * noise).sample.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return reconstruction_loss(output, target, config.vae), kl


def train_vae(
    config: TrainConfig,
    data: tuple[Dataset, Dataset],
    folder: Path,
    device: torch.device,
    deadline: float | None = None,
) -> AutoencoderKL:
    """Trains (or goes on training) on the first of `data`, measures on the second; returns averaged weights.

    A selection so small that nothing of it is held out is measured on what it was trained with.
    """
    dataset, held_out = data
    measured = held_out if held_out.pictures else dataset
    vae, run = vae_run(config, folder, device)
    newest: dict[str, torch.Tensor] = {}

    def step(number: int) -> torch.Tensor:
        newest["rec"], newest["kl"] = vae_losses(vae, dataset, config, number)
        return newest["rec"] + config.vae.kl_weight * newest["kl"]

    steps = Steps(
        step,
        checked=lambda: {"psnr_db": round(psnr_db(vae, measured, device), 3)},
        parts=lambda: {name: round(value.item(), 5) for name, value in newest.items()},
    )
    train_steps(run, config.vae.stage, steps, deadline)
    return vae.eval().requires_grad_(False)
