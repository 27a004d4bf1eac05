"""DPM-Solver++ for the diffusion SDE: single step, 2M and 3M.

Source: Lu et al. 2022 (arXiv:2211.01095), § 5 and appendix; the third-order form and the arrangement in σ are
k-diffusion's. Fresh noise comes from a Brownian path, so that the picture settles as steps are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from danqing.sampling.dpmpp import towards
from danqing.sampling.parametrization import ancestral_step
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels

Correction = Callable[[Tensor, list[tuple[Tensor, float]], float, float], Tensor]
"""From the estimate, the earlier (estimate, h) newest first, h and (1 + η)·h: what to add to x."""


def _path(x: Tensor, s: list[float], noise: NoiseSource) -> Callable[[float, float], Tensor] | None:
    positive = [sigma for sigma in s if sigma > 0]
    if min(positive) == max(positive):
        return None
    return noise.brownian(tuple(x.shape), min(positive), max(positive)).between


def dpmpp_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver++ (SDE), single step: two calls per step, the second at r of the way in log σ."""
    s = levels(sigmas)
    between = _path(x, s, noise)
    eta, weight = options.eta_or(1.0), 1.0 / (2.0 * options.r)
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        if s[i + 1] == 0 or between is None:
            x = towards(x, denoised, s[i], s[i + 1])
            continue
        middle = s[i] ** (1.0 - options.r) * s[i + 1] ** options.r
        x_middle = _noisy_step(x, denoised, (s[i], middle), between, (eta, options.s_noise))
        second = yield from denoise(x_middle, middle)
        estimate = (1.0 - weight) * denoised + weight * second
        x = _noisy_step(x, estimate, (s[i], s[i + 1]), between, (eta, options.s_noise))
    return x


def _noisy_step(
    x: Tensor,
    estimate: Tensor,
    pair: tuple[float, float],
    between: Callable[[float, float], Tensor],
    amount: tuple[float, float],
) -> Tensor:
    (sigma, sigma_next), (eta, s_noise) = pair, amount
    step = ancestral_step(sigma, sigma_next, eta)
    x = towards(x, estimate, sigma, step.sigma_down)
    if step.sigma_up > 0:
        x = x + between(sigma, sigma_next) * (s_noise * step.sigma_up)
    return x


def _multistep(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    options: SamplerOptions,
    correct: Correction,
) -> Stepper:
    s = levels(sigmas)
    between = _path(x, s, noise)
    eta = options.eta_or(1.0)
    history: list[tuple[Tensor, float]] = []
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        if s[i + 1] == 0:
            return denoised
        h = math.log(s[i] / s[i + 1])
        h_eta = (1.0 + eta) * h
        x = math.exp(-h_eta) * x - math.expm1(-h_eta) * denoised + correct(denoised, history, h, h_eta)
        if eta > 0 and between is not None:
            spread = s[i + 1] * math.sqrt(-math.expm1(-2.0 * eta * h))
            x = x + between(s[i], s[i + 1]) * (options.s_noise * spread)
        history = [(denoised, h), *history][:2]
    return x


def _phi2(h: float) -> float:
    return math.expm1(-h) / h + 1.0


def _midpoint(denoised: Tensor, history: list[tuple[Tensor, float]], h: float, h_eta: float) -> Tensor:
    if not history:
        return denoised * 0.0
    before, h_last = history[0]
    return (-0.5 * math.expm1(-h_eta) * h / h_last) * (denoised - before)


def _heun(denoised: Tensor, history: list[tuple[Tensor, float]], h: float, h_eta: float) -> Tensor:
    if not history:
        return denoised * 0.0
    before, h_last = history[0]
    return (_phi2(h_eta) * h / h_last) * (denoised - before)


def _third(denoised: Tensor, history: list[tuple[Tensor, float]], h: float, h_eta: float) -> Tensor:
    if len(history) < 2:
        return _heun(denoised, history, h, h_eta)
    (one, h_one), (two, h_two) = history
    r0, r1 = h_one / h, h_two / h
    first, second = (denoised - one) / r0, (one - two) / r1
    curve = (first - second) / (r0 + r1)
    phi2 = _phi2(h_eta)
    return phi2 * (first + curve * r0) - (phi2 / h_eta - 0.5) * curve


def dpmpp_2m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver++(2M) SDE, midpoint form."""
    return (yield from _multistep(denoise, x, sigmas, noise, options, _midpoint))


def dpmpp_2m_sde_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions
) -> Stepper:
    """DPM-Solver++(2M) SDE, Heun form."""
    return (yield from _multistep(denoise, x, sigmas, noise, options, _heun))


def dpmpp_3m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver++(3M) SDE."""
    return (yield from _multistep(denoise, x, sigmas, noise, options, _third))
