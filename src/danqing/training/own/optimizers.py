"""The optimiser a Request names, over parameters with their shares of the learning rate; and how the rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import nn

from danqing.spec.errors import UnsupportedError
from danqing.spec.training_methods import TrainingRequest
from danqing.training.builtin.loop import MUON_SIDE
from danqing.training.builtin.muon import Muon

BETAS = (0.9, 0.99)
PRODIGY_RATE = 1.0
"""Prodigy finds the rate itself; what is set is a factor on it (Mishchenko and Defazio 2023, arXiv 2306.06101)."""

Parts = Sequence[tuple[list[nn.Parameter], float]]


def make_optimizer(request: TrainingRequest, parts: Parts, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser; weight decay only on matrices and kernels.

    Args:
        request: Which one, and its weight decay.
        parts: What is learnt, with shares of the rate.
        learning_rate: At its height.

    Raises:
        UnsupportedError: Its package is not installed.
    """
    muon = request.optimizer == "muon"
    groups: list[dict[str, Any]] = []
    for params, share in parts:
        kinds: dict[str, list[nn.Parameter]] = {"large": [], "matrix": [], "vector": []}
        for one in params:
            kinds[_kind(one, muon=muon)].append(one)
        groups += [
            {"params": chosen, "weight_decay": 0.0 if kind == "vector" else request.weight_decay, "lr_scale": share}
            | ({"matrix": kind == "large"} if muon else {})
            for kind, chosen in kinds.items()
            if chosen
        ]
    for group in groups:
        group["lr"] = learning_rate * group["lr_scale"]
    return _BUILDERS[request.optimizer](groups, learning_rate)


def default_rate(request: TrainingRequest, chosen: float) -> float:
    """The learning rate at its height, where Prodigy has its own idea of what 1 is."""
    if request.learning_rate is None and request.optimizer == "prodigy":
        return PRODIGY_RATE
    return chosen


def _kind(one: nn.Parameter, *, muon: bool) -> str:
    if one.ndim < 2:
        return "vector"
    return "large" if muon and one.ndim in (2, 4) and min(len(one), one[0].numel()) >= _muon_side(one) else "matrix"


def _muon_side(one: nn.Parameter) -> int:
    """From which smaller side on Muon trains a matrix: those of networks are narrow, and meant to be."""
    return MUON_SIDE if one.ndim == 4 else 2


def _adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, eps=1e-8, fused=True)


def _muon(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    return Muon(groups, learning_rate)


def _adamw8bit(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    found = _package("bitsandbytes", "adamw8bit", "pip install 'danqing[quant]'")
    return found.optim.AdamW8bit(groups, lr=learning_rate, betas=BETAS, eps=1e-8)


def _prodigy(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    found = _package("prodigyopt", "prodigy", "pip install prodigyopt")
    return found.Prodigy(groups, lr=learning_rate, betas=BETAS, safeguard_warmup=True, use_bias_correction=True)


_BUILDERS: dict[str, Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "muon": _muon,
    "prodigy": _prodigy,
}


def _package(name: str, optimizer: str, how: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise UnsupportedError(
            f"the optimiser {optimizer} needs the package {name}, which cannot be loaded: {error}",
            field="optimizer",
            value=optimizer,
            allowed="adamw, muon",
            next_step=f"{how}, or choose adamw",
        ) from error


def rate_factor(request: TrainingRequest, step: int, steps: int) -> float:
    """The learning rate's multiplier at a step: rises over the warm-up, then stays, or falls to nothing at the end.

    >>> from danqing.spec.training_methods import DdpmRequest
    >>> request = DdpmRequest(name="a", schedule="linear", warmup_steps=2)
    >>> [rate_factor(request, step, 6) for step in (0, 1, 2, 4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = request.warmup_steps
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if request.schedule == "linear":
        return 1.0 - done
    if request.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Every group's rate: its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
