"""Hires fix: enlarge the picture of the pass before, then denoise it again."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, EncodeImage
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Scene
from danqing.pipelines.foreign import Given, foreign_pass
from danqing.pipelines.passes import Start, run_pass
from danqing.pipelines.upscale import FILTERS, enlarge
from danqing.spec.geometry import SizePx
from danqing.spec.registry.upscalers import UpscalerInfo, find_upscaler


def hires(context: Context, index: int, before: Tensor | Image.Image) -> Step[Tensor | Image.Image]:
    """Latents [1, c, h, w] of a hires pass; the picture where a pipeline paints it as a whole.

    Args:
        context: The Plan on its way.
        index: Which pass of the Plan.
        before: Latents of the pass before, or its finished picture.
    """
    planned = context.plan.passes[index]
    if planned.pipeline is not None:
        return (yield from _foreign(context, index, before))
    upscaler = None if planned.upscaler_file is not None else find_upscaler(planned.upscaler or "latent")
    previous = context.key(context.plan.passes[index - 1].model)
    key = context.key(planned.model)
    scene = _scene(context, index)
    # Latents of one model mean nothing to another: between models the picture goes through pixels.
    if upscaler is not None and upscaler.latent and isinstance(before, Tensor) and key == previous:
        latent_px = context.plan.passes[index - 1].size.width_px // before.shape[-1]
        latent = enlarge_latent(before, planned.size, upscaler, latent_px)
    else:
        if isinstance(before, Tensor):
            before = pixels.to_image((yield Decode(previous, before)))
        size = (planned.size.width_px, planned.size.height_px)
        if planned.upscaler_file is not None:
            enlarged = yield from enlarge(planned.upscaler_file, before, size)
        else:
            interpolation = "" if upscaler is None else upscaler.interpolation
            enlarged = before.resize(size, FILTERS.get(interpolation, Image.Resampling.LANCZOS))
        latent = yield EncodeImage(key, pixels.to_tensor(enlarged))
        scene = Scene(enlarged)
    if planned.strength == 0:
        return latent
    return (yield from run_pass(context, index, Start(latent, scene=scene)))


def _foreign(context: Context, index: int, before: Tensor | Image.Image) -> Step[Image.Image]:
    """The pass by a pipeline that enlarges a picture itself, or that paints over one enlarged before."""
    planned = context.plan.passes[index]
    if isinstance(before, Tensor):
        previous = context.key(context.plan.passes[index - 1].model)
        before = pixels.to_image((yield Decode(previous, before)))
    if planned.strength == 0:
        return pixels.resize(before, planned.size, "stretch")
    given = before if planned.strength is None else pixels.resize(before, planned.size, "stretch")
    return (yield from foreign_pass(context, index, Given(given)))


def _scene(context: Context, index: int) -> Scene:
    """What units without a picture follow where the pass before left only latents: the init picture."""
    init = context.plan.init
    steered = context.plan.controls or any(region.control for region in context.plan.regions)
    if init is None or not steered:
        return Scene()
    picture = pixels.flatten(context.pictures.open(init.image))
    return Scene(pixels.resize(picture, context.plan.passes[index].size, init.resize_mode))


def enlarge_latent(latent: Tensor, size: SizePx, upscaler: UpscalerInfo, latent_scale: int) -> Tensor:
    """Latents [1, c, h, w] interpolated to the latent size of `size`; `latent_scale` is picture pixels per latent."""
    target = (size.height_px // latent_scale, size.width_px // latent_scale)
    if upscaler.interpolation in ("nearest", "nearest-exact"):
        return torch.nn.functional.interpolate(latent, size=target, mode=upscaler.interpolation)
    return torch.nn.functional.interpolate(
        latent, size=target, mode=upscaler.interpolation, antialias=upscaler.antialias
    )
