"""The UNet stage: UNet and text encoder trained together on cached latents."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from danqing.spec.errors import NotFoundError
from danqing.training.builtin.architecture import build_text_encoder, build_unet, ignore_padding
from danqing.training.builtin.captions import CaptionContext, draw_caption
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset
from danqing.training.builtin.diffusion import Schedule, add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.latents import LatentCache
from danqing.training.builtin.loop import (
    Budget,
    Ema,
    Log,
    Run,
    make_optimizer,
    set_lr,
    stage_digest,
    step_rng,
    step_torch,
)
from danqing.training.builtin.tokenizer import MAX_LENGTH
from danqing.training.builtin.vae import COLORS, autocast


@dataclass
class Models:
    """The modules that the UNet stage trains, and the tokenizer they read through."""

    unet: UNet2DConditionModel
    text: CLIPTextModel
    tokenizer: CLIPTokenizer

    def encode(self, captions: list[str], device: torch.device) -> torch.Tensor:
        """Text states `[b, 77, hidden]`."""
        ids = self.tokenizer(
            captions, padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt"
        ).input_ids
        return self.text(ids.to(device)).last_hidden_state


@torch.no_grad()
def warm_start(models: Models, run: Run, checkpoint: Path) -> int:
    """Takes the UNet's averaged weights from an earlier run, all but the cross-attention; the number of tensors taken.

    The order of the averages is that of the parameters: the UNet's first.

    Raises:
        NotFoundError: There is no such file.
    """
    if not checkpoint.is_file():
        raise NotFoundError("no such checkpoint", field="init", value=str(checkpoint))
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    averages = dict(zip(saved["modules"]["unet"], saved["ema"], strict=False))
    taken = 0
    for name, parameter in models.unet.named_parameters():
        reads_text = ".attn2." in name or ".norm2." in name.partition("transformer_blocks")[2]
        average = averages.get(name)
        if not reads_text and average is not None and parameter.shape == average.shape:
            parameter.copy_(average)
            taken += 1
    for shadow, parameter in zip(run.ema.shadow, run.ema.params, strict=True):
        shadow.copy_(parameter)
    return taken


@dataclass(frozen=True)
class Batch:
    """One step's data: latents `[b, c, h, w]` float32 and captions."""

    latents: torch.Tensor
    captions: list[str]


def draw_batch(dataset: Dataset, cache: LatentCache, config: TrainConfig, step: int) -> Batch:
    """Goes through the pictures in a new random order each epoch; background, mirror and caption are drawn anew."""
    n, size = len(dataset.pictures), config.unet.stage.batch
    rng = step_rng(config.seed, "unet", step)
    keys = list(COLORS)
    latents: list[torch.Tensor] = []
    captions: list[str] = []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, n)
        row = int(_order(config.seed, epoch, n)[place])
        background = None
        if cache.colored.shape[1] and rng.random() < config.captions.background:
            k = int(rng.integers(cache.colored.shape[1]))
            background = keys[int(cache.colors[row, k])]
            latents.append(cache.colored[row, k])
        else:
            latents.append(cache.white[row, int(rng.integers(2))])
        captions.append(draw_caption(dataset.pictures[row], config.captions, CaptionContext(background), rng))
    return Batch(torch.stack(latents).float(), captions)


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The epoch's permutation `[n]`, kept for the two newest epochs."""
    key = (seed, epoch, n)
    if key not in _orders:
        while len(_orders) > 1:
            del _orders[next(iter(_orders))]
        _orders[key] = step_rng(seed + 1, "unet", epoch).permutation(n)
    return _orders[key]


def unet_run(config: TrainConfig, tokenizer: CLIPTokenizer, folder: Path, device: torch.device) -> tuple[Models, Run]:
    """UNet, text encoder and optimiser, from the checkpoint if there is one."""
    torch.manual_seed(config.seed + 1)
    unet = build_unet(config, config.data.size_px).to(device, memory_format=torch.channels_last)
    text = build_text_encoder(config, tokenizer).to(device)
    text.train()
    if device.type == "cpu":
        # The CPU's fused attention has a slow backward pass at these lengths (64 and 77): 18 % of a step against 4 %.
        unet.set_attn_processor(AttnProcessor())
        text.set_attn_implementation("eager")
    ignore_padding(unet, text, tokenizer, config.unet.padding_logit)
    params: list[nn.Parameter] = [*unet.parameters(), *text.parameters()]
    stage = config.unet.stage
    table = text.get_input_embeddings().weight
    rest = [p for p in text.parameters() if p is not table]
    parts = [(list(unet.parameters()), 1.0), (rest, config.text.lr_scale), ([table], config.text.token_lr_scale)]
    digest = stage_digest("unet", config.seed, config.unet, config.text, config.captions, config.data, config.precision)
    run = Run(
        "unet", folder, {"unet": unet, "text": text}, make_optimizer(parts, stage), Ema(params, stage.ema), digest
    )
    run.resume()
    return Models(unet, text, tokenizer), run


def train_step(models: Models, run: Run, schedule: Schedule, batch: Batch, config: TrainConfig) -> torch.Tensor:
    """One optimiser step; the loss as a scalar tensor."""
    device = models.unet.device
    step = run.progress.step
    rng = step_rng(config.seed + 2, "unet", step)
    latents = batch.latents.to(device, memory_format=torch.channels_last)
    noise = torch.randn(latents.shape, generator=step_torch(config.seed, "unet", step)).to(latents)
    steps = draw_timesteps(schedule, rng, len(latents))
    noised = add_noise(schedule, latents, noise, steps, config.unet.min_snr_gamma)
    with autocast(device, config.precision):
        states = models.encode(batch.captions, device)
        x = noised.x.contiguous(memory_format=torch.channels_last)
        output = models.unet(x, torch.from_numpy(steps).to(device), encoder_hidden_states=states).sample
    error = (output.float() - noised.target).square().mean((1, 2, 3))
    loss = (error * noised.weight).mean()
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.ema.params, config.unet.stage.grad_clip)
    run.optimizer.step()
    run.ema.update(step)
    return loss.detach()


@dataclass
class Hooks:
    """What happens beside the steps: `show` draws a sample grid for a step number."""

    show: Callable[[int], None] | None = None
    stop_after_steps: int | None = None
    adapt_threads: bool = False

    def fit_threads(self) -> None:
        """One thread while others keep the machine busy, else all.

        A parallel region waits for its slowest thread: beside six busy processes on two cores two threads took 6.2 s a
        step where one took 4.1 s; alone they are 1.8 times as fast as one.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        others = os.getloadavg()[0] - torch.get_num_threads()
        torch.set_num_threads(1 if others > 0.4 * cores else cores)


def train_unet(
    models: Models,
    run: Run,
    data: tuple[Dataset, LatentCache],
    config: TrainConfig,
    deadline: float | None = None,
    hooks: Hooks | None = None,
) -> Models:
    """Trains (or goes on training) and returns the models; averaged weights are in `run.ema`."""
    stage, log, budget = config.unet.stage, Log(run.folder, "unet"), Budget(config.unet.stage, deadline)
    hooks = hooks or Hooks()
    schedule = make_schedule(config)
    mean: float | None = None
    tick = saved = time.time()
    shown = tick - 60 * (config.unet.sample_minutes - config.unet.first_sample_minutes)
    while (factor := budget.factor(run.progress.step, run.progress.samples)) > 0:
        if hooks.stop_after_steps is not None and run.progress.step >= hooks.stop_after_steps:
            break
        if hooks.adapt_threads and run.progress.step % 20 == 0:
            hooks.fit_threads()
        set_lr(run.optimizer, stage.lr * factor)
        batch = draw_batch(*data, config, run.progress.step)
        loss = float(train_step(models, run, schedule, batch, config))
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        now = time.time()
        run.progress.step += 1
        run.progress.samples += stage.batch
        run.progress.seconds += now - tick
        recent, tick = stage.batch / (now - tick), now
        if run.progress.step % 25 == 0:
            rate = run.progress.samples / run.progress.seconds
            log.write(
                step=run.progress.step,
                samples=run.progress.samples,
                loss=round(mean, 5),
                lr=run.optimizer.param_groups[0]["lr"],
                per_s=round(rate, 2),
                now_per_s=round(recent, 2),
                threads=torch.get_num_threads(),
            )
        if now - saved > 60 * stage.checkpoint_minutes:
            run.save()
            saved = tick = time.time()
        if hooks.show is not None and now - shown > 60 * config.unet.sample_minutes:
            with run.ema.applied():
                hooks.show(run.progress.step)
            shown = tick = time.time()
    run.save()
    return models
