"""Suggestions on a Record from a person or a model: both speak boxes and words."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.geometry import BoxPx


class Suggestion(Data):
    """Change this part like so."""

    box: BoxPx | None = Field(default=None, description="None means the whole picture")
    prompt: str = Field(max_length=4000, description="what should be there")
    reason: str = Field(default="", max_length=4000)
    strength: float = Field(default=0.6, ge=0, le=1)


class Review(Data):
    """What one reviewer says of one Record."""

    record_id: str
    reviewer: str
    source: Literal["person", "model", "builtin"] = "person"
    suggestions: tuple[Suggestion, ...] = ()
    approved: bool = False
    note: str = ""
