"""Samplers for distilled models, and the CFG++ form of DDIM.

LCM: Luo et al. 2023 (arXiv:2310.04378). TCD: Zheng et al. 2024 (arXiv:2402.19159). CFG++: Chung et al. 2024
(arXiv:2406.08070).
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

from torch import Tensor

from danqing.sampling.parametrization import add_noise
from danqing.sampling.tables import SigmaTable
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Multistep consistency sampling: take the estimate, noise it to the next level."""
    for sigma, sigma_next in pairwise(levels(sigmas)):
        x = yield from denoise(x, sigma)
        if sigma_next > 0:
            fresh = noise.next(tuple(x.shape)) * options.s_noise
            x = add_noise(x, fresh, sigma_next, flow=options.flow)
    return x


@cache
def _stable_diffusion_table() -> SigmaTable:
    return SigmaTable.scaled_linear()


def tcd(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Strategic stochastic sampling: step below the next level by γ (eta) of its time, then noise back up."""
    earlier = options.earlier_sigma or _stable_diffusion_table().earlier_sigma
    gamma = options.eta_or(0.3)
    for sigma, sigma_next in pairwise(levels(sigmas)):
        denoised = yield from denoise(x, sigma)
        down = earlier(sigma_next, 1.0 - gamma) if sigma_next > 0 else 0.0
        down = min(down, sigma_next)
        x = denoised + (down / sigma) * (x - denoised)
        if gamma > 0 and sigma_next > 0:
            fresh = noise.next(tuple(x.shape)) * options.s_noise
            x = x + fresh * math.sqrt(sigma_next**2 - down**2)
    return x


def ddim_cfgpp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """DDIM that renoises with the unconditional estimate; without one it is plain DDIM."""
    for sigma, sigma_next in pairwise(levels(sigmas)):
        denoised = yield from denoise(x, sigma)
        other = denoised if options.unconditional is None else options.unconditional()
        slope = (x - other) / sigma
        kept = 1.0 - sigma_next if options.flow else 1.0
        # a flow's x is (1 − σ)·x₀ + σ·n, so its noise is x₀'s estimate plus the slope
        x = kept * denoised + sigma_next * (slope + other if options.flow else slope)
    return x
