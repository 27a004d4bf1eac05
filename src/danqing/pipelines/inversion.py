"""From a picture back to the noise it would have been painted from, and what keeps the way forward on the same path.

- *DDIM inversion*: Song et al. 2020 (arXiv 2010.02502) run upwards, at guidance 1; exact only for many steps.
- *Null-text inversion*: Mokady et al. 2022 (arXiv 2211.09794), an unconditional text for each step, learnt by Adam.
- *Negative-prompt inversion*: Miyake et al. 2023 (arXiv 2305.16807), the source prompt in the negative prompt's place.
- *Direct (PnP) inversion*: Ju et al. 2023 (arXiv 2310.01506), the source's path itself is put back at each step.

For other pipelines: `trajectory = yield from ddim_invert(denoise, latent, levels)`, where `denoise(x, sigma)` is any
denoiser as samplers want it (`Inverting` is one that reports progress). `trajectory[i]` is the latent at `levels[i]`.
Everything is in σ, with x in variance-exploding scaling.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from danqing.adapters.hooks import uncompiled
from danqing.engine.calls import Exclusive, ModelKey, Report, SizeNumbers
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.text import TextState
from danqing.pipelines.context import Context, Step
from danqing.pipelines.denoiser import Denoiser
from danqing.sampling.guidance import combine
from danqing.sampling.types import Denoise
from danqing.spec.network import NetworkPlan, uses_at

NULL_TEXT_ROUNDS = 10
NULL_TEXT_RATE = 1e-2
NULL_TEXT_ENOUGH = 1e-5
NULL_TEXT_SLACK = 2e-5
"""As published: a step ends when its error is below `ENOUGH + step · SLACK`."""


def ddim_invert(denoise: Denoise, latent: Tensor, levels: Sequence[float]) -> Generator[Any, Any, list[Tensor]]:
    """The latents [1, c, h, w] at each of `levels` on the way from a clean one up to noise.

    As published, the noise of a step is read off the latent *before* it at the level *after* it.

    Args:
        denoise: D(x, σ), without guidance.
        latent: The clean latent [1, c, h, w].
        levels: Descending, the last is 0.
    """
    x = latent
    path = [x]
    for high, low in reversed(list(pairwise(levels))):
        shown = x * math.sqrt((high**2 + 1.0) / (low**2 + 1.0))
        denoised = yield from denoise(shown, high)
        x = x + (high - low) * (shown - denoised) / high
        path.append(x)
    return path[::-1]


def ddim_step(x: Tensor, denoised: Tensor, level: float, following: float) -> Tensor:
    """The latents [b, c, h, w] a level further down: DDIM without fresh noise, which in σ is Euler's method."""
    return x + (x - denoised) / level * (following - level)


class Inverting(Denoiser):
    """A denoiser on the way up: the words of one prompt, no guidance, progress counted from the clean picture."""

    def __call__(self, x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        """D(x, σ) for x [1, c, h, w]."""
        step = self.step_at(sigma)
        stage = self.stages[0]
        denoised = yield from self._guided(x, sigma, step, stage)
        self.furthest += 1
        yield Report(
            self.furthest, self.steps, self.context.fraction(self.furthest), self.pass_index, "denoise", stage.key
        )
        return denoised

    def quietly(self, x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        """The same without a word of progress, for those who report it themselves."""
        return self._guided(x, sigma, self.step_at(sigma), self.stages[0])


@dataclass(frozen=True)
class Source:
    """What null-text inversion holds on to.

    Attributes:
        key: The model.
        path: Latents of the inversion, one for each level.
        levels: Descending, the last is 0.
        scale: Guidance scale.
        negative: What stands in the unconditional row before the first step.
        sizes: What SDXL is told of the picture, for that row.
        networks: LoRA and hypernetworks in the denoiser.
    """

    key: ModelKey
    path: Sequence[Tensor]
    levels: Sequence[float]
    scale: float
    negative: TextState
    sizes: SizeNumbers | None = None
    networks: tuple[NetworkPlan, ...] = ()


def null_text(context: Context, source: Source, denoise: Denoise, index: int = 0) -> Step[list[TextState]]:
    """The unconditional text of each step under which guidance stays on the source's path.

    Args:
        context: The Plan on its way.
        source: What to stay with.
        denoise: D(x, σ) for the source prompt, without guidance.
        index: Which pass.
    """
    found: list[TextState] = []
    steps = len(source.levels) - 1
    x, state = source.path[0], source.negative
    for step, (level, following) in enumerate(pairwise(source.levels)):
        said = yield from denoise(x, level)
        # What the text encoder gives was made for inference alone; a copy may take part in gradients.
        learner = _Learner(source, x, (level, following), said, source.path[step + 1], state.states.clone())
        enough = NULL_TEXT_ENOUGH + step * NULL_TEXT_SLACK
        learner.rate = NULL_TEXT_RATE * (1.0 - step / 100.0)
        name, networks = f"null_text:{source.key.model.sha256}", uses_at(source.networks, step, steps)
        for turn in range(NULL_TEXT_ROUNDS):
            error = yield Exclusive(source.key, name, learner.improve, networks)
            part = (turn + 1) / NULL_TEXT_ROUNDS / context.total_steps
            fraction = min(context.fraction(step) + part, context.fraction(step + 1))
            yield Report(step, steps, fraction, index, "denoise")
            if error < enough:
                break
        x = yield Exclusive(source.key, name, learner.stepped, networks)
        state = learner.state
        found.append(state)
        yield Report(step + 1, steps, context.fraction(step + 1), index, "denoise", source.key)
    return found


@dataclass
class _Learner:
    """The unconditional text of one step.

    Attributes:
        source: What to stay with.
        x: Latent at the step [1, c, h, w].
        levels: Its level, and the one it leads to.
        said: D for the source prompt [1, c, h, w].
        target: Where the step should lead [1, c, h, w].
        text: What is learnt [tokens, width].
        rate: Of Adam.
    """

    source: Source
    x: Tensor
    levels: tuple[float, float]
    said: Tensor
    target: Tensor
    text: Tensor
    rate: float = NULL_TEXT_RATE
    _adam: torch.optim.Adam | None = field(default=None)

    @property
    def state(self) -> TextState:
        """What the model reads in the unconditional row."""
        return TextState(self.text.detach(), self.source.negative.pooled)

    def improve(self, model: StableDiffusion) -> float:
        """One step of Adam; the error before it, in variance-preserving scaling as published."""
        with torch.enable_grad(), uncompiled(model.unet):
            if self._adam is None:
                self.text = self.text.detach().requires_grad_(requires_grad=True)
                self._adam = torch.optim.Adam([self.text], lr=self.rate)
            self._adam.zero_grad()
            reached = self._reached(model)
            error = torch.nn.functional.mse_loss(reached, self.target) / (self.levels[1] ** 2 + 1.0)
            error.backward()
            self._adam.step()
        return float(error.detach())

    def stepped(self, model: StableDiffusion) -> Tensor:
        """Where the step leads with what was learnt [1, c, h, w]."""
        with torch.no_grad():
            return self._reached(model)

    def _reached(self, model: StableDiffusion) -> Tensor:
        level, following = self.levels
        source = self.source
        added = None
        if source.negative.pooled is not None and source.sizes is not None:
            numbers = torch.tensor([astuple(source.sizes)])
            added = Added(source.negative.pooled.clone()[None], numbers)
        denied = model.estimate(
            self.x, torch.tensor([level]), self.text[None], None, perturbed=False, control=None, added=added
        )
        guided = combine(denied, [self.said], (1.0,), source.scale)
        return ddim_step(self.x, guided, level, following)
