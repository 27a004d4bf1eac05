"""The denoiser a sampler sees: one latent in, guidance applied, masks held, progress reported."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from danqing.engine.calls import ControlInput, Denoise, ModelKey, Report, SizeNumbers
from danqing.engine.features import FeatureCache
from danqing.models.text import TextState
from danqing.pipelines.conditioning import Conditioning
from danqing.pipelines.context import Context
from danqing.pipelines.control import PassControl
from danqing.pipelines.image_prompts import PassImages
from danqing.pipelines.regions import PassRegion, PassRegions, blend
from danqing.sampling.guidance import GuidanceSettings, combine_alone, guide, needs_uncond, perturbed_attention
from danqing.spec.network import NetworkPlan, settled_steps, uses_at
from danqing.spec.plan import PassPlan

Blend = Callable[[Tensor, float], Tensor]
"""Puts the kept part of a picture back into denoised latents [1, c, h, w] at a sigma."""


@dataclass(frozen=True)
class Stage:
    """Which model speaks from which step on.

    Attributes:
        first_step: From here.
        key: The model.
        conditioning: Its words.
        images: Its image prompts.
        networks: LoRA and hypernetworks, whose strength may change over the steps.
        regions: Boxes and masks with words of their own.
    """

    first_step: int
    key: ModelKey
    conditioning: Conditioning
    images: PassImages | None = None
    networks: tuple[NetworkPlan, ...] = ()
    regions: PassRegions | None = None


@dataclass(frozen=True)
class Moment:
    """Where a sampler asks: its latent [1, c, h, w], the noise level, the step, and who answers."""

    x: Tensor
    sigma: float
    step: int
    stage: Stage


@dataclass(frozen=True)
class Reading:
    """What the rows of a Call read.

    Attributes:
        said: Rows of prompts.
        denied: Rows of negative prompts.
        perturbed: Rows with perturbed attention.
    """

    said: list[TextState]
    denied: list[TextState]
    perturbed: list[TextState] = field(default_factory=list["TextState"])


@dataclass
class Denoiser:
    """Callable as the samplers want it: `denoised = yield from denoiser(x, sigma)`.

    Attributes:
        context: The Plan's progress.
        stages: The model, and the refiner after it if there is one.
        guidance: How answers are combined.
        levels: The pass's sigmas, descending.
        pass_index: Which pass this is.
        extra: Further input channels of an inpainting UNet [1, c2, h, w].
        blend: How masked parts are kept.
        controls: ControlNet units of the pass.
        last_uncond: The unconditional estimate of the last answer, for CFG++.
        furthest: The furthest step reached: Restart goes back up in σ, progress does not.
        features: Deep features of the pass, where they are kept.
    """

    context: Context
    stages: Sequence[Stage]
    guidance: GuidanceSettings
    levels: Sequence[float]
    pass_index: int = 0
    extra: Tensor | None = None
    blend: Blend | None = None
    controls: Sequence[PassControl] = ()
    last_uncond: Tensor | None = None
    furthest: int = 0
    features: FeatureCache | None = None

    @property
    def steps(self) -> int:
        """Steps of the pass."""
        return len(self.levels) - 1

    def step_at(self, sigma: float) -> int:
        """The step, counted from 0, that works at this noise level; middle evaluations belong to their step."""
        tolerance = 1.0 + 1e-5
        started = sum(1 for level in self.levels[:-1] if level * tolerance >= sigma)
        return min(max(started - 1, 0), self.steps - 1)

    def unconditional(self) -> Tensor:
        """The unconditional estimate that belongs to the last answer [1, c, h, w]."""
        if self.last_uncond is None:
            raise RuntimeError("the unconditional estimate was asked for before any step")
        return self.last_uncond

    def __call__(self, x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        """D(x, σ) under guidance, for x [1, c, h, w]."""
        step = self.step_at(sigma)
        stage = next(stage for stage in reversed(self.stages) if step >= stage.first_step)
        denoised = yield from self._guided(x, sigma, step, stage)
        if self.blend is not None:
            denoised = self.blend(denoised, sigma)
        self.furthest = max(self.furthest, step + 1)
        fraction = self.context.fraction(self.furthest)
        yield Report(self.furthest, self.steps, fraction, self.pass_index, "denoise", stage.key, denoised)
        return denoised

    def estimate(self, x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        """D(x, σ) under guidance, for whoever puts several together: nothing is kept and nothing reported."""
        step = self.step_at(sigma)
        stage = next(stage for stage in reversed(self.stages) if step >= stage.first_step)
        return (yield from self._guided(x, sigma, step, stage))

    def _guided(self, x: Tensor, sigma: float, step: int, stage: Stage) -> Generator[Any, Any, Tensor]:
        parts, negative = stage.conditioning.at(step)
        weights = stage.conditioning.weights
        guided = needs_uncond(self.guidance, sigma, step, self.steps)
        perturbed = 1 if self.guidance.pag_scale > 0 else 0
        regions = stage.regions
        beside = [] if regions is None else regions.beside()
        denying = [region for region in beside if guided and region.denies_alone(step, self.steps)]
        moment = Moment(x, sigma, step, stage)
        read = Reading(
            said=[*parts, *(region.words.at(step)[0][0] for region in beside)],
            denied=[*([negative] if guided else []), *(region.words.at(step)[1] for region in denying)],
            perturbed=[parts[0]] if perturbed else [],
        )
        owners = [*(None for _ in parts), *beside, *([None] if guided else []), *denying, *([None] * perturbed)]
        answers = yield from self._ask(moment, read, stage.networks, owners)
        said, denied = answers[: len(read.said)], answers[len(read.said) : len(read.said) + len(read.denied)]
        conds, uncond = said[: len(parts)], denied[0] if guided else None
        if regions is not None and regions.engine == "latent":
            painted = dict(zip(map(id, beside), said[len(parts) :], strict=True))
            refused = dict(zip(map(id, denying), denied[1:], strict=True))
            for region in regions.apart():
                own = yield from self._apart(moment, region, negative if guided else None)
                painted[id(region)], refused[id(region)] = own[0], own[-1]
            conds, uncond = mixed(regions, conds, uncond, painted, refused)
        if uncond is not None:
            self.last_uncond = uncond
            out = guide(self.guidance, uncond, conds, weights, (x, sigma))
        else:
            self.last_uncond = conds[0]
            out = combine_alone(conds, weights)
        if perturbed:
            out = perturbed_attention(out, answers[0], answers[-1], self.guidance.pag_scale)
        return out

    def _apart(
        self, moment: Moment, region: PassRegion, negative: TextState | None
    ) -> Generator[Any, Any, list[Tensor]]:
        """Estimates for a region with networks of its own: its words, then what it denies."""
        said, denied = region.words.at(moment.step)
        refused = [] if negative is None else [denied if region.own_negative else negative]
        owners = [region for _ in (said[0], *refused)]
        return (yield from self._ask(moment, Reading([said[0]], refused), region.networks, owners))

    def _ask(
        self,
        moment: Moment,
        read: Reading,
        networks: tuple[NetworkPlan, ...],
        owners: Sequence[PassRegion | None] = (),
    ) -> Generator[Any, Any, list[Tensor]]:
        """The denoiser's estimates for each row, [1, c, h, w] each; `owners` says which rows are of a region."""
        stage, step = moment.stage, moment.step
        planned = self.context.plan.passes[self.pass_index]
        counts = (len(read.said), len(read.denied), len(read.perturbed))
        states = [*read.said, *read.denied, *read.perturbed]
        negatives = [len(read.said) <= row < len(read.said) + len(read.denied) for row in range(len(states))]
        controls = tuple(one.rows(*counts) for one in self.controls if one.acts_at(step, self.steps))
        controls += own_controls(owners, negatives, step, self.steps)
        shown = None if stage.images is None else stage.images.at(step, self.steps, *counts)
        pooled = tuple(state.pooled for state in states if state.pooled is not None)
        if stage.images is not None and pooled:
            told = stage.images.pooled
            pooled = tuple(
                text if negative else told(text, step, self.steps)
                for text, negative in zip(pooled, negatives, strict=True)
            )
        call = Denoise(
            stage.key,
            moment.x,
            moment.sigma,
            tuple(state.states for state in states),
            self.extra,
            counts[2],
            controls,
            shown,
            pooled=pooled,
            sizes=tuple(size_numbers(planned, negative=negative) for negative in negatives) if pooled else (),
            networks=uses_at(networks, step, self.steps),
            settled_steps=settled_steps(networks, step, self.steps),
            distilled=planned.guidance.distilled or 0.0,
            regions=None if stage.regions is None else stage.regions.attention(step, *counts),
            merging=planned.shortcuts.token_merging,
        )
        if self.features is not None:
            call = self.features.within(call, step, row_keys(stage, counts, owners))
        rows: Tensor = yield self._finished(call, step, counts)
        return list(torch.split(rows, 1))

    def _finished(self, call: Denoise, step: int, counts: tuple[int, int, int]) -> Denoise:
        """A Call with what a denoiser of another kind adds; `counts` are its rows as `Reading` lists them."""
        del step, counts
        return call


def row_keys(
    stage: Stage, counts: tuple[int, int, int], owners: Sequence[PassRegion | None]
) -> list[tuple[int, int, int, int]]:
    """What each row of a Call means within its pass: the stage, what is asked for, its place there, whose it is."""
    places = [(role, place) for role, count in enumerate(counts) for place in range(count)]
    whose = owners or [None] * len(places)
    return [
        (stage.first_step, role, place, 0 if owner is None else id(owner))
        for (role, place), owner in zip(places, whose, strict=True)
    ]


def own_controls(
    owners: Sequence[PassRegion | None], negatives: Sequence[bool], step: int, steps: int
) -> tuple[ControlInput, ...]:
    """The ControlNets of single regions in a Call, each on the rows of its region alone.

    Args:
        owners: The region of each row; None for a row of the whole.
        negatives: Whether the row reads a negative prompt.
        step: Counted from 0.
        steps: Of the pass.
    """
    found: list[ControlInput] = []
    for region in {id(one): one for one in owners if one is not None}.values():
        control = region.steered(step, steps)
        if control is not None:
            other = 0.0 if control.unit.cond_only else 1.0
            factors = [other if negative else 1.0 for negative in negatives]
            mine = zip(owners, factors, strict=True)
            found.append(control.on(tuple(factor if one is region else 0.0 for one, factor in mine)))
    return tuple(found)


def size_numbers(planned: PassPlan, *, negative: bool = False) -> SizeNumbers:
    """What SDXL is told of the picture's size; left open, that it is uncropped and of the size that is painted."""
    hints = planned.size_hints
    original, target = hints.original or planned.size, hints.target or planned.size
    if negative:
        original, target = hints.negative_original or original, hints.negative_target or target
    return SizeNumbers(
        original_height=original.height_px,
        original_width=original.width_px,
        crop_top=hints.crop_top_px,
        crop_left=hints.crop_left_px,
        target_height=target.height_px,
        target_width=target.width_px,
        aesthetic_score=hints.negative_aesthetic_score if negative else hints.aesthetic_score,
    )


def mixed(
    regions: PassRegions,
    conds: list[Tensor],
    uncond: Tensor | None,
    painted: Mapping[int, Tensor],
    refused: Mapping[int, Tensor],
) -> tuple[list[Tensor], Tensor | None]:
    """Estimates for the whole's words with those of the regions mixed in, by the latent engine.

    Args:
        regions: In their order.
        conds: For the parts of the whole's prompt, each [1, c, h, w].
        uncond: For its negative prompt, if that was asked for.
        painted: For the words of each region, by its identity.
        refused: For the negative prompts of the regions that have one, or networks, of their own.
    """
    masks = [region.mask for region in regions.each]
    said = [painted[id(region)] for region in regions.each]
    conds = [blend(cond, masks, said) for cond in conds]
    if uncond is None or not refused:
        return conds, uncond
    denied = [refused.get(id(region), uncond) for region in regions.each]
    return conds, blend(uncond, masks, denied)
