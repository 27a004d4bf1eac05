"""The process of DDPM: how pictures are noised, and the two ways back (Ho et al. 2020; Song et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from danqing.training.builtin.groupnorm import use_fast_group_norm

STEPS = 1000
BETA_START, BETA_END = 1e-4, 0.02
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t `[n, …]`, t `[n]`) → the ε in it."""
Watch = Callable[[int, Tensor], None]
"""Called with t and x_t `[n, …]` before each step."""


@dataclass(frozen=True)
class Process:
    """The forward process q, in float64.

    Attributes:
        betas: `[1000]`.
        kept: ᾱ_t, the product of 1 − β up to t, `[1000]`.
    """

    betas: Tensor
    kept: Tensor

    @classmethod
    def linear(cls) -> Process:
        """β from 1e-4 to 0.02 (Ho et al. 2020, §4)."""
        betas = torch.linspace(BETA_START, BETA_END, STEPS, dtype=torch.float64)
        return cls(betas, torch.cumprod(1.0 - betas, 0))

    def noised(self, x0: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t = √ᾱ x₀ + √(1 − ᾱ) ε (eq. 4): `[n, …]` of alike, at times `[n]`."""
        kept = self.kept[times.cpu()].to(x0.device, torch.float32).view(-1, *[1] * (x0.ndim - 1))
        return kept.sqrt() * x0 + (1.0 - kept).sqrt() * noise

    def guessed(self, x: Tensor, noise: Tensor, time: int) -> Tensor:
        """The x₀ that an ε in x_t means, kept within [-1, 1]."""
        kept = float(self.kept[time])
        return ((x - (1.0 - kept) ** 0.5 * noise) / kept**0.5).clamp(-1, 1)

    def posterior(self, x0: Tensor, x: Tensor, time: int) -> tuple[Tensor, float]:
        """Mean and variance β̃ of q(x_{t−1} | x_t, x₀) (eq. 6 and 7)."""
        beta, kept = float(self.betas[time]), float(self.kept[time])
        before = float(self.kept[time - 1]) if time > 0 else 1.0
        of_x0 = before**0.5 * beta / (1.0 - kept)
        of_x = (1.0 - beta) ** 0.5 * (1.0 - before) / (1.0 - kept)
        return of_x0 * x0 + of_x * x, (1.0 - before) / (1.0 - kept) * beta


@torch.no_grad()
def ancestral(
    process: Process, denoiser: Denoiser, x: Tensor, generator: torch.Generator, watch: Watch | None = None
) -> Tensor:
    """All 1000 steps back, with fresh noise in each (Ho et al. 2020, algorithm 2): pictures of noise `[n, …]`."""
    for time in reversed(range(STEPS)):
        if watch is not None:
            watch(time, x)
        noise = denoiser(x, torch.full((len(x),), time, device=x.device))
        mean, variance = process.posterior(process.guessed(x, noise, time), x, time)
        fresh = torch.randn(x.shape, generator=generator).to(x.device)
        x = mean + variance**0.5 * fresh if time > 0 else mean
    return x


def strided(count: int) -> list[int]:
    """`count` times from 999 down to 0."""
    if count < 2:
        return [STEPS - 1]
    return [round((STEPS - 1) * (1.0 - i / (count - 1))) for i in range(count)]


@torch.no_grad()
def ddim(process: Process, denoiser: Denoiser, x: Tensor, count: int, watch: Watch | None = None) -> Tensor:
    """`count` steps back without fresh noise (Song et al. 2021, arXiv 2010.02502, eq. 12, η = 0)."""
    times = strided(count)
    for time, following in zip(times, [*times[1:], -1], strict=True):
        if watch is not None:
            watch(time, x)
        noise = denoiser(x, torch.full((len(x),), time, device=x.device))
        x0 = process.guessed(x, noise, time)
        if following < 0:
            return x0
        # The ε that goes with the x₀ that was kept within bounds.
        kept = float(process.kept[time])
        direction = (x - kept**0.5 * x0) / (1.0 - kept) ** 0.5
        after = float(process.kept[following])
        x = after**0.5 * x0 + (1.0 - after) ** 0.5 * direction
    return x


def make_unet(width: int, size_px: int) -> UNet2DModel:
    """A small denoiser: `width / 2` channels at full size, then `width`, `2·width`, `2·width`; attention at a quarter.

    Ho et al.'s network (app. B) with one residual block for each level where they have two.
    """
    unet = UNet2DModel(
        sample_size=size_px,
        in_channels=3,
        out_channels=3,
        block_out_channels=(max(8, width // 2), width, 2 * width, 2 * width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=min(32, width),
    )
    return for_training(unet)


def for_training(unet: UNet2DModel) -> UNet2DModel:
    """The same with kernels whose backward pass is quick on the CPU."""
    use_fast_group_norm(unet)
    for one in unet.modules():
        if isinstance(one, Attention):
            one.set_processor(AttnProcessor())
            # It is given a transposed view, which the quick kernel cannot read.
            if one.group_norm is not None:
                one.group_norm.__class__ = nn.GroupNorm
    return unet
