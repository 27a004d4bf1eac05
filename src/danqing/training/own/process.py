"""A trainer's process: opens what the folder's request asks for, trains, exports, tells how it ended. Or estimates."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import diffusers
import torch
import transformers

from danqing.models.loader import pick_device
from danqing.spec.errors import BadFileError, OutOfMemoryError
from danqing.spec.training import AnyTraining, parse_training
from danqing.spec.training_run import PAUSED_EXIT_CODE, EndEvent, Estimate, StepEvent
from danqing.training.own import estimating
from danqing.training.own.card import write_card
from danqing.training.own.context import Context
from danqing.training.own.events import EventLog, now, read_events
from danqing.training.own.loop import LoopOptions, Trainer, export_all, relative
from danqing.training.own.methods import find_method

REQUEST_FILE = "request.json"
BACKGROUND_NICE = 10


def read_request(folder: Path) -> AnyTraining:
    """The run's request.

    Raises:
        BadFileError: It is not there, or no JSON.
        InvalidRequestError: Something in it is wrong.
    """
    path = folder / REQUEST_FILE
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(
            f"the run's request cannot be read: {error}", value=str(path), next_step="begin a new run"
        ) from error
    return parse_training(data)


def run(args: argparse.Namespace) -> int:
    """Train, or go on training; the exit code.

    Raises:
        DanqingError: What was asked for cannot be done.
    """
    started = time.monotonic()
    _quiet(args)
    request = read_request(args.folder)
    if request.background and hasattr(os, "nice"):
        os.nice(max(0, BACKGROUND_NICE - os.nice(0)))  # the studio has lowered it already
    events = EventLog(args.folder)
    context = Context(args.folder, args.sets, args.models, pick_device(args.device), events)
    try:
        with _leaving_at_once():
            return _trained(request, context, started)
    except _AskedToStopError:
        # While it loaded or exported: what was written is whole, and started again it goes on from there.
        events.tell(EndEvent(at=now(), state="paused", step=_last_step(args.folder), seconds=_since(started)))
        return PAUSED_EXIT_CODE
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "the graphics card's memory is full",
            field="batch",
            value=request.batch,
            next_step="take a smaller batch with more accumulation, gradient checkpointing, or a smaller size",
        ) from error


def _trained(request: AnyTraining, context: Context, started: float) -> int:
    """Open, train, export; the exit code."""
    events, folder = context.events, context.folder
    method = find_method(request.method).open(request, context)
    trainer = Trainer(method, LoopOptions(catch_signals=True))
    outcome = trainer.run()
    if outcome.paused:
        events.tell(EndEvent(at=now(), state="paused", step=outcome.step, seconds=_since(started)))
        return PAUSED_EXIT_CODE
    files, more = export_all(trainer)
    figures = {**outcome.figures, **more}
    card = write_card(trainer, figures)
    events.tell(
        EndEvent(
            at=now(),
            state="done",
            step=outcome.step,
            seconds=_since(started),
            files=relative([*files, card], folder),
            figures=figures,
            unpublished=method.nothing_gained(),
        )
    )
    return 0


class _AskedToStopError(Exception):
    """SIGTERM or SIGINT outside of the steps."""


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Inside, SIGTERM and SIGINT end what is being done; between steps the loop listens for itself."""

    def leave(_: int, __: FrameType | None) -> None:
        raise _AskedToStopError

    kept = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _last_step(folder: Path) -> int:
    """How far the run had come, as its events tell."""
    return max((event.step for event in read_events(folder) if isinstance(event, StepEvent)), default=0)


def estimate(args: argparse.Namespace) -> Estimate:
    """What the run would cost; mistakes are reasons in it.

    Raises:
        DanqingError: The request itself cannot be read.
    """
    _quiet(args)
    request = read_request(args.folder)
    device = pick_device(args.device)
    context = Context(args.folder, args.sets, args.models, device, EventLog(None), estimating=True)
    return estimating.estimate(request, context)


def tell_failure(folder: Path, error: dict[str, Any], seconds: float) -> None:
    """The run's last event where something went wrong."""
    if folder.is_dir():
        step = _last_step(folder)
        EventLog(folder).tell(EndEvent(at=now(), state="failed", step=step, seconds=round(seconds, 1), error=error))


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _quiet(args: argparse.Namespace) -> None:
    """Libraries' progress bars stay away; threads as asked for."""
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
