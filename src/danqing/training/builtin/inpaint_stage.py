"""The inpainting variant: a LoRA and a first convolution that also reads the mask and the masked picture.

Channels as in Stable Diffusion's inpainting models (Rombach et al. 2022, arXiv:2112.10752): noisy latents, mask,
latents of the masked picture. What reads the new ones starts at zero, so that training starts from the ordinary model.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.diffusion import Schedule, add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.export_side import export_inpaint
from danqing.training.builtin.finished import Finished, SideJob, open_finished, side_main
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
from danqing.training.builtin.lora import SKIPPED, Lora, attach
from danqing.training.builtin.masks import draw_mask, latent_mask
from danqing.training.builtin.pool import Pool, to_tensor_scale
from danqing.training.builtin.sample import decode_pixels, save_grid, sigma_ladder
from danqing.training.builtin.unet import Batch, Models, draw_batch
from danqing.training.builtin.vae import autocast

SHEET_COLUMNS = 8


@dataclass(frozen=True)
class Repair:
    """What is learnt from what.

    Attributes:
        models: The UNet with the LoRA and the wide first convolution; the text encoder.
        vae: Encodes masked pictures.
        pool: Painted scenes.
        latents: Theirs.
        config: The configuration.
        schedule: The noise levels.
    """

    models: Models
    vae: AutoencoderKL
    pool: Pool
    latents: Tensor
    config: TrainConfig
    schedule: Schedule


@dataclass(frozen=True)
class Masked:
    """A batch's masks and masked pictures.

    Attributes:
        pixels: The pictures with grey where the mask is, float32 `[b, 3, H, W]` in [-1, 1].
        mask: 0 or 1 on the latent grid, float32 `[b, 1, h, w]`; 1 is repainted.
        extra: The UNet's further channels: mask, then masked latents, float32 `[b, 1 + c, h, w]`.
    """

    pixels: Tensor
    mask: Tensor
    extra: Tensor


def widen(unet: UNet2DConditionModel) -> nn.Conv2d:
    """Gives the UNet a first convolution for 2c + 1 channels, the new ones at zero; returns it, trainable."""
    old: nn.Conv2d = unet.conv_in
    channels = 2 * old.in_channels + 1
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)
    unet.conv_in = new.to(old.weight.device, memory_format=torch.channels_last)
    unet.register_to_config(in_channels=channels)
    return unet.conv_in


@torch.no_grad()
def mask_batch(repair: Repair, batch: Batch, rng: np.random.Generator) -> Masked:
    """Random masks for these scenes; masked pictures are encoded now, since every mask is new."""
    device, config = repair.models.unet.device, repair.config
    painted = np.stack([np.asarray(repair.pool.rgb[row, variant]) for row, variant in batch.places])
    whole = config.inpaint.whole_share
    masks = np.stack([draw_mask(rng, painted.shape[1], whole) for _ in batch.places])
    hidden = (masks.astype(np.float32) / 255.0).round()[:, None]
    pixels = torch.from_numpy(to_tensor_scale(painted) * (1.0 - hidden)).to(device)
    small = torch.from_numpy(np.stack([latent_mask(mask) for mask in masks])[:, None]).to(device)
    with autocast(device, config.precision):
        encoded = repair.vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
    latents = encoded.float() * float(repair.vae.config["scaling_factor"])
    return Masked(pixels, small, torch.cat([small, latents], dim=1))


def inpaint_loss(repair: Repair, step: int) -> Tensor:
    """The v-prediction loss of one batch, most of all where the mask is; a scalar."""
    models, config, device = repair.models, repair.config, repair.models.unet.device
    settings = config.inpaint
    batch = draw_batch(repair.pool, repair.latents, config, step, "inpaint", settings.stage.batch)
    rng = step_rng(config.seed + 1, "inpaint", step)
    masked = mask_batch(repair, batch, rng)
    latents = batch.latents.to(device)
    noise = torch.randn(latents.shape, generator=step_torch(config.seed, "inpaint", step)).to(latents)
    steps = draw_timesteps(repair.schedule, rng, len(latents))
    noised = add_noise(repair.schedule, latents, noise, steps, config.unet.min_snr_gamma)
    x = torch.cat([noised.x, masked.extra], dim=1).contiguous(memory_format=torch.channels_last)
    with autocast(device, config.precision):
        with torch.no_grad():
            states = models.encode(batch.captions, device)
        output = models.unet(x, torch.from_numpy(steps).to(device), encoder_hidden_states=states).sample
    weight = masked.mask + settings.outside_weight * (1.0 - masked.mask)
    error = ((output.float() - noised.target).square() * weight).mean((1, 2, 3)) / weight.mean((1, 2, 3))
    return (error * noised.weight).mean()


@torch.no_grad()
def repaint(repair: Repair, batch: Batch, masked: Masked, steps: int = 16, guidance: float = 4.0) -> Tensor:
    """Latents `[b, c, h, w]` with their masked part painted anew by Euler steps, the rest held."""
    models, device, b = repair.models, repair.models.unet.device, len(batch.captions)
    kept = batch.latents.to(device)
    states = models.encode([*batch.captions, *[""] * b], device).float()
    levels, table = sigma_ladder(repair.schedule, steps), np.log(repair.schedule.sigmas)
    x = kept + torch.randn(kept.shape, generator=torch.Generator().manual_seed(0)).to(kept) * levels[0]
    for sigma, following in pairwise(float(level) for level in levels):
        root, time = (sigma**2 + 1) ** 0.5, float(np.interp(np.log(sigma), table, np.arange(len(table))))
        shown = torch.cat([torch.cat([x / root, masked.extra], dim=1)] * 2)
        with autocast(device, repair.config.precision):
            v = models.unet(shown, torch.full((2 * b,), time, device=device), encoder_hidden_states=states).sample
        cond, uncond = (torch.cat([x, x]) / root**2 - v.float() * (sigma / root)).chunk(2)
        found = (uncond + guidance * (cond - uncond)) * masked.mask + kept * (1 - masked.mask)
        x = found + (following / sigma) * (x - found)
    return x


def draw_sheet(repair: Repair, path: Path) -> None:
    """Pictures, the same with their mask, and what was painted into them, in three rows."""
    batch = draw_batch(repair.pool, repair.latents, repair.config, 0, "eval", SHEET_COLUMNS)
    masked = mask_batch(repair, batch, step_rng(repair.config.seed, "eval", 0))
    painted = np.stack([np.asarray(repair.pool.rgb[row, variant]) for row, variant in batch.places])
    hidden = ((masked.pixels.cpu().numpy().transpose(0, 2, 3, 1) + 1) * 127.5).round().astype(np.uint8)
    save_grid(np.concatenate([painted, hidden, decode_pixels(repair.vae, repaint(repair, batch, masked))]), path)


def inpaint_run(models: Models, config: TrainConfig, folder: Path) -> tuple[Lora, Run]:
    """LoRA, first convolution and their optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed + 21)
    lora, stage = attach(models.unet, config.inpaint.rank, (*SKIPPED, "conv_in")), config.inpaint.stage
    conv_in = widen(models.unet)
    params = [*lora.parameters(), *conv_in.parameters()]
    digest = stage_digest("inpaint", config.seed, config.inpaint, config.unet, config.text, config.captions)
    modules: dict[str, nn.Module] = {"lora": lora, "conv_in": conv_in}
    run = Run("inpaint", folder, modules, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest)
    run.resume()
    return lora, run


def train_inpaint(
    models: Models,
    data: tuple[Pool, Tensor, AutoencoderKL],
    config: TrainConfig,
    folder: Path,
    deadline: float | None = None,
    stop_after: int | None = None,
) -> tuple[Repair, Lora, Run]:
    """Trains (or goes on training); the models' UNet is then the inpainting one, with averaged weights."""
    pool, latents, vae = data
    lora, run = inpaint_run(models, config, folder)
    repair = Repair(models, vae, pool, latents, config, make_schedule(config))
    steps = Steps(lambda step: inpaint_loss(repair, step), stop_after=stop_after)
    train_steps(run, config.inpaint.stage, steps, deadline)
    models.unet.requires_grad_(False)
    return repair, lora, run


def inpaint(job: SideJob) -> None:
    """The whole stage, from a finished run to the exported folder and a sheet of samples."""
    done: Finished = open_finished(job)
    data = (done.pool, done.latents, done.vae)
    repair, lora, run = train_inpaint(done.models, data, done.config, job.run, job.until)
    draw_sheet(repair, job.run / "samples" / "inpaint.png")
    export_inpaint(lora, done.models.unet.conv_in, done.config, run.progress, job.beside("inpaint"))


if __name__ == "__main__":
    sys.exit(side_main(inpaint, "inpaint"))
