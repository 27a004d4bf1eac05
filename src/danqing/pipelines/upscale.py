"""Upscaling by a network as Calls: one for each tile, so that it can be cancelled, batched and shared like painting."""

from __future__ import annotations

from PIL import Image

from danqing.engine.calls import Report, Session, Upscale
from danqing.enhance.tiles import Tiling
from danqing.enhance.upscale import tiles_expected, upscale_steps
from danqing.pipelines.context import Pictures, Step
from danqing.spec.model import ModelRef
from danqing.spec.registry.upscalers import find_upscaler
from danqing.spec.upscale import UpscalePlan

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def upscale(plan: UpscalePlan, pictures: Pictures) -> Session:
    """The Session of a plan to upscale; it returns a Pillow picture of exactly the planned size."""
    picture = pictures.open(plan.image)
    size = (plan.width_px, plan.height_px)
    if plan.file is None:
        interpolation = find_upscaler(plan.upscaler).interpolation
        return _at_once(picture, size, FILTERS.get(interpolation, Image.Resampling.LANCZOS))
    return enlarge(plan.file, picture, size)


def enlarge(file: ModelRef, picture: Image.Image, size: tuple[int, int]) -> Step[Image.Image]:
    """A picture at exactly `size` (width, height) by the network in `file`; transparency is kept."""
    tiling = Tiling()
    steps = upscale_steps(picture, size, tiling)
    tile = next(steps)
    while True:
        large = yield Upscale(file, tile)
        try:
            tile = steps.send(large)
        except StopIteration as stop:
            return stop.value


def expected_tiles(plan: UpscalePlan, pictures: Pictures) -> float:
    """How many Calls a plan will take at least."""
    return 1.0 if plan.file is None else float(tiles_expected(pictures.open(plan.image), Tiling()))


def _at_once(picture: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Step[Image.Image]:
    yield Report(0, 1, 0.0, stage="decode")
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return picture.resize(size, resampling)
