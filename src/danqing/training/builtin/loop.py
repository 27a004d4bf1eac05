"""What all optimiser runs share: learning-rate schedule, moving average, checkpoints, per-step randomness.

Every step draws its randomness from a generator seeded by (seed, stage, step), so a resumed run needs nothing but the
step number to go on exactly as an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.training.builtin.config import StageConfig
from danqing.training.builtin.muon import Muon

STAGE_SALT = {
    "vae": 1,
    "unet": 2,
    "captions": 3,
    "cache": 4,
    "eval": 5,
    "upscaler": 6,
    "scenes": 7,
    "clip": 8,
    "control": 9,
    "adapter": 10,
    "distill": 11,
    "inpaint": 12,
    "smooth": 13,
}


def step_seed(seed: int, stage: str, step: int) -> int:
    """A 63-bit seed for one step, well mixed (SplitMix64's finaliser, Steele et al. 2014)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + STAGE_SALT[stage] * 0xD1B54A32D192ED03 + step * 0x8CB92BA72F3D8DD7) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def step_rng(seed: int, stage: str, step: int) -> np.random.Generator:
    """NumPy's generator for one step."""
    return np.random.default_rng(step_seed(seed, stage, step))


def step_torch(seed: int, stage: str, step: int) -> torch.Generator:
    """PyTorch's CPU generator for one step."""
    return torch.Generator().manual_seed(step_seed(seed, stage, step))


@dataclass
class Budget:
    """When the run ends and how the learning rate falls; a wall-clock `deadline` (Unix s) can only end it earlier.

    The rate falls linearly to zero over the last `decay_samples`, or over the last `decay_share` of the time to the
    deadline, whichever is further on.
    """

    stage: StageConfig
    deadline: float | None = None
    started: float = field(default_factory=time.time)
    decay_share: float = 0.3

    def factor(self, step: int, samples: int) -> float:
        """The learning rate's multiplier at this step, 0 when the run is over."""
        warm = min(1.0, (step + 1) / max(1, self.stage.warmup_steps))
        left = (self.stage.max_samples - samples) / max(1, self.stage.decay_samples)
        if self.deadline is not None:
            window = max(1.0, self.decay_share * (self.deadline - self.started))
            left = min(left, (self.deadline - time.time()) / window)
        return warm * min(1.0, max(0.0, left))


class Ema:
    """Exponential moving average of parameters, warmed up as (1+n)/(10+n) so that early averages are not the start."""

    def __init__(self, params: list[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.params = params
        self.shadow = [p.detach().clone() for p in params]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the parameters after step number `step`."""
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.params], weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged values stand in for the trained ones inside the block."""
        kept = [p.detach().clone() for p in self.params]
        try:
            for p, s in zip(self.params, self.shadow, strict=True):
                p.data.copy_(s)
            yield
        finally:
            for p, k in zip(self.params, kept, strict=True):
                p.data.copy_(k)


@dataclass
class Progress:
    """Where a run stands: what a checkpoint holds besides tensors."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """A stage being trained: modules by name, optimiser, average, progress."""

    stage: str
    folder: Path
    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    ema: Ema
    digest: str
    progress: Progress = field(default_factory=Progress)

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        return self.folder / f"{self.stage}.ckpt.pt"

    def save(self) -> None:
        """Writes the checkpoint under a temporary name, then renames it."""
        data = {
            "digest": self.digest,
            "progress": vars(self.progress),
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.shadow,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(data, temporary)
        temporary.replace(self.path)

    def resume(self) -> bool:
        """Loads the checkpoint if there is one; False when there is none.

        Raises:
            BadFileError: It belongs to another configuration.
        """
        if not self.path.exists():
            return False
        data = torch.load(self.path, map_location="cpu", weights_only=True)
        if data["digest"] != self.digest:
            raise BadFileError(
                "the checkpoint was made with another configuration",
                field=str(self.path),
                value=data["digest"][:12],
                allowed=self.digest[:12],
                next_step="use the configuration it was made with, or another --out folder",
            )
        for name, module in self.modules.items():
            module.load_state_dict(data["modules"][name])
        self.optimizer.load_state_dict(data["optimizer"])
        for shadow, kept in zip(self.ema.shadow, data["ema"], strict=True):
            shadow.copy_(kept)
        self.progress = Progress(**data["progress"])
        return True


def stage_digest(*parts: Any) -> str:
    """What a stage's checkpoint depends on, as a short text."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


MUON_SIDE = 96
"""The smaller side of a matrix from which on Muon trains it: the first and last convolutions are left to AdamW."""


def make_optimizer(parts: list[tuple[list[nn.Parameter], float]], stage: StageConfig) -> torch.optim.Optimizer:
    """The stage's optimiser over (parameters, share of the learning rate); weight decay only on matrices and kernels.

    Raises:
        InvalidRequestError: There is no such optimiser.
    """
    if stage.optimizer not in ("adamw", "muon"):
        raise InvalidRequestError(
            "no such optimiser", field="stage.optimizer", value=stage.optimizer, allowed="adamw, muon"
        )
    muon = stage.optimizer == "muon"
    groups: list[dict[str, Any]] = []
    for params, scale in parts:
        kinds: dict[str, list[nn.Parameter]] = {"large": [], "matrix": [], "vector": []}
        for p in params:
            kinds[_kind(p, muon)].append(p)
        groups += [
            {"params": chosen, "weight_decay": 0.0 if kind == "vector" else stage.weight_decay, "lr_scale": scale}
            | ({"matrix": kind == "large"} if muon else {})
            for kind, chosen in kinds.items()
            if chosen
        ]
    if muon:
        return Muon(groups, stage.lr)
    return torch.optim.AdamW(groups, lr=stage.lr, betas=(0.9, 0.99), eps=1e-8, fused=True)


def _kind(p: nn.Parameter, muon: bool) -> str:
    if p.ndim < 2:
        return "vector"
    return "large" if muon and p.ndim in (2, 4) and min(len(p), p[0].numel()) >= MUON_SIDE else "matrix"


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group: its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


class Log:
    """One JSON line for each report, echoed to standard output."""

    def __init__(self, folder: Path, stage: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{stage}.jsonl"

    def write(self, **values: Any) -> None:
        """Appends a line."""
        line = json.dumps(values, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
        print(line, flush=True)  # noqa: T201


@dataclass(frozen=True)
class Steps:
    """What a stage does: its steps, and what it tells the log.

    Attributes:
        step: Gets the step's number and returns the loss of one batch, not yet differentiated.
        checked: Measures something with the averaged weights at every checkpoint and at the end.
        parts: What a line of the log says beside the loss, of the newest step.
        stop_after: The run pauses at this step number, as if it were interrupted.
    """

    step: Callable[[int], torch.Tensor]
    checked: Callable[[], dict[str, float]] | None = None
    parts: Callable[[], dict[str, float]] | None = None
    stop_after: int | None = None


def optimize(run: Run, stage: StageConfig, loss: torch.Tensor) -> None:
    """One optimiser step down the loss's gradient, clipped; the average follows."""
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.ema.params, stage.grad_clip)
    run.optimizer.step()
    run.ema.update(run.progress.step)


def train_steps(run: Run, stage: StageConfig, steps: Steps, deadline: float | None = None) -> None:
    """Goes on until the budget is spent; logs, saves, and leaves the averaged weights in the modules.

    Args:
        run: The stage's modules, optimiser, average and progress.
        stage: Its batch, learning rate and budget.
        steps: What a step is.
        deadline: Unix time in seconds at which the run ends at the latest.
    """
    log, budget = Log(run.folder, run.stage), Budget(stage, deadline)
    mean: float | None = None
    tick = saved = time.time()
    while (factor := budget.factor(run.progress.step, run.progress.samples)) > 0:
        if steps.stop_after is not None and run.progress.step >= steps.stop_after:
            break
        set_lr(run.optimizer, stage.lr * factor)
        loss = steps.step(run.progress.step)
        optimize(run, stage, loss)
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        now = time.time()
        run.progress.step += 1
        run.progress.samples += stage.batch
        run.progress.seconds += now - tick
        tick = now
        if run.progress.step % 25 == 0:
            rate = run.progress.samples / run.progress.seconds
            log.write(
                step=run.progress.step,
                samples=run.progress.samples,
                loss=round(mean, 5),
                **(steps.parts() if steps.parts is not None else {}),
                lr=run.optimizer.param_groups[0]["lr"],
                per_s=round(rate, 2),
            )
        if now - saved > 60 * stage.checkpoint_minutes:
            run.save()
            if steps.checked is not None:
                with run.ema.applied():
                    log.write(step=run.progress.step, **steps.checked())
            saved = tick = time.time()
    run.save()
    for p, s in zip(run.ema.params, run.ema.shadow, strict=True):
        p.data.copy_(s)
    measured = steps.checked() if steps.checked is not None else {}
    log.write(step=run.progress.step, samples=run.progress.samples, done=True, **measured)
