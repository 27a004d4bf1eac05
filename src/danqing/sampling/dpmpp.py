"""DPM-Solver++ without memory of earlier noise: 2M, 2S ancestral and the single-step SDE solver.

Source: Lu et al. 2022 (arXiv:2211.01095); the arrangement in σ is k-diffusion's. With λ = −log σ a first-order step is
x' = (σ'/σ)·x + (1 − e^(−h))·D, which solves dx/dσ = (x − D)/σ for a constant D, so it holds for flow models too.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from danqing.sampling.parametrization import FLOW_CEILING, ancestral_step
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels


def towards(x: Tensor, denoised: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """The exact step from σ to σ' when D is constant."""
    ratio = sigma_next / sigma
    return ratio * x + (1.0 - ratio) * denoised


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """DPM-Solver++(2M): second order from one call per step."""
    s = levels(sigmas)
    before: Tensor | None = None
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        estimate = denoised
        if before is not None and s[i + 1] > 0:
            # (h / h_last) / 2, the weight of the extrapolation in λ
            weight = 0.5 * math.log(s[i] / s[i + 1]) / math.log(s[i - 1] / s[i])
            estimate = (1.0 + weight) * denoised - weight * before
        x = towards(x, estimate, s[i], s[i + 1])
        before = denoised
    return x


def _middle(sigma: float, sigma_down: float, *, flow: bool) -> float:
    """The level half-way in log signal-to-noise ratio."""
    if not flow:
        return math.sqrt(sigma * sigma_down)
    if sigma >= 1.0:
        return FLOW_CEILING
    odds = math.sqrt(sigma / (1.0 - sigma) * sigma_down / (1.0 - sigma_down))
    return odds / (1.0 + odds)


def dpmpp_2s_a(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver++(2S) with ancestral noise; two calls per step."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        denoised = yield from denoise(x, sigma)
        step = ancestral_step(sigma, sigma_next, options.eta_or(1.0), flow=options.flow)
        if step.sigma_down > 0:
            middle = _middle(sigma, step.sigma_down, flow=options.flow)
            denoised = yield from denoise(towards(x, denoised, sigma, middle), middle)
        x = step.scale * towards(x, denoised, sigma, step.sigma_down)
        if step.sigma_up > 0:
            x = x + noise.next(tuple(x.shape)) * (options.s_noise * step.sigma_up)
    return x
