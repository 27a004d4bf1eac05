"""A world in which the perfect model is known: pictures are drawn from N(MU, SD²), element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor

from danqing.sampling.noise import NoiseSettings, PictureNoise
from danqing.sampling.restart import karras
from danqing.sampling.samplers import SAMPLERS
from danqing.sampling.types import NoiseSource, SamplerOptions

MU, SD = 0.7, 0.5
SIGMA_MAX, SIGMA_MIN = 14.6146, 0.0292

Estimate = Callable[[Tensor, float], Tensor]


def ideal(x: Tensor, sigma: float) -> Tensor:
    """D(x, σ) for x = x₀ + σ·n."""
    return (SD**2 * x + sigma**2 * MU) / (SD**2 + sigma**2)


def ideal_flow(x: Tensor, sigma: float) -> Tensor:
    """D(x, σ) for x = (1 − σ)·x₀ + σ·n."""
    kept = 1.0 - sigma
    return MU + kept * SD**2 / (kept**2 * SD**2 + sigma**2) * (x - kept * MU)


def spread(sigma: float, *, flow: bool = False) -> float:
    """Standard deviation of x at σ."""
    return math.sqrt((1 - sigma if flow else 1.0) ** 2 * SD**2 + sigma**2)


def centre(sigma: float, *, flow: bool = False) -> float:
    """Mean of x at σ."""
    return MU * (1 - sigma) if flow else MU


def on_curve(x0: Tensor, sigma0: float, sigma: float, *, flow: bool = False) -> Tensor:
    """Where the ODE takes x₀ from σ₀ to σ, in closed form."""
    ratio = spread(sigma, flow=flow) / spread(sigma0, flow=flow)
    return centre(sigma, flow=flow) + (x0 - centre(sigma0, flow=flow)) * ratio


def karras_levels(n: int) -> Tensor:
    """σ 14.6146 → 0.0292 in n steps, float64 [n + 1]."""
    return torch.tensor(karras(n + 1, SIGMA_MIN, SIGMA_MAX), dtype=torch.float64)


def drive(
    key: str,
    x: Tensor,
    sigmas: Tensor,
    options: SamplerOptions | None = None,
    *,
    noise: NoiseSource | None = None,
    model: Estimate = ideal,
) -> tuple[Tensor, int]:
    """Run a sampler to its end; its last x and how often it asked the model."""

    def denoise(at: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        return (yield at, sigma)

    source = noise or PictureNoise(NoiseSettings(1))
    running = SAMPLERS[key](denoise, x, sigmas, source, options or SamplerOptions())
    calls = 0
    try:
        question = next(running)
        while True:
            calls += 1
            question = running.send(model(*question))
    except StopIteration as end:
        return end.value, calls


class Scripted:
    """A noise source that hands out the tensors of one generator, for Brownian and plain requests alike."""

    def __init__(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> None:
        self.generator = generator
        self.dtype = dtype

    def initial(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=self.dtype)

    next = initial

    def brownian(self, shape: tuple[int, ...], sigma_min: float, sigma_max: float) -> Scripted:
        self.shape = shape
        return self

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return self.initial(self.shape)

    def rows(self) -> list[NoiseSource]:
        return [self]
