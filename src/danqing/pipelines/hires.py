"""Hires fix: enlarge the picture of the pass before, then denoise it again."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, EncodeImage
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.passes import Start, run_pass
from danqing.spec.geometry import SizePx
from danqing.spec.registry.upscalers import UpscalerInfo, find_upscaler

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def hires(context: Context, index: int, before: Tensor | Image.Image) -> Step[Tensor]:
    """Latents [1, c, h, w] of a hires pass.

    Args:
        context: The Plan on its way.
        index: Which pass of the Plan.
        before: Latents of the pass before, or its finished picture.
    """
    planned = context.plan.passes[index]
    upscaler = find_upscaler(planned.upscaler or "latent")
    previous = context.key(context.plan.passes[index - 1].model)
    key = context.key(planned.model)
    # Latents of one model mean nothing to another: between models the picture goes through pixels.
    if upscaler.latent and isinstance(before, Tensor) and key == previous:
        latent_px = context.plan.passes[index - 1].size.width_px // before.shape[-1]
        latent = enlarge_latent(before, planned.size, upscaler, latent_px)
    else:
        if isinstance(before, Tensor):
            before = pixels.to_image((yield Decode(previous, before)))
        enlarged = before.resize(
            (planned.size.width_px, planned.size.height_px),
            _FILTERS.get(upscaler.interpolation, Image.Resampling.LANCZOS),
        )
        latent = yield EncodeImage(key, pixels.to_tensor(enlarged))
    if planned.strength == 0:
        return latent
    return (yield from run_pass(context, index, Start(latent)))


def enlarge_latent(latent: Tensor, size: SizePx, upscaler: UpscalerInfo, latent_scale: int) -> Tensor:
    """Latents [1, c, h, w] interpolated to the latent size of `size`; `latent_scale` is picture pixels per latent."""
    target = (size.height_px // latent_scale, size.width_px // latent_scale)
    if upscaler.interpolation in ("nearest", "nearest-exact"):
        return torch.nn.functional.interpolate(latent, size=target, mode=upscaler.interpolation)
    return torch.nn.functional.interpolate(
        latent, size=target, mode=upscaler.interpolation, antialias=upscaler.antialias
    )
