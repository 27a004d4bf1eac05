"""Words and a picture to a picture."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import Describe, Description, EncodeImage
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Scene
from danqing.pipelines.foreign import Given, foreign_pass
from danqing.pipelines.passes import Start, run_pass
from danqing.spec.errors import InvalidRequestError
from danqing.spec.plan import InitPlan


def init_of(context: Context) -> InitPlan:
    """The Plan's init picture.

    Raises:
        InvalidRequestError: There is none.
    """
    if context.plan.init is None:
        raise InvalidRequestError("this plan has no picture to start from", field="image", next_step="add a picture")
    return context.plan.init


def img2img(context: Context) -> Step[Tensor | Image.Image]:
    """Latents [1, c, h, w] of the base pass; at strength 0 the picture itself, at the size of the pass."""
    init = init_of(context)
    base = context.plan.base
    picture = pixels.flatten(context.pictures.open(init.image))
    if base.strength == 0:
        return pixels.resize(picture, base.size, init.resize_mode)
    key = context.key(base.model)
    resized = pixels.resize(picture, base.size, init.resize_mode)
    if base.pipeline is not None:
        return (yield from foreign_pass(context, 0, Given(resized)))
    if init.resize_mode == "latent":
        described: Description = yield Describe(key)
        scale = described.info.latent_scale
        whole: Tensor = yield EncodeImage(key, pixels.to_tensor(pixels.multiple_of(picture, scale)))
        size = (base.size.height_px // scale, base.size.width_px // scale)
        latent = torch.nn.functional.interpolate(whole, size=size, mode="bilinear")
    else:
        latent = yield EncodeImage(key, pixels.to_tensor(resized))
    start = Start(latent, noise_multiplier=init.initial_noise_multiplier, scene=Scene(resized))
    return (yield from run_pass(context, 0, start))
