"""Dragging points of a picture to other places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from danqing.spec.base import MAX_SIDE_PX, Data, PictureRef, Sha256
from danqing.spec.errors import InvalidRequestError
from danqing.spec.painting import InitRequest

MAX_POINTS = 32
MAX_LORA_RANK = 128
DragMode = Literal["fast", "quality"]
DragMethod = Literal["pulled", "gooddrag", "dragdiffusion"]


class DragPoint(Data):
    """What is at the handle shall come to lie at the target; picture pixels, x to the right, y down."""

    from_x_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    from_y_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    to_x_px: int = Field(ge=0, lt=MAX_SIDE_PX)
    to_y_px: int = Field(ge=0, lt=MAX_SIDE_PX)

    @property
    def stays(self) -> bool:
        """Whether the handle lies on its target: such a point holds its place."""
        return (self.from_x_px, self.from_y_px) == (self.to_x_px, self.to_y_px)


class DragTuning(Data):
    """Numbers of the `quality` mode; unset ones follow the method, as published.

    DragDiffusion (arXiv 2306.14435), GoodDrag (arXiv 2404.07206). Radii are in pixels of the feature map, whose side is
    half that of the picture as it is worked at. They were published for pictures of 512 pixels; unset ones shrink with
    a smaller picture, to no less than 1.
    """

    identity: bool = Field(default=True, description="teach a small LoRA the picture first (once for each picture)")
    identity_rank: int = Field(default=16, ge=1, le=MAX_LORA_RANK)
    identity_steps: int = Field(default=80, ge=1, le=1000)
    identity_rate: float = Field(default=5e-4, gt=0, le=0.1, description="its learning rate (AdamW)")
    rate: float | None = Field(default=None, gt=0, le=1, description="of the latent (Adam): 0.01, GoodDrag 0.02")
    keep: float = Field(default=0.1, ge=0, le=100, description="λ: how strongly the latent outside the mask is held")
    supervision_radius: int | None = Field(default=None, ge=0, le=32, description="r_m 1; GoodDrag's r1 4")
    tracking_radius: int | None = Field(default=None, ge=1, le=64, description="r_p 3; GoodDrag's r2 12")
    iterations: int = Field(default=80, ge=1, le=1000, description="DragDiffusion: at most so many")
    drag_steps: int = Field(default=7, ge=1, le=100, description="GoodDrag: denoising steps in which it drags")
    tracks: int = Field(default=10, ge=1, le=100, description="GoodDrag: trackings in each of them")
    pulls: int = Field(default=3, ge=1, le=20, description="GoodDrag: supervisions before each tracking")
    share: bool = Field(default=True, description="self-attention reads keys and values of the original")


class DragRequest(InitRequest):
    """Drag points of a picture to other places."""

    kind: Literal["drag"] = "drag"
    points: tuple[DragPoint, ...] = Field(min_length=1, max_length=MAX_POINTS, description="handle → target pairs")
    mask: PictureRef | None = Field(
        default=None, description="white may change; the size of the picture; what the points reach if unset"
    )
    mode: DragMode = Field(default="fast", description="`fast` warps and repairs, `quality` paints it all anew")
    method: DragMethod = Field(
        default="pulled", description="of the mode `quality`: `pulled` inverts the pulled picture, the others optimise"
    )
    strength: float = Field(default=0.7, ge=0, le=1, description="`quality`: how far the picture is inverted")
    repair: float = Field(default=0.3, ge=0, le=1, description="`fast`: how anew strained places are painted; 0 warps")
    radius_px: int | None = Field(
        default=None, ge=1, le=MAX_SIDE_PX, description="what moves with a handle as one piece; fitting if unset"
    )
    mask_feather_px: int = Field(default=6, ge=0, le=64, description="how softly the new paint ends inside the mask")
    tuning: DragTuning = DragTuning()


class DragPlan(Data):
    """A drag with everything filled in; how far the picture is repainted stands in the base pass, as its strength."""

    points: tuple[DragPoint, ...] = Field(min_length=1)
    mask: Sha256 | None = None
    mode: DragMode
    method: DragMethod
    radius_px: int | None = None
    mask_feather_px: int
    tuning: DragTuning = Field(description="unset numbers filled in")


def check_points(points: Sequence[DragPoint], width_px: int, height_px: int) -> None:
    """See that every handle and target lies in the picture.

    Raises:
        InvalidRequestError: One does not, or there is none.
    """
    if not points:
        raise InvalidRequestError(
            "there is nothing to drag",
            field="points",
            value=0,
            allowed=f"1 to {MAX_POINTS} points",
            next_step="add a handle and its target",
        )
    for index, point in enumerate(points):
        for name, value, end in (
            ("from_x_px", point.from_x_px, width_px),
            ("from_y_px", point.from_y_px, height_px),
            ("to_x_px", point.to_x_px, width_px),
            ("to_y_px", point.to_y_px, height_px),
        ):
            if value >= end:
                raise InvalidRequestError(
                    "the point lies outside the picture",
                    field=f"points.{index}.{name}",
                    value=value,
                    allowed=f"0 to {end - 1}",
                    next_step=f"move it into the {width_px}×{height_px} picture",
                )
