"""Retouching a picture: an ordered list of steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from danqing.spec.painting import InitRequest
from danqing.spec.retouch_steps import MAX_RETOUCH_STEPS, RetouchStep


class RetouchRequest(InitRequest):
    """Retouch a picture: details, faces, size, background, in this order or another."""

    kind: Literal["retouch"] = "retouch"
    steps: tuple[RetouchStep, ...] = Field(
        min_length=1, max_length=MAX_RETOUCH_STEPS, description="what is done, one after the other"
    )
