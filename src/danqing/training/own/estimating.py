"""What a run will cost: a few real steps are made, timed and measured, and thrown away."""

from __future__ import annotations

import gc
import os
import time

import torch

from danqing.models.offloading import free_bytes
from danqing.spec.errors import DanqingError
from danqing.spec.training import AnyTraining
from danqing.spec.training_run import Estimate
from danqing.training.own.context import Context
from danqing.training.own.loop import Trainer
from danqing.training.own.methods import TrainedMethod, find_method

TIMED_STEPS = 3
MARGIN = 1.1
"""On what was measured: samples, checkpoints, fragments."""
BEGIN_S = 8.0
"""Loading libraries and the model, again, when the run begins."""


def estimate(request: AnyTraining, context: Context) -> Estimate:
    """Time, memory, and why it cannot start, if it cannot."""
    device = context.device
    free = free_bytes(device)
    before = _used(device)
    try:
        method = find_method(request.method).open(request, context)
        trainer = Trainer(method)
        seconds = _timed(trainer, method)
    except DanqingError as error:
        return Estimate(free_bytes=free, reasons=(str(error),), warnings=tuple(context.warnings))
    except (torch.OutOfMemoryError, MemoryError):
        reason = "one step does not fit into memory: take a smaller batch, gradient checkpointing or a smaller size"
        return Estimate(free_bytes=free, memory_bytes=free, reasons=(reason,), warnings=tuple(context.warnings))
    memory = int(max(0, _used(device) - before) * MARGIN)
    reasons: list[str] = []
    if memory > free:
        reasons.append(
            f"it needs {memory / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free: take a smaller batch, "
            "gradient checkpointing or a smaller size, or close what else uses memory"
        )
    return Estimate(
        seconds=round(seconds, 1),
        memory_bytes=memory,
        free_bytes=free,
        trainable_parameters=sum(one.numel() for one in trainer.params),
        steps=trainer.steps,
        reasons=tuple(reasons),
        warnings=tuple(context.warnings),
    )


def _timed(trainer: Trainer, method: TrainedMethod) -> float:
    """Seconds of the whole run: the quickest of a few steps after the first, samples and preparation added."""
    preparing = method.preparation_s()
    times: list[float] = []
    for _ in range(min(TIMED_STEPS + 1, trainer.steps)):
        started = time.monotonic()
        trainer.step()
        _wait(method.context.device)
        times.append(time.monotonic() - started)
    each = min(times[1:] or times)
    sampling = 0.0
    every = trainer.request.sample_every
    if every:
        started = time.monotonic()
        with trainer.exported():
            method.sample(0)
        sampling = (time.monotonic() - started) * -(-trainer.steps // every)
    return BEGIN_S + preparing + (each * trainer.steps + sampling) * MARGIN


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _used(device: torch.device) -> int:
    """Bytes at their height so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    gc.collect()
    status = f"/proc/{os.getpid()}/status"
    try:
        with open(status, encoding="ascii") as handle:  # noqa: PTH123 (no path of a person's)
            for line in handle:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
