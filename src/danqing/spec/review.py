"""Suggestions on a Record from a person or a model: both speak boxes and words."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from danqing.spec.base import Data
from danqing.spec.geometry import BoxPx

MAX_SUGGESTIONS = 50
MAX_LASSO_POINTS = 500
MAX_COORDINATE_PX = 65_535
Coordinate = Annotated[int, Field(ge=0, le=MAX_COORDINATE_PX)]
PointPx = tuple[Coordinate, Coordinate]
"""(x, y) in picture pixels, origin at the top left; in JSON a list of two."""
SuggestionState = Literal["open", "applied", "dismissed"]
ReviewSource = Literal["person", "model", "builtin"]
Language = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$",
        description="BCP 47, for example `en`, `zh-Hans`, `zh-Hant`, `fr`",
    ),
]
ReviewerName = Annotated[str, Field(max_length=80, description="as the reviewer calls themselves")]


class Said(Data):
    """Change this part like so: what a reviewer draws and says."""

    box: BoxPx | None = Field(default=None, description="None, with no lasso, means the whole picture")
    lasso: tuple[PointPx, ...] | None = Field(
        default=None,
        min_length=3,
        max_length=MAX_LASSO_POINTS,
        description="corners of a closed polygon in picture pixels, [[x, y], …]; wins over the box",
    )
    prompt: str = Field(max_length=4000, description="what should be there")
    reason: str = Field(default="", max_length=4000)
    strength: float = Field(default=0.6, ge=0, le=1)
    language: Language | None = Field(default=None, description="of the words; told from them if unset")

    @model_validator(mode="after")
    def _encloses_something(self) -> Said:
        if self.lasso is not None and _is_flat(self.lasso):
            raise PydanticCustomError(
                "empty_lasso", "the lasso encloses nothing", {"expected": "corners that are not all on one line"}
            )
        return self

    @property
    def bounds(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) of the lasso or box, half open; None for the whole picture."""
        if self.lasso is not None:
            across, down = [x for x, _ in self.lasso], [y for _, y in self.lasso]
            return (min(across), min(down), max(across) + 1, max(down) + 1)
        return None if self.box is None else self.box.as_tuple()


class Suggestion(Said):
    """What was said, and what came of it."""

    id: str = Field(default="", max_length=64, description="given by the store")
    state: SuggestionState = "open"
    job: str | None = Field(default=None, max_length=64, description="the job that carries it out")
    results: tuple[str, ...] = Field(default=(), description="Records that came of it")


class ReviewBody(Data):
    """A review as it is sent. Sending it again with the same key changes nothing."""

    key: str = Field(pattern=r"^[0-9A-Za-z_-]{8,64}$", description="made by the client, once for each review")
    record: str = Field(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="the version it is about")
    reviewer: str = Field(min_length=1, max_length=80, pattern=r"\S", description="as the reviewer calls themselves")
    suggestions: tuple[Said, ...] = Field(default=(), max_length=MAX_SUGGESTIONS)
    picked: bool = False
    starred: bool = False
    approved: bool = False
    note: str = Field(default="", max_length=4000)
    language: Language | None = None


class Review(Data):
    """What one reviewer says of one Record."""

    id: str = Field(default="", max_length=64, description="given by the store")
    record_id: str = Field(max_length=64)
    project: str | None = Field(default=None, max_length=64)
    share: str | None = Field(default=None, max_length=64, description="id of the share it came by, if it did")
    reviewer: ReviewerName
    source: ReviewSource = "person"
    suggestions: tuple[Suggestion, ...] = Field(default=(), max_length=MAX_SUGGESTIONS)
    picked: bool = Field(default=False, description="this one is chosen to go on with")
    starred: bool = False
    approved: bool = False
    note: str = Field(default="", max_length=4000)
    language: Language | None = None
    created_at: datetime | None = Field(default=None, description="given by the store")


def _is_flat(lasso: tuple[PointPx, ...]) -> bool:
    """Whether all corners lie on one line, or are one point."""
    x0, y0 = lasso[0]
    x1, y1 = next((corner for corner in lasso if corner != lasso[0]), lasso[0])
    return all((x1 - x0) * (y - y0) == (y1 - y0) * (x - x0) for x, y in lasso)
