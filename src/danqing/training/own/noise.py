"""What the denoiser is shown and what it should answer: noised latents, targets, loss weights, masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danqing.sampling.prediction import Prediction
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import InvalidRequestError
from danqing.training.own.seeds import rng_of

LOG_SIGMA_MEAN, LOG_SIGMA_STD, UNIFORM_SHARE = 1.1, 1.4, 0.1
"""How the built-in model's noise levels were drawn when it was trained (training/configs/builtin-cpu.toml)."""


@dataclass(frozen=True)
class Levels:
    """A model's noise levels as training draws them.

    Attributes:
        alphas: ᾱ of each time step, float64 [T], falling.
        cumulative: Share with which time steps up to each are drawn, float64 [T].
    """

    alphas: NDArray[np.float64]
    cumulative: NDArray[np.float64]

    @classmethod
    def uniform(cls, table: SigmaTable) -> Levels:
        """Every time step alike, as Stable Diffusion was trained (Ho et al. 2020)."""
        alphas = 1.0 / (1.0 + table.sigmas**2)
        return cls(alphas, np.arange(1, len(alphas) + 1) / len(alphas))

    @classmethod
    def bell(cls, table: SigmaTable, mean: float = LOG_SIGMA_MEAN, std: float = LOG_SIGMA_STD) -> Levels:
        """A bell over ln σ with a tenth uniform (Karras et al. 2022): where pictures form, not in pure noise."""
        alphas = 1.0 / (1.0 + table.sigmas**2)
        logs = np.log(table.sigmas)
        bell = np.exp(-0.5 * ((logs - mean) / std) ** 2) * np.gradient(logs)
        density = (1.0 - UNIFORM_SHARE) * bell / bell.sum() + UNIFORM_SHARE / len(logs)
        return cls(alphas, np.cumsum(density) / density.sum())

    def between(self, least: int, most: int) -> Levels:
        """The same levels, drawn from time steps `least` to `most` alone.

        Raises:
            InvalidRequestError: There are none between them.
        """
        steps = np.arange(len(self.alphas))
        density = np.diff(self.cumulative, prepend=0.0) * ((steps >= least) & (steps <= most))
        if density.sum() <= 0:
            raise InvalidRequestError(
                "no noise level is left to train with",
                field="min_timestep",
                value=least,
                allowed=f"0 to max_timestep, which is {most}",
                next_step="leave both out to train with all of them",
            )
        return Levels(self.alphas, np.cumsum(density) / density.sum())

    def draw(self, seed: int, step: int, count: int) -> NDArray[np.int64]:
        """Time steps of a step's pictures [count], one from each equal slice of the distribution, in random order."""
        rng = rng_of(seed, "times", step)
        quantiles = (np.arange(count) + rng.random(count)) / count
        times = np.searchsorted(self.cumulative, quantiles).clip(0, len(self.alphas) - 1)
        return rng.permutation(times).astype(np.int64)

    def spread(self, count: int) -> NDArray[np.int64]:
        """Fixed time steps [count] over the whole distribution, rising: what is measured is measured there."""
        quantiles = (np.arange(count) + 0.5) / count
        return np.searchsorted(self.cumulative, quantiles).clip(0, len(self.alphas) - 1).astype(np.int64)

    def signal(self, times: Tensor) -> Tensor:
        """ᾱ float32 at time steps [b], on their device."""
        return torch.from_numpy(self.alphas[times.cpu().numpy()]).to(times.device, torch.float32)


@dataclass(frozen=True)
class Noised:
    """A noised batch.

    Attributes:
        x: What the denoiser is shown [b, c, h, w].
        target: What it should answer [b, c, h, w].
        weights: Of each picture's loss [b].
    """

    x: Tensor
    target: Tensor
    weights: Tensor


def noised(latents: Tensor, noise: Tensor, alphas: Tensor, prediction: Prediction, min_snr_gamma: float) -> Noised:
    """Noise a batch.

    x = √ᾱ·x₀ + √(1−ᾱ)·n; the answer is n (ε) or √ᾱ·n − √(1−ᾱ)·x₀ (v; Salimans and Ho 2022). Where ᾱ is 0 (zero
    terminal SNR, Lin et al. 2024), ε cannot be learnt and v is −x₀.

    Args:
        latents: x₀ [b, c, h, w].
        noise: n [b, c, h, w].
        alphas: ᾱ [b].
        prediction: ε or v.
        min_snr_gamma: Of min-SNR weights (Hang et al. 2023); 0 weighs all alike.
    """
    a, s = alphas.sqrt().view(-1, 1, 1, 1), (1 - alphas).sqrt().view(-1, 1, 1, 1)
    target = noise if prediction is Prediction.EPSILON else a * noise - s * latents
    return Noised(a * latents + s * noise, target, snr_weights(alphas, prediction, min_snr_gamma))


def snr_weights(alphas: Tensor, prediction: Prediction, gamma: float) -> Tensor:
    """min-SNR's weights [b]: min(SNR, γ) over SNR for ε, over SNR + 1 for v."""
    if gamma <= 0:
        return torch.ones_like(alphas)
    snr = alphas / (1 - alphas).clamp_min(1e-12)
    if prediction is Prediction.EPSILON:
        return snr.clamp_max(gamma) / snr.clamp_min(1e-12)
    return snr.clamp_max(gamma) / (snr + 1)


def offset_noise(noise: Tensor, offsets: Tensor, strength: float) -> Tensor:
    """Noise with the mean of every channel moved, so that dark and bright pictures can be learnt (Guttenberg 2023).

    Args:
        noise: [b, c, h, w].
        offsets: Normal numbers [b, c, 1, 1].
        strength: How far.
    """
    return noise + strength * offsets if strength > 0 else noise


def squared_error(answer: Tensor, noised_batch: Noised, mask: Tensor | None = None) -> Tensor:
    """Each picture's weighted mean squared error [b].

    Args:
        answer: Of the denoiser [b, c, h, w].
        noised_batch: Its target and weights.
        mask: Where a picture counts, 0 to 1 [b, 1, h, w]; the mean is taken over what counts.
    """
    error = (answer - noised_batch.target).square()
    if mask is None:
        each = error.flatten(1).mean(1)
    else:
        shown = mask.expand_as(error)
        each = (error * shown).flatten(1).sum(1) / shown.flatten(1).sum(1).clamp_min(1.0)
    return each * noised_batch.weights
