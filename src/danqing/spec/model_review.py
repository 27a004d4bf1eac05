"""Asking a model for a review: who can be asked, and how the asking goes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from danqing.spec.base import Data

ModelReviewState = Literal["running", "done", "failed", "cancelled"]
Lacks = Literal["review_url", "review_model", "weights"]
"""What a reviewer lacks: a setting of the vision endpoint, or weights in the models folder."""


class ReviewerChoice(Data):
    """A reviewer as a person chooses it. The endpoint's key is never told."""

    key: str
    name: str
    hint: str
    available: bool
    model: str = Field(default="", description="the endpoint's model, or the folder of the weights")
    where: str = Field(default="", description="where the picture is sent to; empty if it stays on this machine")
    lacks: tuple[Lacks, ...] = ()
    missing: str = Field(default="", description="what is missing, in a sentence; empty if it is available")
    next_step: str = Field(default="", description="what to do about it")


class ModelReviewOrder(Data):
    """A version that a model is to review."""

    record: str = Field(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="the version")
    reviewer: str = Field(default="builtin", max_length=64, description="a key of `GET /reviewers`")
    brief: str | None = Field(
        default=None, max_length=4000, description="the words of the project's brief, else the version's, if unset"
    )


class ModelReview(Data):
    """A review that a model was asked for; when it is done it stands in the project's list as `review`."""

    id: str
    project: str
    record: str
    reviewer: str
    state: ModelReviewState = "running"
    review: str | None = Field(default=None, description="id of the Review that came of it")
    error: dict[str, object] | None = Field(default=None, description="why it failed")
    started_at: datetime
