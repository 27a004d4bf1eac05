"""Euler, Heun and DPM2, plain and ancestral.

Sources: Karras et al. 2022 (arXiv:2206.00364), algorithm 2; Lu et al. 2022 (arXiv:2206.00927) for the midpoint in
log σ; Ho et al. 2020 (arXiv:2006.11239) for the ancestral noise; the arrangement is k-diffusion's.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from danqing.sampling.parametrization import ancestral_step, renoise
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels


def _churned(x: Tensor, sigma: float, steps: int, noise: NoiseSource, options: SamplerOptions) -> tuple[Tensor, float]:
    """Take x to a slightly higher level by fresh noise, as s_churn asks."""
    if options.s_churn <= 0:
        return x, sigma
    # drawn on every step, used or not, so that s_tmin and s_tmax do not shift the stream (k-diffusion does the same)
    fresh = noise.next(tuple(x.shape)) * options.s_noise
    if not options.s_tmin <= sigma <= options.s_tmax:
        return x, sigma
    sigma_hat = sigma * (1.0 + min(options.s_churn / steps, math.sqrt(2.0) - 1.0))
    if options.flow:
        sigma_hat = min(sigma_hat, 1.0)
        if sigma_hat <= sigma:
            return x, sigma
    return renoise(x, fresh, (sigma, sigma_hat), flow=options.flow), sigma_hat


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Euler's method; one call per step."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        x, sigma_hat = _churned(x, sigma, len(s) - 1, noise, options)
        denoised = yield from denoise(x, sigma_hat)
        x = x + (x - denoised) / sigma_hat * (sigma_next - sigma_hat)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Heun's method; two calls per step, one for the step to 0."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        x, sigma_hat = _churned(x, sigma, len(s) - 1, noise, options)
        denoised = yield from denoise(x, sigma_hat)
        slope = (x - denoised) / sigma_hat
        step = sigma_next - sigma_hat
        end = x + slope * step
        if sigma_next > 0:
            denoised = yield from denoise(end, sigma_next)
            end = x + (slope + (end - denoised) / sigma_next) * (step / 2)
        x = end
    return x


def dpm2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver-2 with its second call at the middle of log σ."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        x, sigma_hat = _churned(x, sigma, len(s) - 1, noise, options)
        x = yield from _midpoint(denoise, x, sigma_hat, sigma_next)
    return x


def _midpoint(denoise: Denoise, x: Tensor, sigma: float, sigma_next: float) -> Stepper:
    denoised = yield from denoise(x, sigma)
    slope = (x - denoised) / sigma
    if sigma_next > 0:
        middle = math.sqrt(sigma * sigma_next)
        x_middle = x + slope * (middle - sigma)
        denoised = yield from denoise(x_middle, middle)
        slope = (x_middle - denoised) / middle
    return x + slope * (sigma_next - sigma)


def euler_a(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Euler with ancestral noise; the same as DDIM with η, in σ."""
    return (yield from _ancestral_euler(denoise, x, sigmas, noise, options))


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DDIM (Song et al. 2020, arXiv:2010.02502), η = 0 unless asked for.

    Dividing its update by √ᾱ gives D + √(σ'² − σ_up²)·ε + σ_up·n with the σ_up of an ancestral Euler step.
    """
    return (yield from _ancestral_euler(denoise, x, sigmas, noise, options, default_eta=0.0))


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DDPM's ancestral sampling with the small posterior variance (Ho et al. 2020): DDIM at η = 1."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        x = yield from _ancestral_step(denoise, x, (sigma, sigma_next), 1.0, (noise, options))
    return x


def _ancestral_euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    options: SamplerOptions,
    *,
    default_eta: float = 1.0,
) -> Stepper:
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        x = yield from _ancestral_step(denoise, x, (sigma, sigma_next), options.eta_or(default_eta), (noise, options))
    return x


def _ancestral_step(
    denoise: Denoise, x: Tensor, pair: tuple[float, float], eta: float, rest: tuple[NoiseSource, SamplerOptions]
) -> Stepper:
    (sigma, sigma_next), (noise, options) = pair, rest
    denoised = yield from denoise(x, sigma)
    step = ancestral_step(sigma, sigma_next, eta, flow=options.flow)
    ratio = step.sigma_down / sigma
    x = step.scale * (ratio * x + (1.0 - ratio) * denoised)
    if step.sigma_up > 0:
        x = x + noise.next(tuple(x.shape)) * (options.s_noise * step.sigma_up)
    return x


def dpm2_a(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM2 with ancestral noise."""
    s = levels(sigmas)
    for sigma, sigma_next in pairwise(s):
        step = ancestral_step(sigma, sigma_next, options.eta_or(1.0), flow=options.flow)
        x = step.scale * (yield from _midpoint(denoise, x, sigma, step.sigma_down))
        if step.sigma_up > 0:
            x = x + noise.next(tuple(x.shape)) * (options.s_noise * step.sigma_up)
    return x
