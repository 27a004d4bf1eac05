"""DDPM: a network that learns to tell noise from picture (Ho et al. 2020, arXiv 2006.11239)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from danqing.spec.training_methods import DdpmRequest
from danqing.training.own.context import Context
from danqing.training.own.foundation import Foundation
from danqing.training.own.foundation_data import to_pixels, to_scale
from danqing.training.own.foundation_diffusion import (
    BETA_END,
    BETA_START,
    STEPS,
    Process,
    ancestral,
    ddim,
    make_unet,
    strided,
)
from danqing.training.own.foundation_figures import picture_grid, strip
from danqing.training.own.methods.base import LossMethod, Sample, Settings
from danqing.training.own.seeds import rng_of, torch_of

WAY_STEPS = 20
"""Of DDIM, for pictures on the way."""
_SHOWN_TIMES = (*range(0, STEPS, 100), STEPS - 1)
_STRIPS, _SCORED = 2, 32
_EXACT_PICTURES = 8
_AT_ONCE = 32


class Ddpm(Foundation, LossMethod):
    """The ε of every noised picture, by squared error."""

    grid_pictures = 36
    measured_pictures = 128
    kind = "DDPM (a diffusers `DDPMPipeline`)"
    source = "Ho et al. 2020 (arXiv 2006.11239); pictures on the way by DDIM, Song et al. 2021 (arXiv 2010.02502)"
    request: DdpmRequest

    @classmethod
    def open(cls, request: Any, context: Context) -> Self:
        """Pictures read, a fresh network made.

        Raises:
            DanqingError: The pictures or the settings do not do.
        """
        self = cls()
        self.begin(request, context)
        self.settings = Settings.of(request, Settings(steps=7000, batch=16, learning_rate=5e-4))
        self.process = Process.linear()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            unet = make_unet(request.width, request.size_px)
        self.unet = unet.to(context.device, memory_format=torch.channels_last)
        return self

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """All of it."""
        return [(list(self.unet.parameters()), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """The network."""
        return {"unet": self.unet}

    def denoiser(self, x: Tensor, times: Tensor) -> Tensor:
        """The ε that the network sees in x_t `[n, 3, s, s]` at times `[n]`, float32."""
        with self.computing():
            answer = self.unet(x.contiguous(memory_format=torch.channels_last), times).sample
        return answer.float()

    def loss(self, batch: int) -> Tensor:
        """‖ε − ε_θ(x_t, t)‖² with equal weight at every t (Ho et al. 2020, eq. 14).

        The batch's times are drawn one from each equal part of the 1000, which makes the mean less noisy.
        """
        size = self.settings.batch
        pictures = self.data.batch(self.request.seed, batch, size)
        rng = rng_of(self.request.seed, "time", batch)
        parts = rng.permutation((np.arange(size) + rng.random(size)) / size)
        times = torch.from_numpy(np.minimum((parts * STEPS).astype(np.int64), STEPS - 1))
        return self._error(pictures, times, torch_of(self.request.seed, "noise", batch))

    def _error(self, pictures: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        device = self.context.device
        noise = torch.randn(pictures.shape, generator=generator)
        noisy = self.process.noised(pictures, noise, times)
        return functional.mse_loss(self.denoiser(noisy.to(device), times.to(device)), noise.to(device))

    @torch.no_grad()
    def score(self, step: int) -> float | None:
        """Less the loss on held-out pictures at fixed times and noise."""
        del step
        held = self.data.held_out[:_SCORED]
        if not len(held):
            return None
        times = torch.from_numpy(np.linspace(0, STEPS - 1, len(held)).round().astype(np.int64))
        return -self._error(to_scale(held), times, torch_of(self.request.seed, "held out", 0)).item()

    def fixed(self, count: int) -> Tensor:
        """The run's fixed noise `[count, 3, s, s]`."""
        side = self.request.size_px
        drawn = torch.randn(count, 3, side, side, generator=torch_of(self.request.seed, "fixed", 0))
        return drawn.to(self.context.device)

    def paint(self, count: int) -> NDArray[np.uint8]:
        """Pictures of the fixed noise in `WAY_STEPS` steps of DDIM."""
        parts = self.fixed(count).split(_AT_ONCE)
        return np.concatenate([to_pixels(ddim(self.process, self.denoiser, x, WAY_STEPS)) for x in parts])

    def strips(self, step: int) -> list[Sample]:
        """How a picture drowns in noise (once), and how pictures come out of it."""
        samples = [Sample(self._denoising(), "denoising")]
        if step <= max(1, self.request.sample_every):
            samples.append(Sample(self._noising(), "noising"))
        return samples

    def _noising(self) -> Any:
        """Training pictures at t = 0, 100, … 999, all with the same noise."""
        times = torch.tensor(_SHOWN_TIMES)
        rows: list[NDArray[np.uint8]] = []
        for number, one in enumerate(to_scale(self.data.shown[:_STRIPS])):
            noise = torch.randn(one.shape, generator=torch_of(self.request.seed, "strip", number))
            rows.append(to_pixels(self.process.noised(*(x.expand(len(times), *x.shape) for x in (one, noise)), times)))
        return strip(rows, [f"t = {time}" for time in _SHOWN_TIMES])

    def _denoising(self) -> Any:
        """x_t of the first pictures of the fixed noise on their way, every other step."""
        seen: dict[int, NDArray[np.uint8]] = {}

        def watch(time: int, x: Tensor) -> None:
            seen[time] = to_pixels(x)

        last = to_pixels(ddim(self.process, self.denoiser, self.fixed(_STRIPS), WAY_STEPS, watch))
        times = strided(WAY_STEPS)[::2]
        rows = [np.stack([*(seen[time][i] for time in times), last[i]]) for i in range(_STRIPS)]
        return strip(rows, [*(f"t = {time}" for time in times), "painted"])

    def finish(self, folder: Path) -> tuple[list[Path], dict[str, float]]:
        """Also pictures by all 1000 steps with fresh noise, as the paper paints them."""
        files, figures = super().finish(folder)
        drawn = torch_of(self.request.seed, "ancestral", 0)
        exact = ancestral(self.process, self.denoiser, self.fixed(_EXACT_PICTURES), drawn)
        path = folder / "samples-1000-steps.png"
        picture_grid(to_pixels(exact), 4).save(path)
        return [*files, path], figures

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """A folder that diffusers' own `DDPMPipeline.from_pretrained` opens."""
        del step
        pipeline = DDPMPipeline(self.unet, export_scheduler())
        pipeline.save_pretrained(folder / name, safe_serialization=True)
        return [folder / name]

    def usage(self) -> str:
        """How pictures are painted with what was made."""
        return (
            super().usage()
            + " In Python: `DDPMPipeline.from_pretrained(FOLDER)(batch_size=4).images`, 1000 steps; "
            + "diffusers' `DDIMPipeline` opens the same folder and needs about 50."
        )


def export_scheduler() -> DDPMScheduler:
    """The same process as diffusers writes it."""
    return DDPMScheduler(
        num_train_timesteps=STEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="linear",
        variance_type="fixed_small",
        prediction_type="epsilon",
        clip_sample=True,
    )
