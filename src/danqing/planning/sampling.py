"""Sampler, schedule, steps and seeds of a pass, as asked for or as its model likes them."""

from __future__ import annotations

from danqing.planning.foreign import foreign_sampling
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Guidance, PaintRequest, Sampling
from danqing.spec.plan import SamplingPlan, SeedPlan
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


def seeds_for(request: PaintRequest, seed: int, index: int, variation_seed: int, model: ModelInfo) -> SeedPlan:
    """The seeds of one picture of a Request.

    A1111's rule: pictures of a batch count up the seed, or the variation seed when there is a variation.

    Args:
        request: What was asked for.
        seed: Of the first picture.
        index: Which picture, from 0.
        variation_seed: Of the first picture.
        model: That paints.
    """
    strength = request.variation.strength if request.variation else 0.0
    return SeedPlan(
        seed=seed if strength else (seed + index) % 2**64,
        variation_seed=(variation_seed + index) % 2**64 if strength else 0,
        variation_strength=strength,
        resize_from=request.seed_resize.rounded(model.latent_scale) if request.seed_resize else None,
        source=request.noise,
        eta_noise_seed_delta=request.eta_noise_seed_delta,
    )
