"""Dragging points of a picture to other places."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import MAX_SIDE_PX, Data, PictureRef
from danqing.spec.painting import InitRequest

MAX_POINTS = 32
DragMode = Literal["fast", "quality"]


class DragPoint(Data):
    """What is at the handle shall come to lie at the target; picture pixels, x to the right, y down."""

    from_x_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    from_y_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    to_x_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    to_y_px: int = Field(ge=0, lt=MAX_SIDE_PX)


class DragRequest(InitRequest):
    """Drag points of a picture to other places."""

    kind: Literal["drag"] = "drag"
    points: tuple[DragPoint, ...] = Field(min_length=1, max_length=MAX_POINTS, description="handle → target pairs")
    mask: PictureRef | None = Field(
        default=None, description="white may change; the size of the picture; everything may change if unset"
    )
    mode: DragMode = Field(default="fast", description="`fast` warps and repairs, `quality` optimises the latent")
    strength: float = Field(default=0.7, ge=0, le=1, description="how far the picture is inverted into noise")
