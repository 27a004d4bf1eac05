"""What every pipeline carries along: the Plan, where input pictures come from, and how far it is."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from PIL import Image

from danqing.engine.calls import Call, ModelKey
from danqing.sampling.schedules import steps_for_strength
from danqing.spec.model import ModelRef
from danqing.spec.plan import PassPlan, Plan

Answer = TypeVar("Answer")
Step = Generator[Call, Any, Answer]
"""Part of a Session: yields Calls and returns an answer (`answer = yield from step`)."""


class Pictures(Protocol):
    """Where a pipeline gets its input pictures."""

    def open(self, sha256: str) -> Image.Image:
        """The picture with this content hash, decoded.

        Raises:
            NotFoundError: It is not in the store.
            BadFileError: It is damaged.
        """
        ...


@dataclass
class Context:
    """A Plan on its way to a picture.

    Attributes:
        plan: What to paint.
        pictures: Where the input pictures are.
        done_steps: Steps of earlier passes.
        total_steps: Steps of all passes, as far as is known beforehand.
    """

    plan: Plan
    pictures: Pictures
    total_steps: int
    done_steps: int = field(default=0)

    def key(self, model: ModelRef) -> ModelKey:
        """Which weights answer for this model in this Plan."""
        return ModelKey(model, self.plan.vae, self.plan.precision)

    def fraction(self, step: float) -> float:
        """How much of the whole is done after `step` steps of the current pass, 0 to 1."""
        return min((self.done_steps + step) / max(self.total_steps, 1), 1.0)


def steps_of(planned: PassPlan) -> int:
    """Steps a pass will run: fewer than asked for where the denoising strength says so."""
    if planned.strength is None:
        return planned.sampling.steps
    if planned.strength == 0:
        return 0
    return steps_for_strength(planned.sampling.steps, planned.strength, exact=planned.exact_steps).run
