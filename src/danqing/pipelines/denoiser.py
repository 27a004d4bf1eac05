"""The denoiser a sampler sees: one latent in, guidance applied, masks held, progress reported."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danqing.engine.calls import Denoise, ModelKey, Report, SizeNumbers
from danqing.pipelines.conditioning import Conditioning
from danqing.pipelines.context import Context
from danqing.pipelines.control import PassControl
from danqing.pipelines.image_prompts import PassImages
from danqing.sampling.guidance import GuidanceSettings, combine_alone, guide, needs_uncond, perturbed_attention
from danqing.spec.network import NetworkPlan, uses_at

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
    """

    first_step: int
    key: ModelKey
    conditioning: Conditioning
    images: PassImages | None = None
    networks: tuple[NetworkPlan, ...] = ()


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

    def _numbers(self, negative: bool) -> SizeNumbers:
        """What SDXL is told of the picture's size; left open, that it is uncropped and of the size that is painted."""
        planned = self.context.plan.passes[self.pass_index]
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

    def _guided(self, x: Tensor, sigma: float, step: int, stage: Stage) -> Generator[Any, Any, Tensor]:
        parts, negative = stage.conditioning.at(step)
        weights = stage.conditioning.weights
        guided = needs_uncond(self.guidance, sigma, step, self.steps)
        perturbed = 1 if self.guidance.pag_scale > 0 else 0
        read = [*parts, *([negative] if guided else []), *([parts[0]] if perturbed else [])]
        negatives = [len(parts) <= row < len(parts) + int(guided) for row in range(len(read))]
        acting = [control for control in self.controls if control.acts_at(step, self.steps)]
        controls = tuple(control.rows(len(parts), int(guided), perturbed) for control in acting)
        shown = None
        if stage.images is not None:
            shown = stage.images.at(step, self.steps, len(parts), int(guided), perturbed)
        pooled = tuple(state.pooled for state in read if state.pooled is not None)
        rows: Tensor = yield Denoise(
            stage.key,
            x,
            sigma,
            tuple(state.states for state in read),
            self.extra,
            perturbed,
            controls,
            shown,
            pooled=pooled,
            sizes=tuple(self._numbers(negative) for negative in negatives) if pooled else (),
            networks=uses_at(stage.networks, step, self.steps),
            distilled=self.context.plan.passes[self.pass_index].guidance.distilled or 0.0,
        )
        answers = list(torch.split(rows, 1))
        conds = answers[: len(parts)]
        if guided:
            self.last_uncond = answers[len(parts)]
            out = guide(self.guidance, self.last_uncond, conds, weights, (x, sigma))
        else:
            self.last_uncond = conds[0]
            out = combine_alone(conds, weights)
        if perturbed:
            out = perturbed_attention(out, conds[0], answers[-1], self.guidance.pag_scale)
        return out
