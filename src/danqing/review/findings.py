"""What a reviewer found in one picture, before anybody knows which Record it belongs to. No torch."""

from __future__ import annotations

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.review import MAX_SUGGESTIONS, Review, ReviewSource, Suggestion


class Findings(Data):
    """Suggestions on a picture.

    Attributes:
        reviewer: A key of `review.base.REVIEWERS`.
        model: Which network looked: a name or a content hash.
        suggestions: What to change, the most needed first.
        note: What else there is to say: that nothing is missing, or that the answer could not be read.
    """

    reviewer: str
    model: str = ""
    suggestions: tuple[Suggestion, ...] = Field(default=(), max_length=MAX_SUGGESTIONS)
    note: str = Field(default="", max_length=4000)


def as_review(found: Findings, record_id: str) -> Review:
    """The Review of a Record that these findings make."""
    source: ReviewSource = "builtin" if found.reviewer == "builtin" else "model"
    return Review(
        record_id=record_id,
        reviewer=found.reviewer,
        source=source,
        suggestions=found.suggestions,
        note=found.note,
    )
