"""The UNet stage's steps: on one CPU, one GPU or several, with logs, samples and checkpoints on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.diffusion import Schedule, add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.loop import Budget, Log, Run, set_lr, step_rng, step_seed
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.scale import Fleet, Utilization, batches_ahead, count_flop, matmul_peak, synchronize
from danqing.training.builtin.tokenizer import MAX_LENGTH
from danqing.training.builtin.unet import Models, draw_places
from danqing.training.builtin.vae import autocast

REPORT_EVERY = 25


@dataclass(frozen=True)
class StepData:
    """What a step needs that can be made ahead: rows and variants `[b]`, token ids `[b, 77]`, timesteps `[b]`."""

    rows: torch.Tensor
    variants: torch.Tensor
    ids: torch.Tensor
    timesteps: torch.Tensor


def make_step(index: int, pool: Pool, tokenizer: Any, config: TrainConfig, schedule: Schedule) -> StepData:
    """The data of batch number `index`; several processes take turns: step · world + rank."""
    places, captions = draw_places(pool, config, index)
    rows, variants = (torch.tensor(part) for part in zip(*places, strict=True))
    ids = tokenizer(
        captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    steps = draw_timesteps(schedule, step_rng(config.seed + 2, "unet", index), len(places))
    return StepData(rows, variants, ids, torch.from_numpy(steps))


@dataclass
class Hooks:
    """What happens beside the steps: `show` draws a sample grid for a step number."""

    show: Callable[[int], None] | None = None
    stop_after_steps: int | None = None
    adapt_threads: bool = False
    workers: int = 0
    compiled: bool = False
    fleet: Fleet = field(default_factory=Fleet)

    def fit_threads(self) -> None:
        """One thread while others keep the machine busy, else all.

        A parallel region waits for its slowest thread: beside six busy processes on two cores two threads took 6.2 s a
        step where one took 4.1 s; alone they are 1.8 times as fast as one.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        others = os.getloadavg()[0] - torch.get_num_threads()
        torch.set_num_threads(1 if others > 0.4 * cores else cores)


@dataclass
class Trainer:
    """One UNet in training.

    Attributes:
        models: The UNet with the frozen text encoder.
        run: Optimiser, average, progress.
        latents: float16 `[n, variants, c, h, w]`, on the device.
        config: Everything that decides the result.
        network: The UNet as it is called: itself, compiled, or wrapped for several devices.
    """

    models: Models
    run: Run
    latents: torch.Tensor
    config: TrainConfig
    network: Any
    schedule: Schedule

    def loss(self, data: StepData, index: int) -> torch.Tensor:
        """The v-prediction loss of one batch; the noise is fixed by the batch's number."""
        device = self.latents.device
        generator = torch.Generator(device).manual_seed(step_seed(self.config.seed, "unet", index))
        clean = self.latents[data.rows.to(device), data.variants.to(device)].float()
        clean = clean.to(memory_format=torch.channels_last)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noised = add_noise(self.schedule, clean, noise, data.timesteps.numpy(), self.config.unet.min_snr_gamma)
        with autocast(device, self.config.precision):
            with torch.no_grad():
                states = self.models.text(data.ids.to(device)).last_hidden_state
            x = noised.x.contiguous(memory_format=torch.channels_last)
            output = self.network(x, data.timesteps.to(device), encoder_hidden_states=states, return_dict=False)[0]
        error = (output.float() - noised.target).square().mean((1, 2, 3))
        return (error * noised.weight).mean()

    def step(self, data: StepData, index: int) -> torch.Tensor:
        """One optimiser step; the loss, detached and still on its device."""
        loss = self.loss(data, index)
        self.run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.run.ema.params, self.config.unet.stage.grad_clip)
        self.run.optimizer.step()
        self.run.ema.update(self.run.progress.step)
        return loss.detach()

    def utilization(self, data: StepData) -> Utilization:
        """Operations of one sample and the device's matmul peak, measured here and now (on the plain UNet)."""
        network, self.network = self.network, self.models.unet
        flop = count_flop(lambda: self.loss(data, 0).backward())
        self.network = network
        self.run.optimizer.zero_grad(set_to_none=True)
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        return Utilization(flop / len(data.rows), matmul_peak(self.latents.device, dtype))


class Reporter:
    """JSON lines and TensorBoard; the leading process only."""

    def __init__(self, run: Run, utilization: Utilization | None, world: int) -> None:
        self.run, self.utilization, self.world = run, utilization, world
        self.log = Log(run.folder, run.stage)
        self.board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.progress.step)
        self.mean: float | None = None
        self.tick, self.samples = time.time(), run.progress.samples

    def report(self, losses: list[torch.Tensor]) -> None:
        """One line for the last steps."""
        recent = torch.stack(losses).mean().item()
        self.mean = recent if self.mean is None else 0.6 * self.mean + 0.4 * recent
        now, progress = time.time(), self.run.progress
        speed = (progress.samples - self.samples) / max(now - self.tick, 1e-6)
        self.tick, self.samples = now, progress.samples
        values = {
            "loss": round(self.mean, 5),
            "lr": self.run.optimizer.param_groups[0]["lr"],
            "per_s": round(speed, 2),
        }
        if self.utilization is not None:
            values["share_of_peak"] = round(self.utilization.share(speed / self.world), 4)
        self.log.write(step=progress.step, samples=progress.samples, threads=torch.get_num_threads(), **values)
        for name, value in values.items():
            self.board.add_scalar(name, value, progress.samples)

    def skip(self) -> None:
        """What was done since the last line is no training: it shall not count as time."""
        self.tick, self.samples = time.time(), self.run.progress.samples


class Pauses:
    """Checkpoints and sample grids, each after so many minutes of training."""

    def __init__(self, run: Run, reporter: Reporter, config: TrainConfig, hooks: Hooks) -> None:
        self.run, self.reporter, self.hooks = run, reporter, hooks
        self.save_s = 60 * config.unet.stage.checkpoint_minutes
        self.show_s = 60 * config.unet.sample_minutes
        self.saved = time.time()
        self.shown = self.saved - self.show_s + 60 * config.unet.first_sample_minutes

    def take(self) -> bool:
        """Does what is due; True if that took time."""
        now = time.time()
        save, show = now - self.saved > self.save_s, self.hooks.show is not None and now - self.shown > self.show_s
        if save:
            self.run.save()
            self.saved = time.time()
        if show and self.hooks.show is not None:
            with self.run.ema.applied():
                self.hooks.show(self.run.progress.step)
            self.shown = time.time()
        if save or show:
            self.reporter.skip()
        return save or show


def train_unet(
    models: Models,
    run: Run,
    data: tuple[Pool, torch.Tensor],
    config: TrainConfig,
    deadline: float | None = None,
    hooks: Hooks | None = None,
) -> Models:
    """Trains (or goes on training) and returns the models; averaged weights are in `run.ema`.

    Args:
        models: UNet, text encoder and tokenizer, on their device.
        run: The stage; goes on from its progress.
        data: Painted scenes and their latents.
        config: Everything that decides the result.
        deadline: Unix time in seconds at which it ends at the latest.
        hooks: Samples, worker processes, compilation, other devices.
    """
    hooks = hooks or Hooks()
    stage, fleet, schedule = config.unet.stage, hooks.fleet, make_schedule(config)
    pool, latents = data
    device = next(models.unet.parameters()).device
    network: Any = torch.compile(models.unet) if hooks.compiled else models.unet
    trainer = Trainer(models, run, latents.to(device), config, fleet.wrap(network), schedule)
    make = _Turns(partial(make_step, pool=pool, tokenizer=models.tokenizer, config=config, schedule=schedule), fleet)
    left = -(-(stage.max_samples - run.progress.samples) // (stage.batch * fleet.world))
    batches = batches_ahead(make, run.progress.step, run.progress.step + max(0, left), hooks.workers)
    pauses: Pauses | None = None
    if fleet.leads and left > 0:
        pauses = Pauses(run, Reporter(run, trainer.utilization(make(run.progress.step)), fleet.world), config, hooks)
    _steps(trainer, batches, Budget(stage, deadline), hooks, pauses)
    fleet.wait()
    if fleet.leads:
        run.save()
    return models


def _steps(trainer: Trainer, batches: Iterator[StepData], budget: Budget, hooks: Hooks, pauses: Pauses | None) -> None:
    """Steps until the budget is spent."""
    run, fleet, stage = trainer.run, hooks.fleet, trainer.config.unet.stage
    losses: list[torch.Tensor] = []
    tick = time.time()
    while (factor := budget.factor(run.progress.step, run.progress.samples)) > 0:
        if hooks.stop_after_steps is not None and run.progress.step >= hooks.stop_after_steps:
            return
        if hooks.adapt_threads and run.progress.step % 20 == 0:
            hooks.fit_threads()
        set_lr(run.optimizer, stage.lr * factor)
        losses.append(trainer.step(next(batches), run.progress.step * fleet.world + fleet.rank))
        run.progress.step += 1
        run.progress.samples += stage.batch * fleet.world
        now = time.time()
        run.progress.seconds, tick = run.progress.seconds + now - tick, now
        if run.progress.step % REPORT_EVERY == 0:
            synchronize(trainer.latents.device)
            if pauses is not None:
                pauses.reporter.report(losses)
            losses = []
        if pauses is not None and pauses.take():
            tick = time.time()


@dataclass(frozen=True)
class _Turns:
    """The batches of one process of the fleet: number step · world + rank. A class, so that workers can have it."""

    make: Callable[[int], StepData]
    fleet: Fleet

    def __call__(self, step: int) -> StepData:
        return self.make(step * self.fleet.world + self.fleet.rank)
