"""Geometry in named units: picture pixels (`_px`) with the origin at the top left, x to the right, y down."""

from __future__ import annotations

from pydantic import Field, model_validator

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX, Data
from danqing.spec.errors import InvalidRequestError


class SizePx(Data):
    """Width and height of a picture in pixels."""

    width_px: int = Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    height_px: int = Field(ge=MIN_SIDE_PX, le=MAX_SIDE_PX)

    def rounded(self, multiple_px: int) -> SizePx:
        """The nearest size whose sides are multiples of `multiple_px` (at least one multiple)."""
        return SizePx(
            width_px=max(multiple_px, round(self.width_px / multiple_px) * multiple_px),
            height_px=max(multiple_px, round(self.height_px / multiple_px) * multiple_px),
        )

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width_px * self.height_px

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


class BoxPx(Data):
    """A half-open rectangle [left, right) × [top, bottom) in picture pixels; never empty."""

    left_px: int = Field(ge=0)
    top_px: int = Field(ge=0)
    right_px: int = Field(gt=0)
    bottom_px: int = Field(gt=0)

    @model_validator(mode="after")
    def _not_empty(self) -> BoxPx:
        if self.right_px <= self.left_px or self.bottom_px <= self.top_px:
            raise InvalidRequestError(
                "the box is empty",
                field="box",
                value=(self.left_px, self.top_px, self.right_px, self.bottom_px),
                allowed="left < right and top < bottom",
                next_step="swap or move the corners",
            )
        return self

    @property
    def width_px(self) -> int:
        """Width in pixels."""
        return self.right_px - self.left_px

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        return self.bottom_px - self.top_px

    def as_tuple(self) -> tuple[int, int, int, int]:
        """Pillow's (left, upper, right, lower)."""
        return (self.left_px, self.top_px, self.right_px, self.bottom_px)


class Margins(Data):
    """How far each side of a picture is extended, in pixels."""

    left_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)
    right_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)
    top_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)
    bottom_px: int = Field(default=0, ge=0, le=MAX_SIDE_PX)

    @property
    def any(self) -> bool:
        """Whether any side is extended."""
        return bool(self.left_px or self.right_px or self.top_px or self.bottom_px)
