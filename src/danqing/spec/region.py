"""A region of a picture with words of its own, as a person asks for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from danqing.spec.base import Data, PictureRef
from danqing.spec.control import ControlUnit
from danqing.spec.geometry import BoxPx

MAX_REGIONS = 12
MAX_REGION_WEIGHT = 4.0
RegionEngine = Literal["attention", "latent"]
"""`attention`: every cross-attention of the denoiser reads each region's words at its own place. `latent`: the
estimates of the region's words are mixed into the whole's, one trip through the denoiser for each region."""
RegionText = Annotated[str, Field(max_length=20_000)]


class Region(Data):
    """A box or a painted mask, and what is to be seen there."""

    prompt: RegionText = Field(min_length=1, description="what is to be seen there; may name LoRA of its own")
    negative_prompt: RegionText | None = Field(default=None, description="the whole picture's if unset")
    box: BoxPx | None = Field(default=None, description="in pixels of the init picture, or of the painted one")
    mask: PictureRef | None = Field(default=None, description="instead of a box: white is the region")
    weight: float = Field(default=1.0, gt=0, le=MAX_REGION_WEIGHT, description="beside the whole's words, and others'")
    feather_px: int = Field(default=8, ge=0, le=256, description="width of the soft edge")
    control: ControlUnit | None = Field(
        default=None, description="a ControlNet that acts in the region alone; its picture shows the whole view"
    )

    @model_validator(mode="after")
    def _has_one_place(self) -> Region:
        if (self.box is None) == (self.mask is None):
            raise PydanticCustomError(
                "region_place", "a region needs either a box or a mask", {"expected": "one of `box` and `mask`"}
            )
        return self
