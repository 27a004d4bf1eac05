"""The step that enlarges: by a filter, a network or in latents, and painted again in windows or tiles if so wished."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, Describe, Description, EncodeImage, Report
from danqing.enhance.tiled import Grid, Mixer
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step, steps_of
from danqing.pipelines.denoiser import Denoiser
from danqing.pipelines.hires import enlarge_latent
from danqing.pipelines.passes import Start, run_pass
from danqing.pipelines.retouch_part import Part, sub_plan
from danqing.pipelines.upscale import FILTERS, enlarge
from danqing.planning.retouch import overlap_px
from danqing.planning.sizes import checked_size
from danqing.planning.upscaling import target_size
from danqing.spec.geometry import SizePx
from danqing.spec.plan import PassPlan
from danqing.spec.registry.upscalers import UpscalerInfo, find_upscaler
from danqing.spec.retouch_steps import RetouchStepPlan, TiledDiffusion, UpscaleStep


def upscaled(part: Part, planned: RetouchStepPlan, picture: Image.Image) -> Step[Image.Image]:
    """The picture at the size that the step wants; transparency is kept.

    Args:
        part: The Plan and its progress.
        planned: The step.
        picture: RGB or RGBA.
    """
    step = planned.step
    if not isinstance(step, UpscaleStep):
        return picture
    size = target_size(step, picture.size)
    larger = yield from _larger(part, planned, picture, size)
    index = planned.passes[0] if planned.passes else None
    if step.tiled is None or index is None or step.tiled.strength == 0:
        return larger
    again = repaint_windows if step.tiled.mode == "windows" else repaint_tiles
    painted = yield from again(part, part.plan.passes[index], step.tiled, larger.convert("RGB"))
    if "A" not in larger.getbands():
        return painted
    return Image.merge("RGBA", (*painted.split(), larger.getchannel("A")))


def _larger(part: Part, planned: RetouchStepPlan, picture: Image.Image, size: tuple[int, int]) -> Step[Image.Image]:
    if picture.size == size:
        return picture
    if planned.file is not None:
        return (yield from enlarge(planned.file, picture, size))
    info = find_upscaler(planned.tool)
    if not info.latent:
        return picture.resize(size, FILTERS.get(info.interpolation, Image.Resampling.LANCZOS))
    rgb = yield from _by_latents(part, info, picture.convert("RGB"), size)
    if "A" not in picture.getbands():
        return rgb
    return Image.merge("RGBA", (*rgb.split(), picture.getchannel("A").resize(size, Image.Resampling.LANCZOS)))


def _by_latents(part: Part, info: UpscalerInfo, picture: Image.Image, size: tuple[int, int]) -> Step[Image.Image]:
    """Through the base model's latents: soft, since nothing is painted there; meant to be painted again."""
    key = part.key(part.plan.base.model)
    described: Description = yield Describe(key)
    scale = described.info.latent_scale
    latent: Tensor = yield EncodeImage(key, pixels.to_tensor(pixels.multiple_of(picture, scale)))
    target = checked_size(*size).rounded(scale)
    larger = pixels.to_image((yield Decode(key, enlarge_latent(latent, target, info, scale))))
    return larger if larger.size == size else larger.resize(size, Image.Resampling.LANCZOS)


@dataclass
class WindowedDenoiser:
    """A denoiser asked window by window, at every step, and the answers mixed (MultiDiffusion, arXiv 2302.08113).

    Attributes:
        inner: Asked for each window.
        grid: The windows, in latent pixels.
        last_uncond: The unconditional estimate of the last answer, for CFG++.
    """

    inner: Denoiser
    grid: Grid
    last_uncond: Tensor | None = None

    def unconditional(self) -> Tensor:
        """The unconditional estimate that belongs to the last answer [1, c, h, w]."""
        return self.inner.unconditional() if self.last_uncond is None else self.last_uncond

    def __call__(self, x: Tensor, sigma: float) -> Any:
        """D(x, σ) of the whole plane [1, c, h, w]."""
        inner = self.inner
        windows = self.grid.windows()
        said, denied = Mixer(self.grid, x.shape[1]), Mixer(self.grid, x.shape[1])
        for place, window in enumerate(windows):
            one = replace(inner, extra=None if inner.extra is None else window.of(inner.extra).contiguous())
            said.add(window, (yield from one.estimate(window.of(x).contiguous(), sigma)))
            denied.add(window, one.unconditional())
            before = inner.step_at(sigma)
            yield self._report(before + (place + 1) / len(windows), None)
        self.last_uncond = denied.result
        inner.furthest = max(inner.furthest, inner.step_at(sigma) + 1)
        yield self._report(inner.furthest, said.result)
        return said.result

    def _report(self, done: float, denoised: Tensor | None) -> Report:
        inner = self.inner
        low, high = inner.context.fraction(int(done)), inner.context.fraction(int(done) + 1)
        fraction = low + (high - low) * (done - int(done))
        key = None if denoised is None else inner.stages[-1].key
        return Report(int(done), inner.steps, fraction, inner.pass_index, "denoise", key, denoised)


def repaint_windows(part: Part, planned: PassPlan, step: TiledDiffusion, picture: Image.Image) -> Step[Image.Image]:
    """The picture painted again, each step over all overlapping windows; RGB of its size."""
    key = part.key(planned.model)
    described: Description = yield Describe(key)
    scale = described.info.latent_scale
    whole = _canvas(picture, scale)
    size = checked_size(*whole.size)
    inner = _sub(part, planned.model_copy(update={"size": size}), 0)
    latent: Tensor = yield EncodeImage(key, pixels.to_tensor(whole))
    grid = Grid(
        latent.shape[-2],
        latent.shape[-1],
        planned.size.width_px // scale,
        overlap_px(step, planned.size.width_px) // scale,
    )
    start = Start(latent, asked=lambda denoiser: WindowedDenoiser(denoiser, grid))
    painted = yield from run_pass(inner, 0, start)
    return pixels.to_image((yield Decode(key, painted))).crop((0, 0, *picture.size))


def repaint_tiles(part: Part, planned: PassPlan, step: TiledDiffusion, picture: Image.Image) -> Step[Image.Image]:
    """The picture painted again tile by tile, the tiles mixed where they overlap; RGB of its size.

    Nothing larger than a tile is ever encoded, painted or decoded.
    """
    key = part.key(planned.model)
    described: Description = yield Describe(key)
    whole = _canvas(picture, described.info.latent_scale)
    plane = pixels.to_tensor(whole)
    grid = Grid(whole.height, whole.width, planned.size.width_px, overlap_px(step, planned.size.width_px))
    windows, mixed = grid.windows(), Mixer(grid, 3)
    for place, window in enumerate(windows):
        size = SizePx(width_px=window.width, height_px=window.height)
        inner = _sub(part.inner(place, len(windows)), planned.model_copy(update={"size": size}), place)
        latent: Tensor = yield EncodeImage(key, window.of(plane).contiguous())
        painted = yield from run_pass(inner, 0, Start(latent))
        made: Tensor = yield Decode(key, painted)
        mixed.add(window, made.to("cpu", torch.float32).clamp(-1, 1))
    return pixels.to_image(mixed.result).crop((0, 0, *picture.size))


def _canvas(picture: Image.Image, multiple_px: int) -> Image.Image:
    """The picture on a canvas whose sides are whole latent pixels, its edge carried outwards."""
    width, height = (-(-side // multiple_px) * multiple_px for side in picture.size)
    if (width, height) == picture.size:
        return picture
    sides = ((0, height - picture.height), (0, width - picture.width), (0, 0))
    return Image.fromarray(np.pad(np.asarray(picture), sides, mode="edge"))


def _sub(part: Part, planned: PassPlan, place: int) -> Context:
    own = sub_plan(part.plan, planned, place)
    return replace(part, plan=own, total_steps=steps_of(own.base))
