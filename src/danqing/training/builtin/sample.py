"""Sample grids during training: deterministic Euler in k-diffusion's σ with classifier-free guidance."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image

from danqing.training.builtin.diffusion import Schedule
from danqing.training.builtin.unet import Models


def sigma_ladder(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """Karras' schedule (2022, ρ = 7) between the process's ends, and 0: `[steps + 1]`."""
    table = schedule.sigmas
    ramp = np.linspace(0, 1, steps)
    low, high = table[0] ** (1 / 7), table[-1] ** (1 / 7)
    return np.append((high + ramp * (low - high)) ** 7, 0.0)


@torch.no_grad()
def sample_latents(
    models: Models, schedule: Schedule, prompts: list[str], seed: int, steps: int = 24, guidance: float = 4.0
) -> torch.Tensor:
    """Latents `[b, c, h, w]`, float32; picture i starts from noise seeded `seed + i`."""
    device = models.unet.device
    shape = (models.unet.config.in_channels, models.unet.config.sample_size, models.unet.config.sample_size)
    noise = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))]
    )
    states = models.encode([*prompts, *[""] * len(prompts)], device)
    sigmas, log_table = sigma_ladder(schedule, steps), np.log(schedule.sigmas)
    x = (noise * sigmas[0]).to(device)
    for sigma, following in pairwise(sigmas):
        t = torch.full(
            (2 * len(x),), float(np.interp(np.log(sigma), log_table, np.arange(len(log_table)))), device=device
        )
        scaled = torch.cat([x, x]) / (sigma**2 + 1) ** 0.5
        v = models.unet(scaled, t, encoder_hidden_states=states).sample
        denoised = torch.cat([x, x]) / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5
        cond, uncond = denoised.chunk(2)
        guided = uncond + guidance * (cond - uncond)
        x = guided + (x - guided) * (following / sigma)
    return x


@torch.no_grad()
def decode_pixels(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    """`[n, h, w, 3]` uint8."""
    x = vae.decode(latents / vae.config.scaling_factor).sample.float()
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def save_grid(pictures: NDArray[np.uint8], path: Path, columns: int = 8) -> None:
    """Writes pictures `[n, h, w, 3]` side by side, row by row."""
    n, h, w, _ = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * h, columns * w, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = divmod(i, columns)
        sheet[y * h : (y + 1) * h, x * w : (x + 1) * w] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def draw_grid(models: Models, vae: AutoencoderKL, schedule: Schedule, prompts: list[str], path: Path) -> None:
    """One picture for each prompt, seeds 0, 1, 2 …, written as one PNG."""
    models.unet.eval(), models.text.eval()
    save_grid(decode_pixels(vae, sample_latents(models, schedule, prompts, 0)), path)
    models.unet.train(), models.text.train()
