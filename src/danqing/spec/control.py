"""A ControlNet unit as a person asks for it: which network, which picture, how strongly, when and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from danqing.spec.base import Data, PictureRef
from danqing.spec.registry.lookup import normalise

MAX_CONTROLS = 8
MAX_WEIGHT = 2.0
INPAINT_ANNOTATOR = "inpaint_only"
"""A1111's name for a map made of the picture and the mask of the Request itself: black holes (−1) to be filled."""
ControlMode = Literal["balanced", "prompt", "control"]
ControlResize = Literal["stretch", "crop", "fill"]
ControlPasses = Literal["both", "base", "hires"]
ParamName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ParamValue = float | Annotated[str, StringConstraints(max_length=64)]


class ControlUnit(Data):
    """One ControlNet with its picture."""

    model: str = Field(min_length=1, max_length=256, description="name, stem or hash of a ControlNet in the catalogue")
    image: PictureRef | None = Field(
        default=None, description="the picture it follows; the init picture if unset (not in txt2img)"
    )
    mask: PictureRef | None = Field(default=None, description="white is where the unit acts; everywhere if unset")
    annotator: str = Field(
        default="none",
        min_length=1,
        max_length=64,
        description="makes the control map; `none`: the picture is one",
    )
    control_type: str | None = Field(
        default=None,
        max_length=64,
        description="of a union ControlNet: what the map shows (canny, depth, …, or a control type of A1111 such as "
        "NormalMap); from the annotator if unset",
    )
    params: dict[ParamName, ParamValue] = Field(
        default_factory=dict[str, ParamValue], max_length=16, description="settings of the annotator"
    )
    resolution_px: int | None = Field(
        default=None, ge=64, le=2048, description="shorter side the annotator works at; wins over `pixel_perfect`"
    )
    pixel_perfect: bool = Field(
        default=True, description="the annotator works at the size that is painted; else at the picture's own"
    )
    weight: float = Field(default=1.0, ge=0, le=MAX_WEIGHT)
    start: float = Field(default=0.0, ge=0, le=1, description="share of the steps after which it begins")
    end: float = Field(default=1.0, ge=0, le=1, description="share of the steps after which it ends")
    mode: ControlMode = Field(
        default="balanced", description="whether prompt or control matters more; names as in A1111's extension"
    )
    resize_mode: ControlResize = Field(default="crop", description="how the map is brought to the size of the pass")
    passes: ControlPasses = Field(default="both", description="which passes it acts in where there is a hires pass")

    @model_validator(mode="after")
    def _has_window(self) -> ControlUnit:
        if self.start >= self.end:
            raise PydanticCustomError(
                "control_window",
                "the unit ends before it begins (start {start}, end {end})",
                {"start": self.start, "end": self.end, "expected": "start < end"},
            )
        return self


def is_inpaint_annotator(name: str) -> bool:
    """Whether this names the map made of the Request's own picture and mask.

    >>> is_inpaint_annotator("Inpaint only"), is_inpaint_annotator("canny")
    (True, False)
    """
    return normalise(name) in {"inpaint", normalise(INPAINT_ANNOTATOR)}
