"""Pillow pictures ↔ tensors, and the ways a picture is brought to another size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from danqing.spec.geometry import SizePx
from danqing.spec.painting import ResizeMode

Floats = npt.NDArray[np.float32]


def to_tensor(image: Image.Image) -> Tensor:
    """float32 [1, 3, H, W] in [−1, 1]."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1.0).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_image(picture: Tensor) -> Image.Image:
    """The first picture of [b, 3, H, W] in [−1, 1]; values beyond are clipped."""
    array = ((picture[0].permute(1, 2, 0) + 1.0) * 127.5).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array)


def as_floats(mask: Image.Image) -> Floats:
    """A mask as float32 [H, W] in [0, 1]."""
    return np.asarray(mask.convert("L"), dtype=np.float32) / np.float32(255.0)


def multiple_of(image: Image.Image, step_px: int) -> Image.Image:
    """The picture with its sides rounded to multiples of `step_px`."""
    width = max(step_px, round(image.width / step_px) * step_px)
    height = max(step_px, round(image.height / step_px) * step_px)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def flatten(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts on white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def mask_of(image: Image.Image) -> Image.Image:
    """A picture read as a mask, "L": its opacity where it has transparent parts, as A1111 does, else its brightness."""
    if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        return image.getchannel("A")
    return image.convert("L")


def resize(image: Image.Image, size: SizePx, mode: ResizeMode) -> Image.Image:
    """A picture at `size`: stretched, cropped, or filled at the sides with its own blurred edges, as in A1111."""
    target = (size.width_px, size.height_px)
    if image.size == target or mode in ("stretch", "latent"):
        return image if image.size == target else image.resize(target, Image.Resampling.LANCZOS)
    ratio_x, ratio_y = target[0] / image.width, target[1] / image.height
    ratio = max(ratio_x, ratio_y) if mode == "crop" else min(ratio_x, ratio_y)
    inner = image.resize(
        (max(1, round(image.width * ratio)), max(1, round(image.height * ratio))), Image.Resampling.LANCZOS
    )
    left, top = (target[0] - inner.width) // 2, (target[1] - inner.height) // 2
    if mode == "crop":
        return inner.crop((-left, -top, -left + target[0], -top + target[1]))
    return extend(inner, size, left, top)


def extend(image: Image.Image, size: SizePx, left_px: int, top_px: int) -> Image.Image:
    """A larger canvas with the picture at (left, top) and its edge colours carried outwards."""
    array = np.asarray(image.convert("RGB"))
    pad_y = (top_px, size.height_px - top_px - image.height)
    pad_x = (left_px, size.width_px - left_px - image.width)
    return Image.fromarray(np.pad(array, (pad_y, pad_x, (0, 0)), mode="edge"))


def resize_mask(mask: Image.Image, size: SizePx, mode: ResizeMode) -> Image.Image:
    """A mask brought to `size` the way its picture is; new sides are not masked."""
    target = (size.width_px, size.height_px)
    if mask.size == target or mode in ("stretch", "latent"):
        return mask.resize(target, Image.Resampling.BILINEAR)
    rgb = Image.merge("RGB", (mask, mask, mask))
    if mode == "crop":
        return resize(rgb, size, "crop").getchannel(0)
    ratio = min(target[0] / mask.width, target[1] / mask.height)
    inner = mask.resize((max(1, round(mask.width * ratio)), max(1, round(mask.height * ratio))))
    canvas = Image.new("L", target, 0)
    canvas.paste(inner, ((target[0] - inner.width) // 2, (target[1] - inner.height) // 2))
    return canvas


def blur(mask: Image.Image, radius_px: float) -> Image.Image:
    """A mask with soft edges."""
    return mask.filter(ImageFilter.GaussianBlur(radius_px)) if radius_px > 0 else mask


def fill_masked(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with its masked part replaced by colours that bleed in from around it.

    Averages of the known pixels at several scales, coarse first: what A1111 calls the fill mode `fill`.
    """
    known = 1.0 - np.asarray(mask, dtype=np.float32)[..., None] / 255.0
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32)
    filled = np.zeros_like(rgb)
    for radius in (256, 64, 16, 4, 1):
        weight = _blurred(known, radius)
        colour = _blurred(rgb * known, radius) / np.maximum(weight, 1e-6)
        share = np.clip(weight * 8.0, 0.0, 1.0)
        filled = colour * share + filled * (1.0 - share)
    return Image.fromarray(np.clip(rgb * known + filled * (1.0 - known), 0, 255).astype(np.uint8))


def _blurred(array: Floats, radius: int) -> Floats:
    side = 2 * radius + 1
    blurred = cv2.blur(
        array, (side, side), borderType=cv2.BORDER_REFLECT_101 if side < min(array.shape[:2]) else cv2.BORDER_REPLICATE
    )
    return np.asarray(blurred, dtype=np.float32).reshape(array.shape)


def match_colours(image: Image.Image, reference: Image.Image) -> Image.Image:
    """The picture with the mean and spread of each CIELAB channel of the reference (Reinhard et al., 2001)."""

    def lab(picture: Image.Image) -> Floats:
        rgb = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB), dtype=np.float32)

    ours, theirs = lab(image), lab(reference)
    axes = (0, 1)
    scale = theirs.std(axis=axes) / np.maximum(ours.std(axis=axes), 1e-3)
    moved = (ours - ours.mean(axis=axes)) * scale + theirs.mean(axis=axes)
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return Image.fromarray((rgb.clip(0, 1) * 255).round().astype(np.uint8))
