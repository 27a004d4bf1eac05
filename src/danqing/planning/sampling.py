"""Sampler, schedule and steps of a pass, as asked for or as its model likes them."""

from __future__ import annotations

from danqing.planning.foreign import foreign_sampling
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Guidance, Sampling
from danqing.spec.plan import SamplingPlan
from danqing.spec.registry.samplers import find_sampler, split_legacy_name
from danqing.spec.registry.schedules import find_schedule


def sampling_for(wanted: Sampling, model: ModelInfo) -> SamplingPlan:
    """The sampling of a pass with every number filled in.

    Args:
        wanted: As asked for.
        model: Whose own choices fill the gaps.

    Raises:
        InvalidRequestError: There is no such sampler or schedule.
    """
    if model.foreign is not None:
        return foreign_sampling(wanted, model)
    name, schedule = split_legacy_name(wanted.sampler or model.defaults.sampler)
    sampler = find_sampler(name)
    chosen = find_schedule(
        wanted.schedule or schedule or (model.defaults.schedule if wanted.sampler is None else "automatic")
    )
    return SamplingPlan(
        sampler=sampler.key,
        schedule=sampler.default_schedule if chosen.key == "automatic" else chosen.key,
        steps=wanted.steps or model.defaults.steps,
        **wanted.model_dump(exclude={"sampler", "schedule", "steps"}),
    )


def guidance_for(asked: Guidance, model: ModelInfo) -> Guidance:
    """What was asked for; a network that is told its guidance and was asked for none is told its own."""
    own = model.defaults.distilled_guidance
    return asked if asked.distilled is not None or own is None else asked.model_copy(update={"distilled": own})
