"""Restart: go back up to a noisier level and come down again (Xu et al. 2023, arXiv:2306.14878).

When and how often is AUTOMATIC1111's rule: nothing below 20 steps, one restart from σ ≈ 2 at 20 to 35, two from 36.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from danqing.sampling.parametrization import renoise
from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels

_RESTART_AT = 0.1
_RESTART_TO = 2.0


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """The levels of Karras et al. (2022), without the 0 at the end [n]."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [float((high + i / max(n - 1, 1) * (low - high)) ** rho) for i in range(n)]


def _nearest(s: list[float], value: float) -> int:
    return min(range(len(s)), key=lambda i: abs(s[i] - value))


def restart_steps(s: list[float]) -> list[tuple[float, float]]:
    """The (from, to) pairs of a run over levels `s`, restarts included."""
    steps = len(s) - 1
    if steps < 20:
        return list(pairwise(s))
    length, times = (9, 1) if steps < 36 else (steps // 4, 2)
    if s[-1] > 0:
        base = karras(steps - length * times + 1, s[-1], s[0])
    else:
        base = [*karras(steps - length * times, s[-2], s[0]), 0.0]
    low, high = _nearest(base, _RESTART_AT), _nearest(base, _RESTART_TO)
    out: list[tuple[float, float]] = []
    for i, pair in enumerate(pairwise(base)):
        out.append(pair)
        if i + 1 == low and high < low:
            again = karras(length + 1, base[low], base[high])
            out += list(pairwise(again)) * times
    return out


def restart(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:
    """Heun's method with restarts."""
    last: float | None = None
    for sigma, sigma_next in restart_steps(levels(sigmas)):
        if last is not None and last < sigma:
            x = renoise(x, noise.next(tuple(x.shape)) * options.s_noise, (last, sigma), flow=options.flow)
        denoised = yield from denoise(x, sigma)
        slope = (x - denoised) / sigma
        step = sigma_next - sigma
        end = x + slope * step
        if sigma_next > 0:
            denoised = yield from denoise(end, sigma_next)
            end = x + (slope + (end - denoised) / sigma_next) * (step / 2)
        x, last = end, sigma_next
    return x
