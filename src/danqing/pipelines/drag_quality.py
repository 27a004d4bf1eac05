"""Dragging with an inverted picture: painted anew from noise that holds the pulled picture, or one that is optimised.

`pulled` inverts the pulled picture and denoises it beside the original, whose self-attention keys and values it reads:
the model draws what the pull bent. FastDrag (arXiv 2405.15769) likewise needs no optimisation; it pulls the latent.

DragDiffusion (Shi et al. 2023, arXiv 2306.14435): the picture's own LoRA; DDIM inversion; at the noisiest level reached
the latent is optimised until the features at the handles lie at their targets; then it is denoised beside the original,
whose self-attention keys and values both read. GoodDrag (Zhang et al. 2024, arXiv 2404.07206) drags a little at each of
the first denoising levels instead and always supervises with the original's features, so that handles do not drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danqing.adapters.identity import IdentityLora
from danqing.engine.calls import Decode, Describe, Description, EncodeImage, Exclusive, ModelKey, Report
from danqing.enhance.warp import Pull, warp
from danqing.models.families.sd import StableDiffusion
from danqing.pipelines import conditioning, drag_identity, pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.denoiser import size_numbers
from danqing.pipelines.drag_model import (
    Goal,
    Hold,
    Latent,
    Pulling,
    Row,
    Sight,
    Words,
    acting,
    estimates,
    look,
    preserving,
    step_to,
)
from danqing.pipelines.drag_points import Points
from danqing.spec.drag import DragPlan
from danqing.spec.network import NetworkUse, uses_at

GOODDRAG_REACH = 4.0
DRAGDIFFUSION_REACH = 1.0
MAX_STILL = 10
"""GoodDrag gives up after so many trackings in a row that found nothing moved."""
Answer = TypeVar("Answer")


def dragged_pictures(context: Context, original: Image.Image, pulled: Pull) -> Step[tuple[Image.Image, Image.Image]]:
    """The picture as the model paints it again, without the drag and with it, both at the size of the pass."""
    before, after = yield from dragged_latents(context, original, pulled)
    key = context.key(context.plan.base.model)
    first = pixels.to_image((yield Decode(key, before)))
    return first, pixels.to_image((yield Decode(key, after)))


def dragged_latents(context: Context, original: Image.Image, pulled: Pull) -> Step[tuple[Tensor, Tensor]]:
    """The same as latents [1, c, h, w]; equal to the bit where no point is under way."""
    base = context.plan.base
    planned = cast("DragPlan", context.plan.drag)
    key = context.key(base.model)
    yield Report(0, 1, 0.0, 0, "load")
    described: Description = yield Describe(key)
    small = pixels.resize(original, base.size, "stretch")
    clean: Tensor = yield EncodeImage(key, pixels.to_tensor(small))
    said = yield from conditioning.encode(key, base, None)
    text = said.at(0)[0][0]
    words = Words(text, size_numbers(base) if text.pooled is not None else None)
    levels = inversion_levels(described, base.sampling.steps, base.strength or 0.0)
    run = Run(context, key, words, levels, _map_size(small), uses_at(base.networks, 0, 1))
    run.expect(planned)
    subject = drag_identity.Subject(clean, words, described.table)
    run.identity = yield from drag_identity.learnt(run, subject, planned.tuning)
    inverted = yield from run.inverted(clean)
    points = Points.of(planned.points, original.size, run.size)
    task = Task(inverted, points, _outside(pulled, clean))
    if planned.method == "gooddrag":
        return (yield from run.interleaved(task))
    edit = inverted[-1]
    if planned.method == "dragdiffusion":
        edit = yield from run.optimised(task)
    elif not points.arrived:
        ahead = pixels.resize(pulled_picture(original, pulled), base.size, "stretch")
        begun: Tensor = yield EncodeImage(key, pixels.to_tensor(ahead))
        edit = (yield from run.inverted(begun))[-1]
    return (yield from run.denoised(inverted, edit, len(levels) - 1))


@dataclass(frozen=True)
class Task:
    """What is dragged.

    Attributes:
        trail: Latents of the original at every level, variance exploding.
        points: Where the handles are.
        outside: 1 where nothing may change [1, 1, h, w].
    """

    trail: list[Tensor]
    points: Points
    outside: Tensor


def pulled_picture(original: Image.Image, pulled: Pull) -> Image.Image:
    """The picture as the pull leaves it, places from beyond it filled with the colours around them."""
    warped = Image.fromarray(warp(np.asarray(original), pulled))
    if not (pulled.beyond & pulled.reach).any():
        return warped
    return pixels.fill_masked(warped, Image.fromarray((pulled.beyond & pulled.reach).astype(np.uint8) * 255))


def inversion_levels(described: Description, steps: int, strength: float) -> list[float]:
    """0 and the noise levels of DDIM's own spacing above it, up to the share `strength` of its steps."""
    table = described.table
    count = max(1, round(steps * strength))
    stride = len(table.sigmas) / steps
    return [0.0, *(table.t_to_sigma(min(1.0 + index * stride, len(table.sigmas) - 1.0)) for index in range(count))]


def _map_size(picture: Image.Image) -> tuple[int, int]:
    """Height and width of the map on which points are followed: half the picture's."""
    return max(1, picture.height // 2), max(1, picture.width // 2)


def _outside(pulled: Pull, latent: Tensor) -> Tensor:
    """1 where a latent may not change [1, 1, h, w]."""
    height, width = latent.shape[-2:]
    inside = cv2.resize(pulled.reach.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0
    return torch.from_numpy(1.0 - inside.astype(np.float32))[None, None]


@dataclass
class Run:
    """A drag under way.

    Attributes:
        context: The Plan.
        key: The model.
        words: What every row reads.
        levels: Noise levels, ascending from 0.
        size: Height and width of the map on which points are followed.
        networks: LoRA of the prompt.
        identity: The picture's own LoRA, once it is learnt.
        done: Calls so far.
        expected: Calls altogether, for progress.
    """

    context: Context
    key: ModelKey
    words: Words
    levels: list[float]
    size: tuple[int, int]
    networks: tuple[NetworkUse, ...] = ()
    identity: IdentityLora | None = None
    done: int = 0
    expected: int = 1

    @property
    def planned(self) -> DragPlan:
        """The Plan's drag."""
        return cast("DragPlan", self.context.plan.drag)

    def expect(self, planned: DragPlan) -> None:
        """Count the calls to come."""
        self.expected = calls_of(planned, len(self.levels) - 1)

    def ask(self, run: Callable[[StableDiffusion], Answer], rows: int = 1, stage: str = "denoise") -> Step[Answer]:
        """One Call with the picture's own LoRA acting, and a report of it."""

        def inside(model: StableDiffusion) -> Answer:
            with acting(model, self.identity):
                return run(model)

        answer = cast("Answer", (yield Exclusive(self.key, "drag", inside, self.networks, rows)))
        self.done = min(self.done + 1, self.expected)
        yield Report(self.done, self.expected, self._fraction, 0, stage)
        return answer

    def skip(self, calls: int) -> None:
        """So many calls are not needed."""
        self.done = min(self.done + calls, self.expected)

    def show(self, denoised: Tensor) -> Step[None]:
        """A preview."""
        yield Report(self.done, self.expected, self._fraction, 0, "denoise", self.key, denoised)

    @property
    def _fraction(self) -> float:
        """Of the whole Session, of which the drag may be a part."""
        return self.context.fraction(self.context.total_steps * self.done / self.expected)

    def row(self, x: Tensor) -> Row:
        """A latent with the words that all read."""
        return Row(x, self.words)

    def inverted(self, clean: Tensor) -> Step[list[Tensor]]:
        """The latents of the picture at every level, variance exploding, by DDIM inversion."""
        trail = [clean]
        for sigma, above in zip(self.levels, self.levels[1:], strict=False):
            x = trail[-1]
            # As published, the level above is told of a latent that is still at the one below.
            lifted = x * math.sqrt((1.0 + above * above) / (1.0 + sigma * sigma))
            denoised = yield from self._alone(lifted, above)
            trail.append(x + (above - sigma) * (lifted - denoised) / above)
        return trail

    def _alone(self, x: Tensor, sigma: float) -> Step[Tensor]:
        return (yield from self.ask(lambda model: estimates(model, [self.row(x)], sigma)[0], stage="encode"))

    def optimised(self, task: Task) -> Step[Tensor]:
        """DragDiffusion's second stage: the noisiest latent, optimised."""
        trail, points, outside = task.trail, task.points, task.outside
        tuning, top = self.planned.tuning, len(self.levels) - 1
        sigma, below = self.levels[top], self.levels[top - 1]
        seen = yield from self._seen(trail[top], sigma)
        hold = Hold(_previous(trail[top], seen, sigma, below), below, outside, tuning.keep)
        latent = Latent.of(trail[top], sigma, tuning.rate or 0.01)
        pulling = Pulling(tuning.supervision_radius or 0, DRAGDIFFUSION_REACH)
        for _ in range(tuning.iterations):
            if points.arrived:
                break
            goal = Goal(points, pulling, hold, self.size)
            yield from self._pulled(latent, sigma, goal)
            points = yield from self._tracked(latent, sigma, seen.features, points)
        self.done = self.expected - top
        return latent.exploding(sigma) if _touched(latent) else trail[top]

    def interleaved(self, task: Task) -> Step[tuple[Tensor, Tensor]]:
        """GoodDrag: a little dragging at each of the first levels on the way down."""
        trail, points, outside = task.trail, task.points, task.outside
        tuning, top = self.planned.tuning, len(self.levels) - 1
        edit, still = trail[top], 0
        for level in range(top, max(top - tuning.drag_steps, 0), -1):
            if points.arrived or still >= MAX_STILL:
                return (yield from self.denoised(trail, edit, level))
            sigma, below = self.levels[level], self.levels[level - 1]
            seen = yield from self._seen(trail[level], sigma)
            hold = Hold(_previous(trail[level], seen, sigma, below), below, outside, tuning.keep)
            latent = Latent.of(edit, sigma, tuning.rate or 0.02)
            pulling = Pulling(tuning.supervision_radius or 0, GOODDRAG_REACH, seen.features)
            if level < top:
                points = yield from self._tracked(latent, sigma, seen.features, points)
            for _ in range(tuning.tracks):
                if points.arrived or still >= MAX_STILL:
                    break
                goal = Goal(points, pulling, hold, self.size)
                for _ in range(tuning.pulls):
                    yield from self._pulled(latent, sigma, goal)
                found = yield from self._tracked(latent, sigma, seen.features, points)
                still = still + 1 if found == points else 0
                points = found
            edit = latent.exploding(sigma) if _touched(latent) else edit
            _, edit = yield from self._down(trail, edit, level, shared=False)
        return (yield from self.denoised(trail, edit, max(top - tuning.drag_steps, 0)))

    def denoised(self, trail: list[Tensor], edit: Tensor, level: int) -> Step[tuple[Tensor, Tensor]]:
        """The original and the edit denoised side by side from a level on."""
        before = trail[level]
        for now in range(level, 0, -1):
            before, edit = yield from self._down(trail, edit, now, shared=self.planned.tuning.share)
        return before, edit

    def _down(self, trail: list[Tensor], edit: Tensor, level: int, *, shared: bool) -> Step[tuple[Tensor, Tensor]]:
        """One level down; the original goes exactly where its inversion came from, and the edit by as much more."""
        if edit is trail[level]:
            return trail[level - 1], trail[level - 1]
        sigma, below = self.levels[level], self.levels[level - 1]
        rows = [self.row(trail[level]), self.row(edit)]
        sources = (0, 0) if shared else (0, 1)
        found = yield from self.ask(lambda model: estimates(model, rows, sigma, sources), rows=2)
        yield from self.show(found[1])
        steps = [step_to(row.x, denoised, sigma, below) for row, denoised in zip(rows, found, strict=True)]
        return trail[level - 1], steps[1] + (trail[level - 1] - steps[0])

    def _pulled(self, latent: Latent, sigma: float, goal: Goal) -> Step[float]:
        return (yield from self.ask(lambda model: latent.descend(model, self.words, sigma, goal)))

    def _seen(self, x: Tensor, sigma: float) -> Step[Sight]:
        return (yield from self.ask(lambda model: look(model, self.row(x), sigma, self.size)))

    def _tracked(self, latent: Latent, sigma: float, original: Tensor, points: Points) -> Step[Points]:
        seen = yield from self._seen(latent.exploding(sigma), sigma)
        return points.followed(original, seen.features, self.planned.tuning.tracking_radius or 1)


def _previous(x: Tensor, seen: Sight, sigma: float, below: float) -> Tensor:
    return preserving(step_to(x, seen.denoised, sigma, below), below)


def _touched(latent: Latent) -> bool:
    return bool(latent.optimizer.state)


def calls_of(planned: DragPlan, levels: int) -> int:
    """Model calls of a drag of quality at most."""
    tuning = planned.tuning
    calls = 2 * levels + (tuning.identity_steps if tuning.identity else 0) + 1
    if planned.method == "pulled":
        return calls + levels
    if planned.method == "dragdiffusion":
        return calls + 2 * tuning.iterations
    return calls + min(tuning.drag_steps, levels) * (2 + tuning.tracks * (tuning.pulls + 1))
