"""Upscaling of a finished picture: what is asked for, what was decided, and the files that can do it."""

from __future__ import annotations

from pydantic import Field

from danqing.spec.base import MAX_SCALE, MAX_UPSCALED_SIDE_PX, Data, PictureRef, Sha256
from danqing.spec.model import ModelRef
from danqing.spec.painting import Output

BUILTIN_UPSCALER = "danqing-draw-x4"
UPSCALER_FAMILY = "upscaler"
"""What stands for the family in an upscaler file's ModelRef."""
MAX_UPSCALED_PX = 2**26


class UpscalerFile(Data):
    """A super-resolution network in the catalogue."""

    name: str = Field(description="what a person types: the file's name without suffix")
    path: str
    sha256: str = Field(description="content hash of the file")
    builtin: bool = False
    aliases: tuple[str, ...] = Field(default=(), description="A1111's labels for this file")

    @property
    def ref(self) -> ModelRef:
        """How a Plan names it."""
        return ModelRef(name=self.name, sha256=self.sha256, family=UPSCALER_FAMILY)


class UpscaleRequest(Data):
    """Make a picture larger; nothing is painted anew."""

    image: PictureRef
    scale: float = Field(default=4.0, ge=1, le=MAX_SCALE, description="how many times larger")
    width_px: int | None = Field(default=None, ge=1, le=MAX_UPSCALED_SIDE_PX, description="wins over `scale`")
    height_px: int | None = Field(default=None, ge=1, le=MAX_UPSCALED_SIDE_PX, description="as `width_px`")
    upscaler: str | None = Field(
        default=None,
        max_length=128,
        description="a file's name or Lanczos, Bicubic, Nearest; the built-in one if unset",
    )
    output: Output = Output()


class UpscalePlan(Data):
    """A Request with everything filled in."""

    image: Sha256
    width_px: int = Field(ge=1, le=MAX_UPSCALED_SIDE_PX)
    height_px: int = Field(ge=1, le=MAX_UPSCALED_SIDE_PX)
    scale: float = Field(description="how many times wider, for the infotext")
    upscaler: str = Field(description="key in spec.registry.upscalers, or the name of `file`")
    file: ModelRef | None = None
    output: Output = Output()
    notes: tuple[str, ...] = ()
