"""A Plan inside a Plan: what a step of a retouch paints, with its share of the whole's progress."""

from __future__ import annotations

from dataclasses import dataclass, replace

from danqing.pipelines.context import Context
from danqing.spec.plan import PassPlan, Plan


@dataclass
class Part(Context):
    """A Plan inside a Plan: its progress is a part of the whole's.

    Attributes:
        begin: Share of the whole that is done before it.
        width: Its own share.
    """

    begin: float = 0.0
    width: float = 1.0

    def fraction(self, step: float) -> float:
        """How much of the whole is done after `step` steps of the current pass, 0 to 1."""
        return min(self.begin + self.width * super().fraction(step), 1.0)

    def inner(self, place: int, count: int) -> Part:
        """The place-th of `count` equal parts of this one."""
        each = self.width / max(count, 1)
        return replace(self, begin=self.begin + each * place, width=each, done_steps=0)


def sub_plan(plan: Plan, planned: PassPlan, place: int) -> Plan:
    """The Plan of one thing: ADetailer's rule is that each has the next seed."""
    seeds = plan.seeds.model_copy(update={"seed": (plan.seeds.seed + place) % 2**64, "resize_from": None})
    without = {"init": None, "mask": None, "outpaint": None, "retouch": None}
    none = {"controls": (), "regions": (), "image_prompts": ()}
    return plan.model_copy(update={"kind": "inpaint", "passes": (planned,), "seeds": seeds, **without, **none})
