"""How x is made of picture and noise: variance exploding (x = x₀ + σ·n) or flow (x = (1 − σ)·x₀ + σ·n).

In both, the probability-flow ODE is dx/dσ = (x − D(x, σ))/σ, so deterministic samplers need not know which it is.
Steps that add noise do. Sources: Karras et al. 2022 (arXiv:2206.00364); Lipman et al. 2022 (arXiv:2210.02747).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from danqing.sampling.types import Denoise, NoiseSource, SamplerFunction, SamplerOptions, Stepper

FLOW_CEILING = 0.9999
"""Highest flow σ with a finite signal-to-noise ratio that samplers use in place of 1."""


@dataclass(frozen=True)
class AncestralStep:
    """A step that goes below its target and adds noise back.

    Attributes:
        sigma_down: The level to step down to.
        scale: Factor on x after the step down.
        sigma_up: Standard deviation of the noise added then.
    """

    sigma_down: float
    scale: float
    sigma_up: float


def alpha(sigma: float, *, flow: bool) -> float:
    """The factor on x₀ at this level."""
    return 1.0 - sigma if flow else 1.0


def add_noise(x0: Tensor, noise: Tensor, sigma: float, *, flow: bool = False) -> Tensor:
    """Noise a clean latent with unit noise to level σ; both [b, c, h, w]."""
    return alpha(sigma, flow=flow) * x0 + sigma * noise


def renoise(x: Tensor, noise: Tensor, levels: tuple[float, float], *, flow: bool = False) -> Tensor:
    """Take x from levels[0] up to the noisier levels[1] by fresh unit noise."""
    low, high = levels
    scale = alpha(high, flow=flow) / alpha(low, flow=flow)
    return scale * x + noise * math.sqrt(max(high**2 - (scale * low) ** 2, 0.0))


def ancestral_step(sigma: float, sigma_next: float, eta: float, *, flow: bool = False) -> AncestralStep:
    """How to step from σ to a lower σ with a share `eta` of fresh noise.

    Args:
        sigma: The current level.
        sigma_next: The target level.
        eta: 0 for none; 1 for the full ancestral amount.
        flow: Which parametrization.

    >>> step = ancestral_step(2.0, 1.0, 1.0)
    >>> round(step.sigma_down, 6), round(step.sigma_up, 6)
    (0.5, 0.866025)
    """
    if eta == 0 or sigma_next == 0:
        return AncestralStep(sigma_next, 1.0, 0.0)
    if flow:
        down = max(sigma_next * (1.0 + (sigma_next / sigma - 1.0) * eta), 0.0)
        scale = (1.0 - sigma_next) / (1.0 - down)
        return AncestralStep(down, scale, math.sqrt(max(sigma_next**2 - (down * scale) ** 2, 0.0)))
    up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return AncestralStep(math.sqrt(sigma_next**2 - up**2), 1.0, up)


def to_ve(sigma: float) -> float:
    """The variance-exploding σ with the signal-to-noise ratio of a flow σ."""
    bounded = min(sigma, FLOW_CEILING)
    return bounded / (1.0 - bounded)


def from_ve(sigma: float) -> float:
    """The flow σ with the signal-to-noise ratio of a variance-exploding σ.

    >>> from_ve(3.0)
    0.75
    """
    return sigma / (1.0 + sigma)


def in_ve(sampler: SamplerFunction) -> SamplerFunction:
    """The same sampler, running a flow model in variance-exploding form: x/(1 − σ) at σ/(1 − σ)."""

    def run(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
        if not options.flow:
            return (yield from sampler(denoise, x, sigmas, noise, options))

        def scaled(y: Tensor, sigma_ve: float) -> Stepper:
            sigma = from_ve(sigma_ve)
            return (yield from denoise(y * (1.0 - sigma), sigma))

        bounded = sigmas.double().clamp(max=FLOW_CEILING)
        exploding = bounded / (1.0 - bounded)
        y = x / (1.0 - float(bounded[0]))
        y = yield from sampler(scaled, y, exploding, noise, replace(options, flow=False))
        return y * (1.0 - float(bounded[-1]))

    return run
