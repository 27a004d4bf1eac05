"""The noise schedule, which timesteps are trained, and the v-prediction loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from danqing.training.builtin.config import TrainConfig

TIMESTEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """`alpha_bar` of the discrete process, float64 `[1000]`, and the share with which each step is trained."""

    alpha_bar: NDArray[np.float64]
    cumulative: NDArray[np.float64]

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """k-diffusion's σ = √((1-ᾱ)/ᾱ), `[1000]`, rising."""
        return np.sqrt((1.0 - self.alpha_bar) / self.alpha_bar)


def make_schedule(config: TrainConfig) -> Schedule:
    """Linear β, trained with ln σ ~ N(mean, std) and a uniform share.

    Half of a linear schedule's timesteps are almost pure noise. Drawing ln σ from a normal distribution with a
    flat v-loss (Karras et al. 2022: their F-target is v when the data have unit variance) spends the steps where
    pictures form.
    """
    betas = np.linspace(config.beta_start, config.beta_end, TIMESTEPS, dtype=np.float64)
    alpha_bar = np.cumprod(1.0 - betas)
    log_sigma = 0.5 * np.log((1.0 - alpha_bar) / alpha_bar)
    unet = config.unet
    bell = np.exp(-0.5 * ((log_sigma - unet.log_sigma_mean) / unet.log_sigma_std) ** 2) * np.gradient(log_sigma)
    density = (1.0 - unet.uniform_share) * bell / bell.sum() + unet.uniform_share / TIMESTEPS
    return Schedule(alpha_bar, np.cumsum(density) / density.sum())


def draw_timesteps(schedule: Schedule, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """`count` timesteps, one from each equal slice of the distribution, in random order: `[count]`."""
    quantiles = (np.arange(count) + rng.random(count)) / count
    steps = np.searchsorted(schedule.cumulative, quantiles).clip(0, TIMESTEPS - 1)
    return rng.permutation(steps).astype(np.int64)


@dataclass(frozen=True)
class Noised:
    """A noised batch: model input and v target, both `[b, c, h, w]`, and the loss weights `[b]`."""

    x: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


def add_noise(
    schedule: Schedule, latents: torch.Tensor, noise: torch.Tensor, steps: NDArray[np.int64], min_snr_gamma: float
) -> Noised:
    """Noises latents and gives the v target (Salimans and Ho 2022).

    x = √ᾱ·x₀ + √(1-ᾱ)·ε and v = √ᾱ·ε - √(1-ᾱ)·x₀. The weights are min-SNR's (Hang et al. 2023); γ = 0 weighs all alike.
    """
    alpha_bar = torch.from_numpy(schedule.alpha_bar[steps]).to(latents)
    a, s = alpha_bar.sqrt().view(-1, 1, 1, 1), (1 - alpha_bar).sqrt().view(-1, 1, 1, 1)
    snr = alpha_bar / (1 - alpha_bar)
    weight = snr.clamp_max(min_snr_gamma) / (snr + 1) if min_snr_gamma > 0 else torch.ones_like(snr)
    return Noised(a * latents + s * noise, a * noise - s * latents, weight)
