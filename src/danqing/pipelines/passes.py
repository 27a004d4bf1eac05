"""One trip through the denoiser: sigmas, noise, sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from danqing.engine.calls import Describe, Description, EncodeImage, ModelKey, Report
from danqing.engine.features import FeatureCache
from danqing.pipelines import conditioning, image_prompts, regions
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Frame, PassControl, Scene, pass_controls
from danqing.pipelines.denoiser import Blend, Denoiser, Stage
from danqing.sampling.guidance import GuidanceSettings
from danqing.sampling.noise import NoiseSettings, PictureNoise
from danqing.sampling.parametrization import alpha
from danqing.sampling.samplers import SAMPLERS
from danqing.sampling.schedules import ScheduleSettings, sigmas, steps_for_strength
from danqing.sampling.tables import FlowTable
from danqing.sampling.types import SamplerOptions
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelRef
from danqing.spec.plan import PassPlan, Plan, SamplingPlan, SeedPlan
from danqing.spec.registry.samplers import find_sampler

PATCH = 2
"""Side in latent pixels of what a transformer reads as one token."""


@dataclass(frozen=True)
class Start:
    """What a pass begins with besides noise.

    Attributes:
        latent: Clean latents to repaint [1, c, h, w]; None begins from noise alone.
        blend: How masked parts are kept.
        extra: Further input channels of an inpainting UNet [1, c2, h, w].
        noise_multiplier: Factor on the noise added to `latent`.
        scene: What the pass starts from as pictures, for ControlNet units.
        asked: How the denoiser is asked: in windows, for example; None for at once.
    """

    latent: Tensor | None = None
    blend: Blend | None = None
    extra: Tensor | None = None
    noise_multiplier: float = 1.0
    scene: Scene = field(default_factory=Scene)
    asked: Callable[[Denoiser], Any] | None = None


def run_pass(context: Context, index: int, start: Start) -> Step[Tensor]:
    """Run one pass of the Plan and return its latents [1, c, h, w]."""
    planned = context.plan.passes[index]
    key = context.key(planned.model)
    yield Report(0, planned.sampling.steps, context.fraction(0), index, "load")
    # What is asked in windows never sees the whole at once.
    largest = largest_size(context.plan, planned.model) if start.asked is None else None
    described: Description = fitted((yield Describe(key, largest)), planned.size)
    levels = pass_levels(planned, described)
    steps = len(levels) - 1
    yield Report(0, steps, context.fraction(0), index, "encode")
    controls = pass_controls(context, index, start.scene)
    stages = yield from pass_stages(context, index, key, steps)
    if planned.regions:
        own = regions.region_controls(context, index, start.scene)
        controls += regions.beside_the_whole(context, own)
        shape = latent_shape(described, planned.size)
        stages = yield from _with_regions(context, index, stages, shape, (start.scene.frame, own))
    noise = PictureNoise(noise_settings(context.plan.seeds, described.info.latent_scale))
    extra = start.extra
    if extra is None and described.info.is_inpainting:
        extra = yield from blank_extra(key, planned.size)
    if extra is None and described.info.variant == "edit":
        extra = torch.zeros(latent_shape(described, planned.size)) if start.latent is None else start.latent
    denoiser = Denoiser(
        context,
        stages,
        guidance_settings(planned),
        [float(v) for v in levels.tolist()],
        index,
        extra,
        start.blend,
        controls,
        # Windows of a plane ask several times at each step, and no one row of theirs is of one place.
        features=kept_features(planned) if start.asked is None else None,
    )
    shape = latent_shape(described, planned.size)
    x = noise.initial(shape) * levels[0]
    if start.latent is not None:
        # A flow's noise takes the picture's place, where the other models' noise lies over it.
        kept = alpha(float(levels[0]), flow=described.table.flow)
        x = kept * start.latent + x * start.noise_multiplier
    asked = denoiser if start.asked is None else start.asked(denoiser)
    options = sampler_options(planned.sampling, described, asked)
    sampler = SAMPLERS[find_sampler(planned.sampling.sampler).key]
    latent: Tensor = yield from sampler(asked, x, levels, noise, options)
    context.done_steps += steps
    return latent


def largest_size(plan: Plan, model: ModelRef) -> SizePx:
    """The size of the largest pass that a model paints."""
    sizes = [one.size for one in plan.passes if one.model == model]
    return max(sizes, key=lambda one: one.width_px * one.height_px)


def kept_features(planned: PassPlan) -> FeatureCache | None:
    """Where a pass keeps deep features; None where it computes everything at each step."""
    own = planned.shortcuts
    return FeatureCache(own.cache_interval, own.cache_branch) if own.cache_interval > 1 else None


def pass_levels(planned: PassPlan, described: Description) -> Tensor:
    """The noise levels of a pass [steps + 1], fewer where its strength says so."""
    sampling = planned.sampling
    settings = ScheduleSettings(rho=sampling.rho, sigma_min=sampling.sigma_min, sigma_max=sampling.sigma_max)
    info = find_sampler(sampling.sampler)
    if planned.strength is None:
        return sigmas(sampling.schedule, sampling.steps, described.table, info, settings)
    part = steps_for_strength(sampling.steps, planned.strength, exact=planned.exact_steps)
    return sigmas(sampling.schedule, part.total, described.table, info, settings)[part.skip :]


def pass_stages(context: Context, index: int, key: ModelKey, steps: int) -> Step[list[Stage]]:
    """The models of a pass with their words encoded: its own, and the refiner after it."""
    planned = context.plan.passes[index]
    base_steps = context.plan.base.sampling.steps if planned.kind == "hires" else None
    words = yield from conditioning.encode(key, planned, base_steps)
    images = yield from image_prompts.embed(context, planned.image_adapter)
    stages = [Stage(0, key, words, images, planned.networks)]
    if planned.refiner is not None:
        other = context.key(planned.refiner.model)
        yield Describe(other)
        words = yield from conditioning.encode(other, planned, base_steps, planned.refiner)
        # The switch is planned on the full schedule; a shortened one keeps the same share.
        switch = round(planned.refiner.switch_step * steps / planned.sampling.steps)
        images = yield from image_prompts.embed(context, planned.refiner.image_adapter)
        stages.append(Stage(max(switch, 1), other, words, images, planned.refiner.networks))
    return stages


def _with_regions(
    context: Context,
    index: int,
    stages: list[Stage],
    shape: tuple[int, int, int, int],
    placed: tuple[Frame | None, Sequence[PassControl | None]],
) -> Step[list[Stage]]:
    """The stages with the pass's regions; `placed` is the part of the picture, and each region's ControlNet."""
    found: list[Stage] = []
    for stage in stages:
        prepared = yield from regions.prepare(context, stage.key, index, shape[2:], *placed)
        found.append(replace(stage, regions=prepared))
    return found


def fitted(described: Description, size: SizePx) -> Description:
    """The description with the noise levels for a picture of this size, where they depend on it."""
    table = described.table
    if not isinstance(table, FlowTable) or table.by_size is None:
        return described
    patch_px = PATCH * described.info.latent_scale
    tokens = math.ceil(size.width_px / patch_px) * math.ceil(size.height_px / patch_px)
    return replace(described, table=table.for_tokens(tokens))


def latent_shape(described: Description, size: SizePx) -> tuple[int, int, int, int]:
    """Shape [1, c, h, w] of the latents of a picture."""
    scale = described.info.latent_scale
    return (1, described.info.latent_channels, size.height_px // scale, size.width_px // scale)


def noise_settings(seeds: SeedPlan, latent_scale: int) -> NoiseSettings:
    """The Plan's seeds in the sampler's words."""
    resize = seeds.resize_from
    return NoiseSettings(
        seed=seeds.seed,
        source=seeds.source,
        variation_seed=seeds.variation_seed,
        variation_strength=seeds.variation_strength,
        resize_from=(resize.height_px // latent_scale, resize.width_px // latent_scale) if resize else None,
        eta_seed_delta=seeds.eta_noise_seed_delta,
    )


def guidance_settings(planned: PassPlan) -> GuidanceSettings:
    """The Plan's guidance in the sampler's words."""
    guidance = planned.guidance
    return GuidanceSettings(
        scale=planned.guidance_scale,
        rescale=guidance.rescale,
        threshold_percentile=guidance.threshold.percentile if guidance.threshold else None,
        mimic_scale=guidance.threshold.mimic_scale if guidance.threshold else None,
        pag_scale=guidance.pag_scale,
        skip_early=guidance.skip_early,
        s_min_uncond=guidance.s_min_uncond,
        always_uncond=find_sampler(planned.sampling.sampler).cfg_pp,
        window=planned.shortcuts.guidance_window,
    )


def sampler_options(sampling: SamplingPlan, described: Description, denoiser: Denoiser) -> SamplerOptions:
    """The Plan's sampler numbers in the sampler's words."""
    table = described.table
    return SamplerOptions(
        eta=sampling.eta,
        s_churn=sampling.s_churn,
        s_tmin=sampling.s_tmin,
        s_tmax=math.inf if sampling.s_tmax is None else sampling.s_tmax,
        s_noise=sampling.s_noise,
        flow=table.flow,
        unconditional=denoiser.unconditional,
        earlier_sigma=getattr(table, "earlier_sigma", None),
    )


def blank_extra(key: ModelKey, size: SizePx) -> Step[Tensor]:
    """Mask and masked picture that leave everything to an inpainting UNet: all masked, a grey picture below."""
    grey = torch.zeros(1, 3, size.height_px, size.width_px)
    latent = cast("Tensor", (yield EncodeImage(key, grey)))
    return torch.cat([torch.ones_like(latent[:, :1]), latent], dim=1)
