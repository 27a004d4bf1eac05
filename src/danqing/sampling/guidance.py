"""Guidance: from the answers for several prompts to one estimate. Pure functions on tensors; rows never mix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GuidanceSettings:
    """How a run is guided.

    Attributes:
        scale: CFG scale; 1 means the prompt alone.
        rescale: φ of CFG rescale, 0 to 1; 0 is off.
        threshold_percentile: Percentile of dynamic thresholding, 0 to 1; None is off.
        mimic_scale: CFG scale whose range dynamic thresholding keeps; None keeps the prompt's own range.
        pag_scale: Perturbed-attention guidance; 0 is off.
        sigma_start: Guidance only at or below this level.
        sigma_end: Guidance only above this level.
        skip_early: Share of the steps at the start that go without the negative prompt.
        s_min_uncond: Below this level every other step goes without the negative prompt ("NGMS"); 0 is off.
        every_step: With NGMS, whether every step rather than every other goes without.
        window: Shares of the steps between which the negative prompt is asked for.
        always_uncond: Whether every call needs the negative prompt, as CFG++ samplers do.
    """

    scale: float = 7.0
    rescale: float = 0.0
    threshold_percentile: float | None = None
    mimic_scale: float | None = None
    pag_scale: float = 0.0
    sigma_start: float = math.inf
    sigma_end: float = 0.0
    skip_early: float = 0.0
    s_min_uncond: float = 0.0
    every_step: bool = False
    always_uncond: bool = False
    window: tuple[float, float] = (0.0, 1.0)


def needs_uncond(
    settings: GuidanceSettings, sigma: float, step: int, steps: int, weights: Sequence[float] = (1.0,)
) -> bool:
    """Whether this call needs the negative prompt's answer; without it use `combine_alone`.

    Args:
        settings: How the run is guided.
        sigma: The call's level.
        step: Number of the call, from 0.
        steps: Calls of the whole run.
        weights: The parts' weights.
    """
    if settings.always_uncond:
        return True
    if math.isclose(settings.scale * sum(weights), 1.0):
        # the negative prompt's answer cancels out of the combination
        return len(weights) != 1
    if not settings.sigma_end < sigma <= settings.sigma_start:
        return False
    if not settings.window[0] * steps <= step < settings.window[1] * steps:
        return False
    if settings.skip_early > 0 and step <= settings.skip_early * steps:
        return False
    below = settings.s_min_uncond > 0 and sigma < settings.s_min_uncond
    return not (below and (settings.every_step or step % 2 == 1))


def combine(uncond: Tensor, conds: Sequence[Tensor], weights: Sequence[float], scale: float) -> Tensor:
    """Classifier-free guidance with any number of parts (AND): u + Σ wᵢ·s·(cᵢ − u).

    Args:
        uncond: Estimate for the negative prompt [b, c, h, w].
        conds: Estimates for the parts, each [b, c, h, w].
        weights: The parts' weights.
        scale: CFG scale.
    """
    out = uncond.clone()
    for cond, weight in zip(conds, weights, strict=True):
        out += (weight * scale) * (cond - uncond)
    return out


def combine_alone(conds: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The parts without a negative prompt: the first stands in for it, at scale 1, as AUTOMATIC1111 does."""
    return combine(conds[0], conds, weights, 1.0)


def perturbed_attention(guided: Tensor, cond: Tensor, perturbed: Tensor, scale: float) -> Tensor:
    """PAG: away from the answer with attention switched off (Ahn et al. 2024, arXiv:2403.17377).

    Args:
        guided: Estimate so far [b, c, h, w].
        cond: Estimate for the prompt [b, c, h, w].
        perturbed: Estimate for the prompt with perturbed self-attention [b, c, h, w].
        scale: Strength.
    """
    return guided + scale * (cond - perturbed)


def image_and_text(answers: tuple[Tensor, Tensor, Tensor], scale: float, image_scale: float) -> Tensor:
    """InstructPix2Pix guidance (Brooks et al. 2022, arXiv:2211.09800, eq. 3).

    Args:
        answers: Estimates with text and image, with the image alone, and with neither; each [b, c, h, w].
        scale: Text scale.
        image_scale: Image scale.
    """
    full, image, neither = answers
    return neither + scale * (full - image) + image_scale * (image - neither)


def _per_row(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def rescale(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """CFG rescale: gives the guided estimate the spread of the unguided one (Lin et al. 2023, arXiv:2305.08891, § 3.4).

    Args:
        guided: Network answer after guidance [b, c, h, w].
        cond: Network answer for the prompt [b, c, h, w].
        phi: How much, 0 to 1.
    """
    dims = _per_row(cond)
    ratio = cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (phi * ratio + (1.0 - phi))


def rescale_denoised(guided: Tensor, cond: Tensor, level: tuple[Tensor, float], phi: float) -> Tensor:
    """CFG rescale of estimates of x₀, applied where it was published: on v (x variance exploding).

    Args:
        guided: Guided estimate of x₀ [b, c, h, w].
        cond: The prompt's estimate of x₀ [b, c, h, w].
        level: x [b, c, h, w] and its σ.
        phi: How much, 0 to 1.
    """
    x, sigma = level
    root = math.sqrt(sigma**2 + 1.0)
    base = x / root**2

    def velocity(estimate: Tensor) -> Tensor:
        return (base - estimate) * (root / sigma)

    return base - rescale(velocity(guided), velocity(cond), phi) * (sigma / root)


def _quantile(x: Tensor, share: float) -> Tensor:
    """Percentile of each row's magnitudes [b, 1, 1, 1]; torch.quantile refuses rows beyond 2²⁴ elements."""
    flat = x.abs().flatten(1)
    at = share * (flat.shape[1] - 1)
    low, high = math.floor(at), math.ceil(at)
    ordered = flat.sort(dim=1).values
    value = torch.lerp(ordered[:, low], ordered[:, high], at - low)
    return value.reshape(-1, *([1] * (x.ndim - 1)))


def clip_dynamically(x0: Tensor, percentile: float, limit: Tensor) -> Tensor:
    """Dynamic thresholding of Imagen: clip to a percentile and scale back (Saharia et al. 2022, arXiv:2205.11487).

    Args:
        x0: Estimate [b, c, h, w].
        percentile: 0 to 1.
        limit: Magnitude each row is brought back to, and below which nothing is changed [b, 1, 1, 1].
    """
    bound = torch.maximum(_quantile(x0, percentile), limit)
    return torch.minimum(torch.maximum(x0, -bound), bound) * (limit / bound)


def mimic(guided: Tensor, gentle: Tensor, percentile: float) -> Tensor:
    """Dynamic thresholding with a mimic scale: high guidance in the range of a low one, channel by channel.

    Args:
        guided: Estimate at the wanted scale [b, c, h, w].
        gentle: Estimate at the mimic scale [b, c, h, w].
        percentile: Share of the guided values that is not clipped, 0 to 1.
    """
    centre_g = gentle.mean(dim=(-2, -1), keepdim=True)
    centre_h = guided.mean(dim=(-2, -1), keepdim=True)
    small = (gentle - centre_g).abs().amax(dim=(-2, -1), keepdim=True)
    around = guided - centre_h
    rows, channels = around.shape[:2]
    top = _quantile(around.reshape(rows * channels, -1), percentile).reshape(rows, channels, 1, 1)
    bound = torch.maximum(top, small)
    clipped = torch.minimum(torch.maximum(around, -bound), bound)
    return clipped * (small / bound.clamp(min=torch.finfo(bound.dtype).tiny)) + centre_h


def guide(
    settings: GuidanceSettings,
    uncond: Tensor,
    conds: Sequence[Tensor],
    weights: Sequence[float],
    level: tuple[Tensor, float],
) -> Tensor:
    """The whole chain on estimates of x₀: combine, threshold, rescale.

    Args:
        settings: How the run is guided.
        uncond: Estimate for the negative prompt [b, c, h, w].
        conds: Estimates for the parts, each [b, c, h, w].
        weights: The parts' weights.
        level: x [b, c, h, w] and its σ.
    """
    out = combine(uncond, conds, weights, settings.scale)
    if settings.threshold_percentile is not None:
        if settings.mimic_scale is None:
            limit = _quantile(conds[0], settings.threshold_percentile)
            out = clip_dynamically(out, settings.threshold_percentile, limit)
        else:
            gentle = combine(uncond, conds, weights, settings.mimic_scale)
            out = mimic(out, gentle, settings.threshold_percentile)
    if settings.rescale > 0:
        out = rescale_denoised(out, combine(uncond, conds, weights, 1.0), level, settings.rescale)
    return out
