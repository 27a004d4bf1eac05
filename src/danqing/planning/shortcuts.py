"""What each pass leaves out for speed: a quality's numbers, or the person's own, as far as its model can."""

from __future__ import annotations

from collections.abc import Sequence

from danqing.spec.drag import DragRequest
from danqing.spec.plan import PassPlan
from danqing.spec.request import Request
from danqing.spec.shortcuts import QUALITIES, ShortcutsPlan

UNETS = frozenset({"sd1", "sd2", "sdxl", "danqing"})
"""Families whose denoiser is a UNet, the blocks of which are known."""
TRANSFORMERS = frozenset({"sd3", "flux"})
"""Families whose denoiser is a transformer, the blocks of which are known."""
FEW_STEPS = 10
"""A pass of fewer steps leaves nothing out for a quality's sake: each of them changes the picture much."""


def left_out(request: Request, passes: Sequence[PassPlan]) -> tuple[tuple[PassPlan, ...], tuple[str, ...]]:
    """The passes of a Plan with what they leave out, and what the person should know of it.

    Args:
        request: What was asked for.
        passes: In order.
    """
    own = request.shortcuts.model_dump(exclude_none=True)
    if own == {} and QUALITIES[request.quality] == ShortcutsPlan():
        return tuple(passes), ()
    found: list[PassPlan] = []
    notes: list[str] = []
    for one in passes:
        if _is_painted_as_a_whole(request, one):
            notes.append("nothing is left out: this kind of work is always exact")
            found.append(one)
        else:
            numbers = _numbers(request, one, notes)
            found.append(one.model_copy(update={"shortcuts": numbers}))
    return tuple(found), tuple(dict.fromkeys(notes))


def _numbers(request: Request, one: PassPlan, notes: list[str]) -> ShortcutsPlan:
    told = QUALITIES[request.quality]
    steps = steps_run(one)
    if steps < FEW_STEPS and told != ShortcutsPlan():
        told = ShortcutsPlan()
        notes.append(f"{request.quality}: a pass of {steps} steps leaves none of their work out, they are too few")
    own = request.shortcuts.model_dump(exclude_none=True)
    numbers = ShortcutsPlan.model_validate({**told.model_dump(), **own})
    if one.model.family not in UNETS and numbers.token_merging > 0:
        numbers = numbers.model_copy(update={"token_merging": 0.0})
        notes.append(f"{one.model.name} is a transformer: none of its tokens are merged")
    if one.model.family not in UNETS | TRANSFORMERS and numbers.cache_interval > 1:
        numbers = numbers.model_copy(update={"cache_interval": 1})
        notes.append(f"the blocks of {one.model.name} are all computed at each step")
    return numbers


def steps_run(one: PassPlan) -> int:
    """About how many steps a pass runs: fewer than asked for where its strength says so."""
    if one.strength is None or one.exact_steps:
        return one.sampling.steps
    return int(one.sampling.steps * one.strength)


def _is_painted_as_a_whole(request: Request, one: PassPlan) -> bool:
    if one.pipeline is not None or request.kind == "words":
        return True
    return isinstance(request, DragRequest) and request.mode == "quality"
