"""DPM-Solver with mixed orders: fast (a given number of calls) and adaptive (a given exactness).

Source: Lu et al. 2022 (arXiv:2206.00927), algorithms 1, 2 and the appendix; the PID step control and the ancestral
noise are k-diffusion's. Both stop at the last level above 0, as there.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danqing.sampling.parametrization import ancestral_step
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels

_TINY = 1e-8
_SAME_LAMBDA = 1e-5
_MAX_ATTEMPTS = 2000


def _noise_estimate(denoise: Denoise, x: Tensor, lam: float) -> Stepper:
    sigma = math.exp(-lam)
    denoised = yield from denoise(x, sigma)
    return (x - denoised) / sigma


def _first(x: Tensor, eps: Tensor, ends: tuple[float, float]) -> Tensor:
    start, end = ends
    return x - (math.exp(-end) * math.expm1(end - start)) * eps


def _second(denoise: Denoise, x: Tensor, eps: Tensor, ends: tuple[float, float], r1: float = 0.5) -> Stepper:
    start, end = ends
    h = end - start
    middle = start + r1 * h
    eps_middle = yield from _noise_estimate(denoise, _first(x, eps, (start, middle)), middle)
    return _second_from(x, eps, eps_middle, ends, r1)


def _second_from(x: Tensor, eps: Tensor, eps_middle: Tensor, ends: tuple[float, float], r1: float) -> Tensor:
    factor = math.exp(-ends[1]) * math.expm1(ends[1] - ends[0])
    return x - factor * eps - (factor / (2.0 * r1)) * (eps_middle - eps)


def _third(
    denoise: Denoise, x: Tensor, eps: Tensor, ends: tuple[float, float]
) -> Generator[Any, Any, tuple[Tensor, Tensor]]:
    """The third-order step, and the second-order one that shares its first middle call."""
    start, end = ends
    h, r1, r2 = end - start, 1 / 3, 2 / 3
    s1, s2 = start + r1 * h, start + r2 * h
    eps1 = yield from _noise_estimate(denoise, _first(x, eps, (start, s1)), s1)
    bend = math.expm1(r2 * h) / (r2 * h) - 1.0
    u2 = _first(x, eps, (start, s2)) - (math.exp(-s2) * (r2 / r1) * bend) * (eps1 - eps)
    eps2 = yield from _noise_estimate(denoise, u2, s2)
    bend = math.expm1(h) / h - 1.0
    third = _first(x, eps, ends) - (math.exp(-end) / r2 * bend) * (eps2 - eps)
    return third, _second_from(x, eps, eps1, ends, r1)


def _range(sigmas: Tensor) -> tuple[float, float]:
    positive = [sigma for sigma in levels(sigmas) if sigma > 0]
    return -math.log(positive[0]), -math.log(positive[-1])


def _no_range(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Stepper:
    """A run with a single level above 0: the estimate itself, or nothing to do."""
    s = levels(sigmas)
    return (yield from denoise(x, s[0])) if s[-1] == 0 else x


def _lowered(start: float, end: float, last: float, eta: float) -> tuple[float, float]:
    """Where to step in λ when noise is added after, and how much."""
    if eta == 0:
        return end, 0.0
    down = ancestral_step(math.exp(-start), math.exp(-end), eta).sigma_down
    below = min(last, -math.log(down)) if down > 0 else last
    return below, math.sqrt(max(math.exp(-2.0 * end) - math.exp(-2.0 * below), 0.0))


def dpm_fast(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver-fast: as many third-order steps as the number of calls allows, evenly in log σ."""
    start, last = _range(sigmas)
    calls = len(sigmas) - 1
    count = calls // 3 + 1
    orders = [3] * (count - 2) + [2, 1] if calls % 3 == 0 else [3] * (count - 1) + [calls % 3]
    eta = options.eta_or(1.0)
    if last <= start:
        return (yield from _no_range(denoise, x, sigmas))
    for i, order in enumerate(orders):
        now, then = (start + (last - start) * j / len(orders) for j in (i, i + 1))
        target, spread = _lowered(now, then, last, eta)
        eps = yield from _noise_estimate(denoise, x, now)
        if order == 1:
            x = _first(x, eps, (now, target))
        elif order == 2:
            x = yield from _second(denoise, x, eps, (now, target))
        else:
            x, _ = yield from _third(denoise, x, eps, (now, target))
        if spread > 0:
            x = x + noise.next(tuple(x.shape)) * (options.s_noise * spread)
    return x


@dataclass
class _StepControl:
    """A PID controller of the step length (k-diffusion's form of Söderlind 2003)."""

    h: float
    exponents: tuple[float, float, float]
    accept_safety: float
    errors: tuple[float, float, float] | None = None

    def propose(self, error: float) -> bool:
        """Set the next step from this step's error; whether this step is accepted."""
        inverse = 1.0 / (error + _TINY)
        _, one, two = self.errors or (inverse, inverse, inverse)
        factor = inverse ** self.exponents[0] * one ** self.exponents[1] * two ** self.exponents[2]
        factor = 1.0 + math.atan(factor - 1.0)
        accepted = factor >= self.accept_safety
        self.errors = (inverse, inverse, one) if accepted else (inverse, one, two)
        self.h *= factor
        return accepted


def dpm_adaptive(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """DPM-Solver-12 or -23 with step control; each picture of the batch takes its own steps."""
    rows = noise.rows() if len(x) > 1 else [noise]
    if len(rows) != len(x):
        rows = [noise] * len(x)
    now, last = _range(sigmas)
    if last <= now:
        return (yield from _no_range(denoise, x, sigmas))
    out: list[Tensor] = []
    for i, source in enumerate(rows):
        out.append((yield from _adaptive(denoise, x[i : i + 1], sigmas, source, options)))
    return torch.cat(out)


def _adaptive(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    now, last = _range(sigmas)
    order, eta = options.order or 3, options.eta_or(1.0)
    p, i, d = options.pcoeff, options.icoeff, options.dcoeff
    by = 1.5 if eta else float(order)
    control = _StepControl(options.h_init, ((p + i + d) / by, -(p + 2 * d) / by, d / by), options.accept_safety)
    before = x
    for _ in range(_MAX_ATTEMPTS):
        if now >= last - _SAME_LAMBDA:
            return x
        then = min(last, now + control.h)
        target, spread = _lowered(now, then, last, eta)
        eps = yield from _noise_estimate(denoise, x, now)
        if order <= 2:
            low = _first(x, eps, (now, target))
            high = yield from _second(denoise, x, eps, (now, target))
        else:
            high, low = yield from _third(denoise, x, eps, (now, target))
        allowed = torch.clamp(options.rtol * torch.maximum(low.abs(), before.abs()), min=options.atol)
        error = float(((low - high) / allowed).square().mean().sqrt())
        if control.propose(error):
            before, x, now = low, high, then
            if spread > 0:
                x = x + noise.next(tuple(x.shape)) * (options.s_noise * spread)
    raise RuntimeError(f"DPM adaptive did not reach the end in {_MAX_ATTEMPTS} attempts: loosen rtol and atol")
