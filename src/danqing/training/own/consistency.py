"""What consistency distillation computes: the teacher's solver, boundary conditions, jumps along a trajectory.

LCM: Luo et al. 2023 (arXiv 2310.04378; as a LoRA 2311.05556). TCD: Zheng et al. 2024 (arXiv 2402.19159). For ε and for
v: both are turned into the estimate of x₀ and of the noise first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danqing.sampling.prediction import Prediction
from danqing.training.own.noise import Levels

SIGMA_DATA = 0.5
TIME_SCALE = 10.0
"""As in LCM: c_skip falls to nothing within the first steps."""


@dataclass(frozen=True)
class Estimate:
    """What an answer of the denoiser means, each [b, c, h, w]."""

    clean: Tensor
    noise: Tensor

    def at(self, alphas: Tensor) -> Tensor:
        """Where this leads at levels ᾱ [b]: DDIM's step (Song et al. 2021), exact if both are right."""
        a, s = roots(alphas)
        return a * self.clean + s * self.noise

    def guided(self, other: Estimate, scale: Tensor) -> Estimate:
        """Away from another estimate; `scale` [b] is classifier-free guidance, 1 for none (Ho and Salimans 2022)."""
        factor = scale.view(-1, 1, 1, 1)
        return Estimate(
            other.clean + factor * (self.clean - other.clean), other.noise + factor * (self.noise - other.noise)
        )


def estimate(prediction: Prediction, x: Tensor, answer: Tensor, alphas: Tensor) -> Estimate:
    """x₀ and noise from an answer at x = √ᾱ·x₀ + √(1−ᾱ)·n.

    Args:
        prediction: ε or v.
        x: [b, c, h, w].
        answer: The denoiser's, alike.
        alphas: ᾱ [b].
    """
    a, s = roots(alphas)
    if prediction is Prediction.EPSILON:
        return Estimate((x - s * answer) / a.clamp_min(1e-6), answer)
    return Estimate(a * x - s * answer, s * x + a * answer)


def roots(alphas: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1−ᾱ), each [b, 1, 1, 1]."""
    return alphas.sqrt().view(-1, 1, 1, 1), (1.0 - alphas).clamp_min(0.0).sqrt().view(-1, 1, 1, 1)


def boundary(times: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out [b, 1, 1, 1] at times [b]: exactly 1 and 0 at 0, so that f(x, 0) = x whatever is learnt."""
    scaled = times.float() * TIME_SCALE
    root = (scaled.square() + SIGMA_DATA**2).sqrt()
    skip = (SIGMA_DATA / root).square()
    return skip.view(-1, 1, 1, 1), (scaled / root).view(-1, 1, 1, 1)


def pseudo_huber(error: Tensor, width: float) -> Tensor:
    """√(e² + width²) − width of every number: quadratic near zero, else the error's size."""
    return (error.square() + width**2).sqrt() - width


@dataclass(frozen=True)
class Ladder:
    """The teacher's solver's time steps.

    Attributes:
        times: Rising, int64 [n]; the last is the model's noisiest.
        alphas: ᾱ of each time step of the model, float64 [T].
    """

    times: NDArray[np.int64]
    alphas: NDArray[np.float64]

    @classmethod
    def of(cls, alphas: NDArray[np.float64], steps: int) -> Ladder:
        """`steps` of the model's T time steps, evenly: T/n − 1, 2T/n − 1, … T − 1."""
        count = min(steps, len(alphas))
        times = np.round(np.arange(1, count + 1) * len(alphas) / count).astype(np.int64) - 1
        return cls(times, alphas)

    def levels(self) -> Levels:
        """Draws the ladder's steps, each alike."""
        there = np.zeros(len(self.alphas))
        there[self.times] = 1.0 / len(self.times)
        return Levels(self.alphas, np.minimum(np.cumsum(there), 1.0))

    def places(self, times: Tensor) -> NDArray[np.int64]:
        """Which steps of the ladder time steps [b] are."""
        return np.searchsorted(self.times, times.cpu().numpy()).astype(np.int64)

    def time(self, places: NDArray[np.int64], device: torch.device) -> Tensor:
        """Time steps [b]; place −1, below the ladder, is time 0."""
        found = np.where(places >= 0, self.times[places.clip(0)], 0)
        return torch.from_numpy(found).to(device)

    def signal(self, places: NDArray[np.int64], device: torch.device) -> Tensor:
        """ᾱ float32 [b]; place −1 is the clean picture, 1."""
        found = np.where(places >= 0, self.alphas[self.times[places.clip(0)]], 1.0)
        return torch.from_numpy(found).to(device, torch.float32)
