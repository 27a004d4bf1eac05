"""Work that a pass may leave out for speed: as a person asks for it, and resolved.

Feature caching: Ma et al., *DeepCache*, arXiv 2312.00858. Guidance in a part of the steps: Kynkäänniemi et al.,
arXiv 2404.07724. Token merging: Bolya and Hoffman, arXiv 2303.17604.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from danqing.spec.base import Data

Quality = Literal["exact", "fast", "draft"]
"""`exact` computes everything, `fast` leaves out what is hard to see, `draft` more."""
MAX_INTERVAL = 10
MAX_BRANCH = 16
MAX_MERGING = 0.75
_Share = Annotated[float, Field(ge=0, le=1)]
Window = tuple[_Share, _Share]
"""Begin and end as shares of a pass's steps."""


class ShortcutsPlan(Data):
    """What one pass leaves out. As it stands here, nothing: the picture is exact."""

    cache_interval: int = Field(
        default=1, ge=1, le=MAX_INTERVAL, description="the denoiser's deep blocks are computed at every n-th step"
    )
    cache_branch: int = Field(
        default=0, ge=0, le=MAX_BRANCH, description="how much is computed at the other steps: 0 the outermost blocks"
    )
    guidance_window: Window = Field(default=(0.0, 1.0), description="shares of the steps between which it is guided")
    token_merging: float = Field(
        default=0.0, ge=0, le=MAX_MERGING, description="share of like tokens that self-attention takes together"
    )


class Shortcuts(Data):
    """Single numbers in place of what a quality stands for."""

    cache_interval: int | None = Field(
        default=None,
        ge=1,
        le=MAX_INTERVAL,
        description="compute the denoiser's deep blocks at every n-th step; 1 at each",
    )
    cache_branch: int | None = Field(
        default=None,
        ge=0,
        le=MAX_BRANCH,
        description="0 computes the outermost blocks at the other steps; more is slower, finer",
    )
    guidance_window: Window | None = Field(
        default=None, description="guide from this share of the steps to that one; [0, 1] all the way"
    )
    token_merging: float | None = Field(
        default=None, ge=0, le=MAX_MERGING, description="share of like tokens that self-attention takes together"
    )

    @model_validator(mode="after")
    def _window_has_a_length(self) -> Shortcuts:
        if self.guidance_window is not None and self.guidance_window[0] >= self.guidance_window[1]:
            raise PydanticCustomError(
                "guidance_window",
                "the guidance window ends before it begins",
                {"expected": "[begin, end], begin < end"},
            )
        return self


QUALITIES: Final[dict[Quality, ShortcutsPlan]] = {
    "exact": ShortcutsPlan(),
    "fast": ShortcutsPlan(cache_interval=2, cache_branch=2, guidance_window=(0.0, 0.8)),
    "draft": ShortcutsPlan(cache_interval=3, cache_branch=0, guidance_window=(0.0, 0.7)),
}
"""Measured on the built-in model: docs/performance.md, "Do less"."""
