"""An image prompt as a person asks for it: a picture that says what to paint, as words do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from danqing.spec.base import Data, PictureRef

MAX_IMAGE_PROMPTS = 5
MAX_IMAGE_WEIGHT = 2.0
ImageMix = Literal["tokens", "average"]
"""How several pictures become one prompt; see `PaintRequest.image_mix`."""


class ImagePrompt(Data):
    """One picture to paint like."""

    image: PictureRef
    weight: float = Field(
        default=1.0,
        ge=0,
        le=MAX_IMAGE_WEIGHT,
        description="strength; of several pictures the strongest sets it and the others count in proportion",
    )
    start: float = Field(default=0.0, ge=0, le=1, description="share of the steps after which it begins")
    end: float = Field(default=1.0, ge=0, le=1, description="share of the steps after which it ends")

    @model_validator(mode="after")
    def _has_window(self) -> ImagePrompt:
        if self.start >= self.end:
            raise PydanticCustomError(
                "image_prompt_window",
                "the image prompt ends before it begins (start {start}, end {end})",
                {"start": self.start, "end": self.end, "expected": "start < end"},
            )
        return self
