"""Drag points of a picture to other places; outside what may change it stays as it is, to the bit.

`fast` pulls the picture like a sheet of rubber and paints strained and empty places anew, with self-attention that
reads keys and values of the original. `quality` is in `pipelines/drag_quality.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, Describe, Description, EncodeImage, Exclusive, ModelKey, Report
from danqing.enhance.warp import Floats, Pull, pull, warp
from danqing.models.families.sd import StableDiffusion
from danqing.pipelines import conditioning, pixels
from danqing.pipelines.conditioning import Conditioning
from danqing.pipelines.context import Context, Step
from danqing.pipelines.denoiser import size_numbers
from danqing.pipelines.drag_model import Row, Words, pairs
from danqing.pipelines.drag_quality import dragged_pictures, pulled_picture
from danqing.pipelines.img2img import init_of
from danqing.pipelines.passes import guidance_settings, noise_settings, pass_levels, sampler_options
from danqing.sampling.guidance import GuidanceSettings, combine_alone, guide, needs_uncond
from danqing.sampling.noise import PictureNoise
from danqing.sampling.samplers import SAMPLERS
from danqing.spec.drag import DragPlan
from danqing.spec.errors import InvalidRequestError
from danqing.spec.network import uses_at
from danqing.spec.registry.samplers import find_sampler

DRAG = "drag"
"""Key of the Calls."""
CHANGED = (4.0, 16.0)
"""How far, in grey levels of 255, a place must differ from the original's own repainting to be shown a little, and
altogether."""


def drag(context: Context) -> Step[Image.Image]:
    """The picture with its points dragged, at its own size.

    Raises:
        InvalidRequestError: A point lies outside the mask, or the mask is of another size.
    """
    planned = plan_of(context)
    original = pixels.flatten(context.pictures.open(init_of(context).image))
    mask = None
    if planned.mask is not None:
        mask = np.asarray(pixels.mask_of(context.pictures.open(planned.mask)))
    pulled = pull(planned.points, original.size, mask, planned.radius_px)
    if all(point.stays for point in planned.points) or (planned.mode == "quality" and not context.plan.base.strength):
        return original
    if planned.mode == "fast":
        return (yield from _fast(context, original, pulled))
    before, after = yield from dragged_pictures(context, original, pulled)
    return _shown(original, before, after, inner_edge(pulled.reach, planned.mask_feather_px))


def plan_of(context: Context) -> DragPlan:
    """The Plan's drag.

    Raises:
        InvalidRequestError: There is none.
    """
    if context.plan.drag is None:
        raise InvalidRequestError("this plan drags nothing", field="points", next_step="add points to drag")
    return context.plan.drag


def inner_edge(reach: np.ndarray, feather_px: int) -> Floats:
    """1 inside what may change, falling to 0 at its edge [h, w]; the picture's own sides are no edge."""
    if feather_px == 0 or reach.all():
        return reach.astype(np.float32)
    distance = cv2.distanceTransform(reach.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share = np.clip(distance / (feather_px + 1.0), 0.0, 1.0)
    return (share * share * (3.0 - 2.0 * share)).astype(np.float32)


def _shown(original: Image.Image, before: Image.Image, after: Image.Image, allowed: Floats) -> Image.Image:
    """The original with what was dragged over it, where that differs from the original's own repainting.

    Args:
        original: The picture.
        before: It as the model paints it without a drag, at the size of the pass.
        after: The same with the drag.
        allowed: How much of `after` may be shown at most [h, w].
    """
    difference = np.abs(np.asarray(after, np.float32) - np.asarray(before, np.float32)).max(axis=-1)
    reach = max(1.0, min(difference.shape) / 96.0)
    # Widened before it is smoothed, so that no rim of the old shape shines through around the new one.
    side = 2 * round(2 * reach) + 1
    difference = cv2.dilate(difference, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    difference = cv2.GaussianBlur(difference, (0, 0), reach)
    low, high = CHANGED
    changed = np.clip((difference - low) / (high - low), 0.0, 1.0).astype(np.float32)
    changed = cv2.resize(changed, original.size, interpolation=cv2.INTER_LINEAR)
    return mixed(original, after, changed * allowed)


def mixed(original: Image.Image, over: Image.Image, share: Floats) -> Image.Image:
    """A picture with another one over it by shares [h, w]; where the share is 0 it stays as it is, to the bit."""
    if over.size != original.size:
        over = over.resize(original.size, Image.Resampling.LANCZOS)
    below, above = np.asarray(original, np.float32), np.asarray(over, np.float32)
    blended = np.clip(np.round(below + (above - below) * share[..., None]), 0, 255).astype(np.uint8)
    return Image.fromarray(blended)


def _fast(context: Context, original: Image.Image, pulled: Pull) -> Step[Image.Image]:
    planned, size = plan_of(context), context.plan.base.size
    repair = _repair(pulled, planned.mask_feather_px)
    if not context.plan.base.strength or repair.max() < 0.05:
        return Image.fromarray(warp(np.asarray(original), pulled))
    warped = pulled_picture(original, pulled)
    key = context.key(context.plan.base.model)
    steps = context.plan.base.sampling.steps
    yield Report(0, steps, 0.0, 0, "load")
    described: Description = yield Describe(key)
    first: Tensor = yield EncodeImage(key, pixels.to_tensor(pixels.resize(original, size, "stretch")))
    begun: Tensor = yield EncodeImage(key, pixels.to_tensor(pixels.resize(warped, size, "stretch")))
    small = cv2.resize(repair, (begun.shape[-1], begun.shape[-2]), interpolation=cv2.INTER_AREA)
    mask = torch.from_numpy(np.clip(small * 2.0, 0.0, 1.0))[None, None]
    painted = yield from _repainted(context, key, described, Start(first, begun, mask))
    before = pixels.to_image((yield Decode(key, begun)))
    after = pixels.to_image((yield Decode(key, painted)))
    changed = _changed_by(warped, before, after, repair)
    # What came from beyond the picture has no detail of its own to keep.
    empty = np.minimum(cv2.GaussianBlur(pulled.beyond.astype(np.float32), (0, 0), 2.0), repair)
    return mixed(changed, after, empty)


def _changed_by(picture: Image.Image, before: Image.Image, after: Image.Image, share: Floats) -> Image.Image:
    """A picture with the difference of two smaller ones added by shares [h, w], so that its own detail stays."""
    difference = np.asarray(after, np.float32) - np.asarray(before, np.float32)
    if before.size != picture.size:
        difference = cv2.resize(difference, picture.size, interpolation=cv2.INTER_CUBIC)
    changed = np.asarray(picture, np.float32) + difference * share[..., None]
    return Image.fromarray(np.clip(np.round(changed), 0, 255).astype(np.uint8))


def _repair(pulled: Pull, feather_px: int) -> Floats:
    """How much of each place is painted anew, softened and held inside what may change [h, w]."""
    wanted = pulled.repair
    if feather_px > 0:
        wanted = np.maximum(wanted, cv2.GaussianBlur(wanted, (0, 0), feather_px / 2.0))
    return (wanted * inner_edge(pulled.reach, feather_px)).astype(np.float32)


@dataclass(frozen=True)
class Start:
    """What is repainted.

    Attributes:
        original: Latents of the picture before [1, c, h, w].
        begun: Of the pulled picture.
        mask: 1 where it is painted anew [1, 1, h, w].
    """

    original: Tensor
    begun: Tensor
    mask: Tensor


def _repainted(context: Context, key: ModelKey, described: Description, start: Start) -> Step[Tensor]:
    """The pulled latents with their strained places painted anew [1, c, h, w]."""
    base = context.plan.base
    levels = pass_levels(base, described)
    words = yield from conditioning.encode(key, base, None)
    noise = PictureNoise(noise_settings(context.plan.seeds, described.info.latent_scale))
    drawn = noise.initial(tuple(start.begun.shape))
    # Noise of its own: with the same one, places would find themselves in the original and paint what was there.
    beside = noise.next(tuple(start.begun.shape))
    denoiser = _Repairer(context, key, guidance_settings(base), words, start, beside, len(levels) - 1)
    options = sampler_options(base.sampling, described, denoiser)
    sampler = SAMPLERS[find_sampler(base.sampling.sampler).key]
    x: Tensor = yield from sampler(denoiser, start.begun + drawn * levels[0], levels, noise, options)
    context.done_steps += len(levels) - 1
    return denoiser.held(x)


@dataclass
class _Repairer:
    """The denoiser of the repair: beside each row runs the original at the same noise level, whose keys it reads."""

    context: Context
    key: ModelKey
    guidance: GuidanceSettings
    words: Conditioning
    start: Start
    noise: Tensor
    steps: int
    calls: int = 0
    last_uncond: Tensor | None = None

    def unconditional(self) -> Tensor:
        """The unconditional estimate that belongs to the last answer [1, c, h, w]."""
        if self.last_uncond is None:
            raise RuntimeError("the unconditional estimate was asked for before any step")
        return self.last_uncond

    def held(self, denoised: Tensor) -> Tensor:
        """With what is not repaired put back."""
        return denoised * self.start.mask + self.start.begun * (1.0 - self.start.mask)

    def __call__(self, x: Tensor, sigma: float) -> Step[Tensor]:
        """D(x, σ) under guidance, for x [1, c, h, w]."""
        base = self.context.plan.base
        step = min(self.calls, self.steps - 1)
        said, denied = self.words.at(step)
        texts = [(said[0], False)]
        if needs_uncond(self.guidance, sigma, step, self.steps):
            texts.append((denied, True))
        beside = self.start.original + self.noise * sigma
        asked = []
        for text, negative in texts:
            words = Words(text, size_numbers(base, negative=negative) if text.pooled is not None else None)
            asked.append((Row(beside, words), Row(x, words)))

        def run(model: StableDiffusion) -> list[tuple[Tensor, Tensor]]:
            return pairs(model, asked, sigma)

        networks = uses_at(base.networks, step, self.steps)
        together = len({len(text.states) for text, _ in texts}) == 1
        found = yield Exclusive(self.key, DRAG, run, networks, 2 * len(texts) if together else 2)
        cond, uncond = found[0][1], found[-1][1]
        self.last_uncond = uncond
        guided = len(texts) > 1
        out = guide(self.guidance, uncond, [cond], (1.0,), (x, sigma)) if guided else combine_alone([cond], (1.0,))
        out = self.held(out)
        self.calls += 1
        done = min(self.calls, self.steps)
        yield Report(done, self.steps, self.context.fraction(done), 0, "denoise", self.key, out)
        return out
