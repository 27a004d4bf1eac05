"""LCM-LoRA (Luo et al. 2023, arXiv 2311.05556) and TCD-LoRA (Zheng et al. 2024, arXiv 2402.19159): few steps.

A noised picture x_t and the point one step of the guided teacher's solver below it, x_t', lie on the same trajectory.
LCM learns to say the same clean picture from both; TCD to say, from both, the same point at any level s between t' and
the clean picture, which is what its sampler then jumps to. What is said at t' comes from a slow average of the LoRA.
Guidance is drawn anew for each picture and thereby becomes part of the LoRA: it is painted with at CFG 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from danqing.models.families.sd import Added
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import DistillRequest
from danqing.training.own.consistency import Estimate, Ladder, boundary, estimate, pseudo_huber
from danqing.training.own.context import Context
from danqing.training.own.data import Batch
from danqing.training.own.methods.base import CardFacts, Losses, Settings
from danqing.training.own.methods.diffusion import family_settings
from danqing.training.own.methods.lora import Lora
from danqing.training.own.networks.metadata import Told, metadata_of
from danqing.training.own.networks.network import Network, write_network
from danqing.training.own.sampling import Look
from danqing.training.own.seeds import rng_of

DEFAULTS = {
    "danqing": Settings(steps=1000, batch=8, learning_rate=5e-4),
    "*": Settings(steps=1500, batch=4, learning_rate=1e-4),
}
"""By family of the model."""
TARGET_DECAY = 0.95
"""Of the average that answers at t'."""
HUBER_WIDTH = 0.001
STEPS = {"lcm": 4, "tcd": 4}
"""In which samples are painted."""
NAMES = {"lcm": "LCM", "tcd": "TCD"}


class Distill(Lora):
    """A LoRA with which few steps do."""

    request: DistillRequest  # type: ignore[assignment]
    target: Network
    ladder: Ladder

    @classmethod
    def open(cls, request: DistillRequest, context: Context) -> Self:  # type: ignore[override]
        """Model, set, the LoRA and its average.

        Raises:
            DanqingError: Model or set cannot be used, or what is asked for makes no sense.
        """
        _check(request)
        method = cls()
        folder = method.begin(request, context)
        method.settings = Settings.of(request, family_settings(method.opened, DEFAULTS))
        method.ladder = Ladder.of(method.levels.alphas, request.teacher_steps)
        method.levels = method.ladder.levels()
        method.add_network(request.network)
        method.target = Network({"unet": method.opened.unet}, request.network, request.seed).attach()
        method.target.requires_grad_(False)
        # It acts only where the target is asked.
        method.target.strength = 0.0
        method.show(folder)
        return method

    def modules(self) -> dict[str, nn.Module]:
        """The LoRA and its average."""
        return {"network": self.network, "target": self.target}

    def loss(self, batch: int) -> Tensor | Losses:
        """Of one batch; the average takes its step when a new one begins."""
        step, part = divmod(batch, self.request.accumulate)
        if part == 0:
            self._average(TARGET_DECAY if step else 0.0)
        return self.loss_of(self.data.batch(batch))

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        own = list(self.network.parameters())
        for slow, value in zip(self.target.parameters(), own, strict=True):
            slow.lerp_(value, 1.0 - decay)

    def loss_of(self, drawn: Batch) -> Losses:
        """The pseudo-Huber distance between what is said at t and, by the average, one solver step below."""
        device, prediction = self.opened.device, self.opened.prediction
        alphas = self.levels.signal(drawn.times)
        start = Estimate(drawn.latents, drawn.noise).at(alphas)
        places = self.ladder.places(drawn.times)
        lower, signal = self.ladder.time(places - 1, device), self.ladder.signal(places - 1, device)
        onto = self.ladder.signal(self._goals(drawn, places), device)
        with torch.no_grad(), self.network.at(0.0):
            below = self._taught(drawn, start, alphas).at(signal)
            with self.target.at(1.0):
                answer = self.opened.predict(below, lower, drawn.context, drawn.added)
            found = estimate(prediction, below, answer, signal)
            wanted = self._said(below, found, lower, onto)
        answer = self.opened.predict(start, drawn.times, drawn.context, drawn.added)
        said = self._said(start, estimate(prediction, start, answer, alphas), drawn.times, onto)
        each = pseudo_huber(said - wanted, HUBER_WIDTH).flatten(1).mean(1)
        return Losses((each * drawn.weights).mean())

    def _said(self, x: Tensor, found: Estimate, times: Tensor, onto: Tensor) -> Tensor:
        """The consistency function: LCM's clean picture, which is x itself at time 0; TCD's point at ᾱ = `onto`."""
        if self.request.way == "tcd":
            return found.at(onto)
        skip, out = boundary(times)
        return skip * x + out * found.clean

    def _goals(self, drawn: Batch, places: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Places of s [b]: for TCD evenly from the clean picture (−1) up to t', else the clean picture."""
        if self.request.way == "lcm":
            return np.full_like(places, -1)
        share = np.asarray([self._draw(drawn, row, "s") for row in range(len(places))])
        return np.floor(share * (places + 1)).astype(np.int64) - 1

    def _taught(self, drawn: Batch, x: Tensor, alphas: Tensor) -> Estimate:
        """What the guided teacher says: the model without any LoRA."""
        count, opened = len(x), self.opened
        context, pooled = self.data.text([""] * count)
        added = drawn.added
        if added is not None and pooled is not None:
            added = Added(torch.cat([added.pooled, pooled]), added.numbers.repeat(2, 1))
        times = drawn.times.repeat(2)
        answer = opened.predict(x.repeat(2, 1, 1, 1), times, torch.cat([drawn.context, context]), added)
        own, other = (estimate(opened.prediction, x, one, alphas) for one in answer.chunk(2))
        low, high = self.request.guidance_min, self.request.guidance_max
        scale = [low + (high - low) * self._draw(drawn, row, "guidance") for row in range(count)]
        return own.guided(other, torch.tensor(scale, device=x.device))

    def _draw(self, drawn: Batch, row: int, purpose: str) -> float:
        """A number from 0 to 1 that belongs to one showing: its noise numbers it."""
        number = int(drawn.noise[row].flatten()[:1].cpu().view(torch.int32).item())
        return float(rng_of(self.request.seed, f"distill {purpose}", number).random())

    def look(self) -> Look:
        """In few steps, without guidance, by the sampler that it is made for."""
        way = self.request.way
        likes = super().look()
        return replace(likes, steps=STEPS[way], guidance=1.0, sampler=way, schedule="sgm_uniform")

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors` in kohya's layout; the header says how it is painted with."""
        told = Told(self.request, self.shape, self.settings, self.opened.info, self.made, self.data, name, step)
        said = {**metadata_of(told), "modelspec.description": self._kind(), "modelspec.usage_hint": self._hint()}
        return [write_network(folder / f"{name}.safetensors", self.network.state_for_file(), said)]

    def _kind(self) -> str:
        return f"{NAMES[self.request.way]}-LoRA, distilled from {self.opened.info.name}"

    def _hint(self) -> str:
        return f"sampler {NAMES[self.request.way]}, 4 to 8 steps, CFG 1"

    def card(self) -> CardFacts:
        """How it is painted with."""
        facts, request = super().card(), self.request
        name = request.name
        more = {
            "way": f"{NAMES[request.way]}, the teacher in {len(self.ladder.times)} DDIM steps",
            "guidance": f"{request.guidance_min:g} to {request.guidance_max:g}, part of the LoRA now",
        }
        usage = (
            f"Write `<lora:{name}:1>` into the prompt and choose {self._hint()}: guidance is in the LoRA already. "
            "The file goes into `models/Lora`, here and in AUTOMATIC1111; diffusers reads it with "
            f"`pipe.load_lora_weights(file)` beside its `{NAMES[request.way]}Scheduler`."
        )
        return CardFacts(f"{NAMES[request.way]}-{facts.kind}", {**facts.facts, **more}, usage, facts.licence_note)


def _check(request: DistillRequest) -> None:
    """Refuse what makes no sense.

    Raises:
        InvalidRequestError: What.
    """
    if request.guidance_max < request.guidance_min:
        raise InvalidRequestError(
            "guidance is drawn between two numbers",
            field="guidance_max",
            value=request.guidance_max,
            allowed=f"at least guidance_min, {request.guidance_min:g}",
            next_step="raise it",
        )
    if (request.min_timestep, request.max_timestep) != (0, 999):
        raise InvalidRequestError(
            "distillation walks down all noise levels",
            field="min_timestep",
            value=request.min_timestep,
            allowed="0, with max_timestep 999",
            next_step="leave both out",
        )
    if request.network.text_encoder:
        raise InvalidRequestError(
            "distillation changes the denoiser alone",
            field="network.text_encoder",
            value=True,
            allowed="false",
            next_step="leave it out",
        )
