"""Samplers that look back at earlier slopes: LMS, PLMS and DEIS.

All extrapolate the noise estimate ε = (x − D)/σ = dx/dσ, so they hold for flow models too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from numpy.polynomial.polynomial import polyfromroots, polyint, polyval
from torch import Tensor

from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels


def lagrange_integrals(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """∫ of each Lagrange basis polynomial of `nodes` from start to end, exact.

    >>> lagrange_integrals([2.0], 0.0, 3.0)
    [3.0]
    """
    out: list[float] = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        # shifted to the node, so that high powers do not cancel
        area = polyint(polyfromroots([other - node for other in others]))
        scale = math.prod(node - other for other in others)
        out.append(float((polyval(end - node, area) - polyval(start - node, area)) / scale))
    return out


def _weighted(slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    out = slopes[0] * weights[0]
    for slope, weight in zip(slopes[1:], weights[1:], strict=True):
        out = out + slope * weight
    return out


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """Linear multistep: the slope's polynomial through the last levels, integrated over σ (k-diffusion)."""
    s = levels(sigmas)
    order = options.order or 4
    slopes: list[Tensor] = []
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        slopes = [(x - denoised) / s[i], *slopes][:order]
        nodes = [s[i - j] for j in range(len(slopes))]
        x = x + _weighted(slopes, lagrange_integrals(nodes, s[i], s[i + 1]))
    return x


_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def plms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """Pseudo linear multistep (Liu et al. 2022, arXiv:2202.09778), with an improved Euler step first.

    The weights are those of equal time steps, so use it with a schedule of equal time steps.
    """
    s = levels(sigmas)
    slopes: list[Tensor] = []
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        slopes = [(x - denoised) / s[i], *slopes][:4]
        step = s[i + 1] - s[i]
        slope = _weighted(slopes, _ADAMS_BASHFORTH[len(slopes) - 1])
        if i == 0 and s[1] > 0:
            end = x + slope * step
            denoised = yield from denoise(end, s[1])
            slope = (slope + (end - denoised) / s[1]) / 2
        x = x + slope * step
    return x


def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """DEIS (Zhang and Chen 2022, arXiv:2204.13902), the log-ρ multistep form; order 3 unless asked for.

    ε's polynomial in log σ through the last levels, integrated exactly over σ; the step to 0 is of first order.
    """
    s = levels(sigmas)
    order = options.order or 3
    slopes: list[Tensor] = []
    for i in range(len(s) - 1):
        denoised = yield from denoise(x, s[i])
        slopes = [(x - denoised) / s[i], *slopes][:order]
        if s[i + 1] == 0:
            return denoised
        nodes = [math.log(s[i - j]) for j in range(len(slopes))]
        x = x + _weighted(slopes, log_integrals(nodes, s[i], s[i + 1]))
    return x


def log_integrals(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """∫ dσ of each Lagrange basis polynomial in log σ, from start to end.

    Args:
        nodes: Logarithms of the levels.
        start: Level (not its logarithm).
        end: Level.
    """
    origin = math.log(start)
    width = math.log(end) - origin
    # ∫ uᵏ·e^u du by its recurrence, with u = log σ − log start
    moments = [math.expm1(width)]
    for k in range(1, len(nodes)):
        moments.append(width**k * math.exp(width) - k * moments[-1])
    out: list[float] = []
    for j, node in enumerate(nodes):
        others = [other for k, other in enumerate(nodes) if k != j]
        coefficients = polyfromroots([other - origin for other in others])
        scale = math.prod(node - other for other in others)
        area = sum(float(c) * moment for c, moment in zip(coefficients, moments, strict=True))
        out.append(start * area / scale)
    return out
