"""The few-step variant: a LoRA with which one step goes as far as the guided teacher's solver goes in several.

Progressive distillation in one round (Salimans and Ho 2022, arXiv:2202.00512) of a guided teacher (Meng et al. 2022,
arXiv:2210.03142), as a LoRA on every layer (as LCM-LoRA, Luo et al. 2023, arXiv:2311.05556). Consistency training
would reach the same few steps, but its targets at high noise are the student's own estimates at lower noise, wrong
until those are learnt: it wants thousands of steps. Here each of the student's jumps has a target from the teacher
alone, close to what the UNet says already, and exactly the levels that the sampler visits are trained, so that few
samples go far. Sampling is then plain Euler on the `kl_optimal` levels, which divide v-prediction's angle arctan σ
evenly, without guidance.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from danqing.sampling.schedules import sigmas
from danqing.sampling.tables import SigmaTable
from danqing.training.builtin.config import DistillConfig, TrainConfig
from danqing.training.builtin.diffusion import Schedule, make_schedule
from danqing.training.builtin.export_side import export_few_step
from danqing.training.builtin.finished import Finished, SideJob, open_finished, side_main
from danqing.training.builtin.loop import (
    Ema,
    Run,
    Steps,
    make_optimizer,
    stage_digest,
    step_rng,
    step_torch,
    train_steps,
)
from danqing.training.builtin.lora import Lora, attach
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.sample import decode_pixels, save_grid
from danqing.training.builtin.unet import Models, draw_batch
from danqing.training.builtin.vae import autocast

SCHEDULE = "kl_optimal"


@dataclass(frozen=True)
class Ladder:
    """The teacher's levels, falling; every `substeps`-th is the student's.

    Attributes:
        sigmas: [steps · substeps + 1].
        times: What the UNet is told at each.
        substeps: The teacher's steps in one of the student's.
    """

    sigmas: tuple[float, ...]
    times: tuple[float, ...]
    substeps: int

    @property
    def coarse(self) -> tuple[float, ...]:
        """The student's levels [steps + 1]."""
        return self.sigmas[:: self.substeps]


def make_ladder(schedule: Schedule, config: DistillConfig) -> Ladder:
    """The levels on which the sampler will run, and the teacher's between them."""
    table = SigmaTable.from_alphas_cumprod(torch.from_numpy(schedule.alpha_bar))
    values = [float(v) for v in sigmas(SCHEDULE, config.steps * config.substeps, table).tolist()]
    return Ladder(tuple(values), tuple(table.model_time(v) for v in values), config.substeps)


@dataclass(frozen=True)
class Lesson:
    """What is distilled from what.

    Attributes:
        models: The teacher; with the LoRA switched on, the student.
        lora: The change.
        pool: Painted scenes, for their captions and latents.
        latents: Theirs.
        config: The configuration.
        ladder: The levels.
    """

    models: Models
    lora: Lora
    pool: Pool
    latents: Tensor
    config: TrainConfig
    ladder: Ladder


@dataclass
class Teacher:
    """DPM-Solver++ (2M) under guidance (Lu et al. 2022, arXiv:2211.01095), which remembers its last estimate.

    Attributes:
        lesson: Its UNet and levels.
        states: Text states with and without the caption, each `[b, 77, hidden]`.
        last: The estimate before, `[b, c, h, w]`.
        known: For which rows `last` belongs to the same path, `[b, 1, 1, 1]`.
    """

    lesson: Lesson
    states: tuple[Tensor, Tensor]
    last: Tensor | None = None
    known: Tensor | None = None

    @torch.no_grad()
    def advance(self, x: Tensor, jump: int) -> Tensor:
        """Where x is after one of the student's jumps, `[b, c, h, w]`."""
        ladder = self.lesson.ladder
        with self.lesson.lora.off():
            for place in range(jump * ladder.substeps, (jump + 1) * ladder.substeps):
                x = self._step(x, place)
        return x

    def forget(self, rows: Tensor) -> None:
        """These rows (bool `[b, 1, 1, 1]`) go on from somewhere else."""
        self.known = ~rows

    def _step(self, x: Tensor, place: int) -> Tensor:
        levels, guidance = self.lesson.ladder.sigmas, self.lesson.config.distill.guidance
        both = denoise(self.lesson, torch.cat([x, x]), place, torch.cat(self.states))
        cond, uncond = both.chunk(2)
        found = uncond + guidance * (cond - uncond)
        h = math.log(levels[place] / levels[place + 1])
        bent = found
        if self.last is not None and place + 2 < len(levels):
            last = self.last if self.known is None else torch.where(self.known, self.last, found)
            share = h / (2 * math.log(levels[place - 1] / levels[place]))
            bent = found + share * (found - last)
        self.last, self.known = found, None
        return (levels[place + 1] / levels[place]) * x - math.expm1(-h) * bent


def denoise(lesson: Lesson, x: Tensor, place: int, states: Tensor) -> Tensor:
    """The UNet's estimate of the clean latents at a level of the ladder, float32 `[b, c, h, w]`."""
    sigma, time = lesson.ladder.sigmas[place], lesson.ladder.times[place]
    root = math.sqrt(sigma**2 + 1)
    device = x.device
    scaled = (x / root).contiguous(memory_format=torch.channels_last)
    with autocast(device, lesson.config.precision):
        v = lesson.models.unet(scaled, torch.full((len(x),), time, device=device), encoder_hidden_states=states).sample
    return x / root**2 - v.float() * (sigma / root)


def pseudo_huber(error: Tensor, width: float) -> Tensor:
    """√(e² + width²) − width, averaged: quadratic near zero, else the error's size (Charbonnier et al. 1997)."""
    return (error.square() + width**2).sqrt().mean() - width


def distill_loss(lesson: Lesson, step: int) -> Tensor:
    """The student's error over whole trajectories, all of its jumps; a scalar.

    Some rows follow the teacher, some the student, whose small errors the teacher then corrects, and some start every
    jump from a noised picture, as repainting does.
    """
    config, ladder, device = lesson.config, lesson.ladder, lesson.models.unet.device
    settings = config.distill
    size = max(1, settings.stage.batch // settings.steps)
    batch = draw_batch(lesson.pool, lesson.latents, config, step, "distill", size)
    rng = step_rng(config.seed + 1, "distill", step)
    clean = batch.latents.to(device)
    noise = torch.randn(clean.shape, generator=step_torch(config.seed, "distill", step)).to(clean)
    draw = torch.from_numpy(rng.random(size)).to(device).view(-1, 1, 1, 1)
    pictured = draw < settings.data_share
    led = (draw > 1 - settings.student_share) & ~pictured
    with torch.no_grad(), autocast(device, config.precision):
        states = lesson.models.encode([*batch.captions, *[""] * size], device).float()
    teacher = Teacher(lesson, (states[:size], states[size:]))
    levels = ladder.coarse
    x = torch.where(pictured, clean, 0.0) + noise * levels[0]
    loss = torch.zeros((), device=device)
    for jump in range(settings.steps):
        sigma, following = levels[jump], levels[jump + 1]
        kept = following / sigma
        goal = teacher.advance(x, jump)
        found = denoise(lesson, x, jump * ladder.substeps, states[:size])
        # What the student must say for its Euler step to land where the teacher did.
        wanted = (goal - kept * x) / (1 - kept)
        # As an error of v, so that every level weighs alike.
        loss = loss + pseudo_huber((found - wanted) * (math.sqrt(sigma**2 + 1) / sigma), settings.huber)
        own = found.detach()
        x = torch.where(led, own + kept * (x - own), goal)
        x = torch.where(pictured, clean + noise * following, x)
        teacher.forget(led | pictured)
    return loss / settings.steps


@torch.no_grad()
def paint_few(lesson: Lesson, prompts: list[str], seed: int = 0) -> Tensor:
    """Latents `[b, c, h, w]` painted by the student; picture i starts from noise seeded `seed + i`."""
    ladder, device = lesson.ladder, lesson.models.unet.device
    shape = lesson.latents.shape[2:]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))]
    x = torch.stack(noise).to(device) * ladder.sigmas[0]
    states = lesson.models.encode(prompts, device).float()
    for jump, following in enumerate(ladder.coarse[1:]):
        found = denoise(lesson, x, jump * ladder.substeps, states)
        x = found + (following / ladder.coarse[jump]) * (x - found)
    return x


def distill_run(models: Models, config: TrainConfig, folder: Path) -> tuple[Lora, Run]:
    """The LoRA on the teacher's UNet and its optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed + 20)
    lora, stage = attach(models.unet, config.distill.rank), config.distill.stage
    params = list(lora.parameters())
    digest = stage_digest("distill", config.seed, config.distill, config.unet, config.text, config.captions)
    run = Run("distill", folder, {"lora": lora}, make_optimizer([(params, 1.0)], stage), Ema(params, stage.ema), digest)
    run.resume()
    return lora, run


def train_distill(
    models: Models,
    data: tuple[Pool, Tensor],
    config: TrainConfig,
    folder: Path,
    deadline: float | None = None,
    stop_after: int | None = None,
) -> tuple[Lesson, Run]:
    """Trains (or goes on training) the LoRA; the models' UNet is then the student, with averaged weights."""
    lora, run = distill_run(models, config, folder)
    lesson = Lesson(models, lora, *data, config, make_ladder(make_schedule(config), config.distill))
    steps = Steps(lambda step: distill_loss(lesson, step), stop_after=stop_after)
    train_steps(run, config.distill.stage, steps, deadline)
    lora.requires_grad_(False)
    return lesson, run


def distill(job: SideJob) -> None:
    """The whole stage, from a finished run to the exported folder and a sheet of samples."""
    done: Finished = open_finished(job)
    lesson, run = train_distill(done.models, (done.pool, done.latents), done.config, job.run, job.until)
    pictures = decode_pixels(done.vae, paint_few(lesson, list(done.config.unet.prompts)))
    save_grid(np.asarray(pictures), job.run / "samples" / "distill.png")
    export_few_step(lesson.lora, done.config, run.progress, job.beside("4step"))


if __name__ == "__main__":
    sys.exit(side_main(distill, "distill"))
