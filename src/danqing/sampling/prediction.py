"""From what a network predicts (ε, v, x₀ or flow) to D(x, σ), the estimate of the clean latent.

The network sees c_in·x. Its answer F gives D = c_skip·x + c_out·F. For the variance-exploding x = x₀ + σ·n these are
Karras et al. 2022 (arXiv:2206.00364), table 1, for a network trained on the variance-preserving x/√(1 + σ²);
v is Salimans and Ho 2022 (arXiv:2202.00512).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Prediction(StrEnum):
    """What the network predicts; the values are diffusers' `prediction_type`."""

    EPSILON = "epsilon"
    V = "v_prediction"
    SAMPLE = "sample"
    FLOW = "flow_prediction"


@dataclass(frozen=True)
class Scalings:
    """Factors around the network at one level, or one per row [b, 1, 1, 1].

    Attributes:
        c_in: On x, before the network.
        c_skip: On x, after it.
        c_out: On the network's answer.
    """

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


def _epsilon(sigma: Tensor) -> Scalings:
    return Scalings((sigma**2 + 1).rsqrt(), torch.ones_like(sigma), -sigma)


def _v(sigma: Tensor) -> Scalings:
    root = (sigma**2 + 1).rsqrt()
    return Scalings(root, root**2, -sigma * root)


def _sample(sigma: Tensor) -> Scalings:
    return Scalings((sigma**2 + 1).rsqrt(), torch.zeros_like(sigma), torch.ones_like(sigma))


def _flow(sigma: Tensor) -> Scalings:
    one = torch.ones_like(sigma)
    return Scalings(one, one, -sigma)


_SCALINGS = {
    Prediction.EPSILON: _epsilon,
    Prediction.V: _v,
    Prediction.SAMPLE: _sample,
    Prediction.FLOW: _flow,
}


def scalings(prediction: Prediction, sigma: Tensor | float, ndim: int = 4) -> Scalings:
    """The factors at σ.

    Args:
        prediction: What the network predicts.
        sigma: One level, or one per row [b].
        ndim: Dimensions of x, so that rows broadcast.
    """
    level = torch.as_tensor(sigma, dtype=torch.float32)
    if level.ndim == 1:
        level = level.reshape(-1, *([1] * (ndim - 1)))
    return _SCALINGS[prediction](level)


def denoised_from(prediction: Prediction, x: Tensor, output: Tensor, sigma: Tensor | float) -> Tensor:
    """D(x, σ) from the network's answer.

    Args:
        prediction: What the network predicts.
        x: Noisy latents [b, c, h, w].
        output: The network's answer [b, c, h, w].
        sigma: One level, or one per row [b].
    """
    c = scalings(prediction, sigma, x.ndim)
    return c.c_skip.to(x) * x + c.c_out.to(x) * output.to(x.dtype)


def network_input(prediction: Prediction, x: Tensor, sigma: Tensor | float) -> Tensor:
    """What the network is shown: c_in·x [b, c, h, w]."""
    return scalings(prediction, sigma, x.ndim).c_in.to(x) * x


def output_from(prediction: Prediction, x: Tensor, denoised: Tensor, sigma: Tensor | float) -> Tensor:
    """The network's answer that means this D: the inverse of `denoised_from`."""
    c = scalings(prediction, sigma, x.ndim)
    return (denoised - c.c_skip.to(x) * x) / c.c_out.to(x)


def consistency_boundary(x: Tensor, denoised: Tensor, sigma: float, model_time: float) -> Tensor:
    """D bound to x at time 0, as consistency models are trained (Luo et al. 2023, arXiv:2310.04378).

    Args:
        x: Noisy latents, variance exploding [b, c, h, w].
        denoised: The network's estimate of x₀ [b, c, h, w].
        sigma: The level of x.
        model_time: The time step the network was told.
    """
    data, scaled = 0.5, model_time * 10.0
    skip = data**2 / (scaled**2 + data**2)
    out = scaled / (scaled**2 + data**2) ** 0.5
    return skip * x / (sigma**2 + 1) ** 0.5 + out * denoised
