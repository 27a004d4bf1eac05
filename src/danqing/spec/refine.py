"""Rounds of review and repainting: what was tried, what the judge said of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.review import Suggestion

RefineWay = Literal["inpaint", "regions", "emphasis", "img2img"]
"""How a suggestion is carried out. `inpaint`: only the box is repainted. `regions`: the whole again from the same seed,
the box with words of its own. `emphasis`: the whole again from the same seed, the words weighted. `img2img`: over the
picture itself."""
RefineState = Literal["running", "done", "failed", "cancelled"]
MAX_ROUNDS = 20


class Scores(Data):
    """What the judge says of one picture."""

    prompt: float = Field(ge=0, le=1, description="how well the brief fits it")
    aesthetic: float = Field(ge=0, le=1, description="how good it looks, whatever it shows")
    similarity: float = Field(default=1.0, ge=-1, le=1, description="structural similarity to the picture before")
    judge: str = Field(default="", description="who judged: prompt scorer and aesthetic scorer")


class RefineRules(Data):
    """When the judge accepts. All numbers are differences of `Scores` but the floor."""

    prompt_gain: float = Field(default=0.03, ge=0, le=1, description="what the prompt score must gain …")
    aesthetic_gain: float = Field(default=0.05, ge=0, le=1, description="… or else the aesthetic score")
    prompt_loss: float = Field(default=0.03, ge=0, le=1, description="what the prompt score may lose")
    aesthetic_loss: float = Field(default=0.1, ge=0, le=1, description="what the aesthetic score may lose")
    similarity_floor: float = Field(
        default=0.2, ge=-1, le=1, description="a picture less like the one before is refused"
    )


class RefineOptions(Data):
    """How a picture is refined."""

    rounds: int = Field(default=4, ge=1, le=MAX_ROUNDS, description="pictures painted at most")
    reviewer: str = Field(default="builtin", max_length=64)
    rules: RefineRules = RefineRules()


class RefineRound(Data):
    """One round: a suggestion, how it was tried, and the verdict."""

    number: int = Field(ge=1)
    suggestion: Suggestion
    way: RefineWay
    before: str = Field(description="id of the Record that was reviewed")
    after: str | None = Field(default=None, description="id of the new version; None for a rejected one")
    scores_before: Scores
    scores_after: Scores | None = None
    accepted: bool = False
    verdict: str = ""


class Refinement(Data):
    """A refinement as it stands."""

    id: str
    state: RefineState = "running"
    brief: str
    reviewer: str
    first: str | None = Field(default=None, description="id of the Record it began with")
    best: str | None = Field(default=None, description="id of the best version so far")
    rounds: tuple[RefineRound, ...] = ()
    scores_first: Scores | None = None
    scores_best: Scores | None = None
    note: str = Field(default="", description="why it stopped")
    error: dict[str, object] | None = None
