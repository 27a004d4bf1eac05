"""UniPC: one predictor and one corrector from the same call (Zhao et al. 2023, arXiv:2302.04867).

The data-prediction multistep form with B(h) = h ("bh1") or eʰ − 1 ("bh2"), divided by α so that it runs in σ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from danqing.sampling.types import Denoise, NoiseSource, SamplerOptions, Stepper, levels
from danqing.spec.errors import InvalidRequestError


@dataclass(frozen=True)
class _Weights:
    """Numbers of one step: x' = ratio·x + first·D₀ − b·(Σ predictor·Dₖ), and the same with the corrector."""

    ratio: float
    first: float
    b: float
    predictor: list[float]
    corrector: list[float]
    spans: list[float]


def _weights(lambdas: list[float], target: float, variant: str) -> _Weights:
    """The numbers for a step to λ = target from known λ, newest first."""
    h = target - lambdas[0]
    order = len(lambdas)
    spans = [(lam - lambdas[0]) / h for lam in lambdas[1:]]
    phi = math.expm1(-h)
    b_h = phi if variant == "bh2" else -h
    series, factorial, rhs = phi / -h - 1.0, 1.0, list[float]()
    for k in range(1, order + 1):
        rhs.append(series * factorial / b_h)
        factorial *= k + 1
        series = series / -h - 1.0 / factorial
    matrix = np.vander([*spans, 1.0], order, increasing=True).T
    # order 1 and 2 take ½, as the paper's appendix and every implementation do, to save a solve that is ill-conditioned
    corrector = [0.5] if order == 1 else [float(v) for v in np.linalg.solve(matrix, np.asarray(rhs))]
    if order <= 2:
        predictor = [0.5] * (order - 1)
    else:
        predictor = [float(v) for v in np.linalg.solve(matrix[:-1, :-1], np.asarray(rhs[:-1]))]
    return _Weights(math.exp(-h), -phi, b_h, predictor, corrector, spans)


def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions) -> Stepper:  # noqa: ARG001
    """UniPC, order 3 unless asked for; lower orders at the start, and at the end if so set.

    Raises:
        InvalidRequestError: If the variant is unknown.
    """
    if options.variant not in {"bh1", "bh2"}:
        raise InvalidRequestError(
            "there is no UniPC variant of this name", field="variant", value=options.variant, allowed="bh1, bh2"
        )
    s = levels(sigmas)
    order, steps = options.order or 3, len(s) - 1
    estimates = [(yield from denoise(x, s[0]))]
    for i in range(steps):
        if s[i + 1] == 0:
            return estimates[0]
        depth = min(order, i + 1, steps - i if options.lower_order_final else order)
        w = _weights([-math.log(s[i - k]) for k in range(depth)], -math.log(s[i + 1]), options.variant)
        base = w.ratio * x + w.first * estimates[0]
        slopes = [(estimates[k + 1] - estimates[0]) / span for k, span in enumerate(w.spans)]
        x = _moved(base, slopes, w.predictor, w.b)
        if i == steps - 1:
            return x
        newest = yield from denoise(x, s[i + 1])
        x = _moved(base, [*slopes, newest - estimates[0]], w.corrector, w.b)
        estimates = [newest, *estimates][:order]
    return x


def _moved(base: Tensor, slopes: list[Tensor], weights: list[float], b_h: float) -> Tensor:
    for slope, weight in zip(slopes, weights, strict=True):
        base = base - (b_h * weight) * slope
    return base
