"""A comparison: one Request in many forms, along up to three axes (A1111's X/Y/Z plot)."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.request import Request

MAX_CELLS = 400


class Axis(Data):
    """What is tried out, and with which values."""

    axis: str = Field(max_length=64, description="key or A1111's label: `seed`, `CFG Scale`, `Prompt S/R` …")
    values: str = Field(
        max_length=4000,
        description="commas between them; whole numbers and numbers also as `1-5`, `1-9 (+2)`, `0-1 [5]`; "
        "a value with a comma in double quotes",
    )


class ExploreRequest(Data):
    """What is compared. One picture for each combination."""

    request: Request
    x: Axis = Field(description="columns")
    y: Axis | None = Field(default=None, description="rows")
    z: Axis | None = Field(default=None, description="one sheet below the other")
    vary_seeds: bool = Field(default=False, description="a seed of its own for each picture, where none is given")
    project: str | None = Field(
        default=None, pattern=r"^[0-9A-Za-z_-]{1,64}$", description="id of the project that every picture joins"
    )


class Cell(Data):
    """One picture of a comparison: its place, what the axes say there, and who paints it."""

    x: int = Field(ge=0)
    y: int = Field(default=0, ge=0)
    z: int = Field(default=0, ge=0)
    labels: tuple[str, ...] = Field(description="of x, y and z, as far as there are such axes")
    job: str


class Exploration(Data):
    """A comparison that was begun. Its pictures are Records of the cells' jobs."""

    id: str
    asked: ExploreRequest
    names: tuple[str, ...] = Field(description="labels of the axes")
    columns: tuple[str, ...]
    rows: tuple[str, ...] = ()
    sheets: tuple[str, ...] = ()
    cells: tuple[Cell, ...]
    created_at: datetime
