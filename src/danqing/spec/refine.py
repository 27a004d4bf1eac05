"""Rounds of review and repainting: what was tried, what the judge said of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.request import Request
from danqing.spec.review import Suggestion

RefineWay = Literal["inpaint", "regions", "emphasis", "img2img"]
"""How a suggestion is carried out. `inpaint`: only the box is repainted. `regions`: the whole again from the same seed,
the box with words of its own. `emphasis`: the whole again from the same seed, the words weighted. `img2img`: over the
picture itself."""
RefineState = Literal["running", "done", "failed", "cancelled", "interrupted"]
"""`interrupted`: the process that ran it ended; its accepted versions are there, and one can go on from the best."""
RefineEnd = Literal["content", "no_gain", "rounds", "cancelled", "failed", "interrupted"]
"""Why it stopped. `content`: nobody has more to say. `no_gain`: no way of any suggestion is accepted."""
RefineStep = Literal["painting", "reviewing", "judging"]
RoundOutcome = Literal["gain", "no_gain", "loss", "unlike", "failed"]
"""Why a round was accepted (`gain`) or not. `loss`: one score gained, the other lost too much. `failed`: no picture."""
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
    outcome: RoundOutcome | None = None
    verdict: str = ""


class Refinement(Data):
    """A refinement as it stands."""

    id: str
    state: RefineState = "running"
    end: RefineEnd | None = Field(default=None, description="why it stopped; None while it runs")
    brief: str
    reviewer: str
    options: RefineOptions = RefineOptions()
    project: str | None = Field(default=None, description="id of the project that accepted versions join")
    record: str | None = Field(default=None, description="id of the Record it was asked to refine")
    request: Request | None = Field(default=None, description="what it was asked to paint first")
    continues: str | None = Field(default=None, description="id of the refinement that it goes on with")
    continued_by: str | None = Field(default=None, description="id of the refinement that goes on with it")
    step: RefineStep | None = Field(default=None, description="what it does at the moment")
    job: str | None = Field(default=None, description="id of the job that is painted at the moment")
    stopping: bool = Field(default=False, description="somebody has asked it to stop")
    first: str | None = Field(default=None, description="id of the Record it began with")
    best: str | None = Field(default=None, description="id of the best version so far")
    rounds: tuple[RefineRound, ...] = ()
    scores_first: Scores | None = None
    scores_best: Scores | None = None
    note: str = Field(default="", description="why it stopped")
    error: dict[str, object] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def left(self) -> int:
        """Pictures that may still be painted."""
        return max(0, self.options.rounds - len(self.rounds))
