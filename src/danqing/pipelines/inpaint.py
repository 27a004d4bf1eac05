"""Repaint the masked part of a picture; whatever is not masked stays as it is, to the pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from danqing.engine.calls import Decode, Describe, Description, EncodeImage, ModelKey, Report
from danqing.pipelines import masks, pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Frame, Scene
from danqing.pipelines.foreign import Given, foreign_pass
from danqing.pipelines.img2img import init_of
from danqing.pipelines.passes import Start, noise_settings, run_pass
from danqing.planning.crops import masked_crop
from danqing.sampling.noise import PictureNoise
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx, SizePx
from danqing.spec.painting import MaskFill, SoftInpainting
from danqing.spec.plan import MaskPlan


@dataclass(frozen=True)
class Repaint:
    """A picture at the size of the pass, and what of it is repainted.

    Attributes:
        image: RGB.
        mask: "L", 255 is repainted, with the edges as soft as they shall be.
        fill: What the masked part begins with.
        soft: Soft inpainting's numbers.
        frame: How control pictures of the whole are cut for the pass.
    """

    image: Image.Image
    mask: Image.Image
    fill: MaskFill
    soft: SoftInpainting | None = None
    frame: Frame | None = None


@dataclass(frozen=True)
class Painted:
    """What the base pass made of a `Repaint`, before it is blended in.

    Attributes:
        image: RGB, at the size of the pass.
        shown: "L", how much of it to show.
        soft: Whether `shown` follows what changed rather than the mask.
    """

    image: Image.Image
    shown: Image.Image
    soft: bool = False


def inpaint(context: Context) -> Step[Image.Image]:
    """The whole picture with its masked part repainted."""
    planned = context.plan.mask
    if planned is None:
        raise InvalidRequestError("this plan has no mask", field="mask", next_step="add a mask")
    init = init_of(context)
    original = pixels.flatten(context.pictures.open(init.image))
    mask = _mask_picture(context, planned)
    size = context.plan.base.size
    if mask.size != original.size:
        raise InvalidRequestError(
            "mask and picture differ in size",
            field="mask",
            value=f"{mask.width}x{mask.height}",
            allowed=f"{original.width}x{original.height}",
            next_step="draw the mask on this picture, or scale it to the same size",
        )
    keeps_size = planned.only_masked or planned.keep_size
    if context.plan.base.strength == 0 or mask.getbbox() is None:
        return original if keeps_size else pixels.resize(original, size, init.resize_mode)
    if not keeps_size:
        image = pixels.resize(original, size, init.resize_mode)
        work = Repaint(image, pixels.resize_mask(mask, size, init.resize_mode), planned.fill, planned.soft)
        painted = yield from repaint(context, work)
        return Image.composite(painted.image, work.image, painted.shown)
    return (yield from repaint_part(context, original, mask, planned))


def repaint_part(context: Context, original: Image.Image, mask: Image.Image, planned: MaskPlan) -> Step[Image.Image]:
    """The whole picture with its masked part repainted and pasted back; where the mask is 0 no pixel changes.

    Args:
        context: Its base pass paints the part.
        original: RGB.
        mask: "L" of its size, 255 is repainted, edges already soft; not all 0.
        planned: Whether a crop around the mask is painted, with how much context, and how it begins.
    """
    size = context.plan.base.size
    box = _crop(mask, planned, size)
    whole = SizePx(width_px=original.width, height_px=original.height)
    frame = Frame(whole, box) if planned.only_masked else None
    work = Repaint(_cut(original, box, size), _cut(mask, box, size), planned.fill, planned.soft, frame)
    painted = yield from repaint(context, work)
    return _paste(original, painted, mask.crop(box.as_tuple()), box)


def _crop(mask: Image.Image, planned: MaskPlan, size: SizePx) -> BoxPx:
    """The part of the picture that is painted: around the mask, or all of it."""
    if not planned.only_masked:
        return BoxPx(left_px=0, top_px=0, right_px=mask.width, bottom_px=mask.height)
    bounds = cast("tuple[int, int, int, int]", mask.getbbox())
    picture = SizePx(width_px=mask.width, height_px=mask.height)
    return masked_crop(bounds, planned.padding_px, picture, size)


def _mask_picture(context: Context, planned: MaskPlan) -> Image.Image:
    mask = pixels.mask_of(context.pictures.open(planned.mask))
    if planned.inverted:
        mask = ImageOps.invert(mask)
    return pixels.blur(mask, planned.blur_px)


def _cut(image: Image.Image, box: BoxPx, size: SizePx) -> Image.Image:
    part = image.crop(box.as_tuple())
    return part if part.size == (size.width_px, size.height_px) else pixels.resize(part, size, "stretch")


def _paste(original: Image.Image, painted: Painted, mask: Image.Image, box: BoxPx) -> Image.Image:
    """The picture with the painted part in its box, blended once, at the picture's own resolution.

    Args:
        original: The whole picture.
        painted: The part, at the size of the pass.
        mask: What may change, the size of the box.
        box: Where it goes.
    """
    size = (box.width_px, box.height_px)
    scaled, shown = painted.image, mask
    if scaled.size != size:
        scaled = scaled.resize(size, Image.Resampling.LANCZOS)
    if painted.soft:
        shown = ImageChops.darker(mask, painted.shown.resize(size, Image.Resampling.BILINEAR))
    result = original.copy()
    result.paste(scaled, box.as_tuple(), shown)
    return result


def repaint(context: Context, work: Repaint) -> Step[Painted]:
    """Run the base pass over the masked part."""
    if context.plan.base.pipeline is not None:
        begun = pixels.fill_masked(work.image, work.mask) if work.fill != "original" else work.image
        picture = yield from foreign_pass(context, 0, Given(begun, work.mask))
        return _coloured(context, picture, work, work.mask)
    key = context.key(context.plan.base.model)
    yield Report(0, context.plan.base.sampling.steps, context.fraction(0), 0, "load")
    described: Description = yield Describe(key)
    begun = pixels.fill_masked(work.image, work.mask) if work.fill != "original" else work.image
    latent: Tensor = yield EncodeImage(key, pixels.to_tensor(begun))
    mask = masks.latent_mask(work.mask, latent.shape[-1], latent.shape[-2], soft=work.soft is not None)
    latent = _filled(context, latent, mask, work.fill, described.info.latent_scale)
    extra = None
    if described.info.is_inpainting:
        extra = yield from _extra(key, work, mask)
    blend = masks.HardBlend(latent, mask) if work.soft is None else masks.SoftBlend(latent, mask, work.soft)
    multiplier = context.plan.init.initial_noise_multiplier if context.plan.init else 1.0
    start = Start(latent, blend, extra, multiplier, Scene(work.image, work.mask, work.frame))
    painted = yield from run_pass(context, 0, start)
    if work.soft is None:
        painted = blend(painted, 0.0)
    picture = pixels.to_image((yield Decode(key, painted)))
    shown = work.mask if work.soft is None else masks.changed_mask(latent, painted, work.mask, work.soft)
    return _coloured(context, picture, work, shown)


def _coloured(context: Context, picture: Image.Image, work: Repaint, shown: Image.Image) -> Painted:
    """What the pass made, at the size of the pass, with the colours of the picture where that was asked for."""
    size = work.image.size
    picture = picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
    if context.plan.init is not None and context.plan.init.colour_correction:
        picture = pixels.match_colours(picture, work.image)
    return Painted(picture, shown, soft=work.soft is not None)


def _filled(context: Context, latent: Tensor, mask: Tensor, fill: MaskFill, latent_scale: int) -> Tensor:
    """The latents with their masked part replaced, where the fill mode says so."""
    if fill == "latent_nothing":
        return latent * (1.0 - mask)
    if fill == "latent_noise":
        noise = PictureNoise(noise_settings(context.plan.seeds, latent_scale)).initial(tuple(latent.shape))
        return latent * (1.0 - mask) + noise * mask
    return latent


def _extra(key: ModelKey, work: Repaint, mask: Tensor) -> Step[Tensor]:
    pixel_mask = torch.from_numpy(pixels.as_floats(work.mask)).round()[None, None]
    masked = pixels.to_tensor(work.image) * (1.0 - pixel_mask)
    latent = cast("Tensor", (yield EncodeImage(key, masked)))
    return masks.inpainting_extra(latent, mask)
