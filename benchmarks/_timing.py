"""Timing two or more things fairly: in turns, the order turned round each time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

import torch


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of one call, to the end of what it left on the device."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Time each side `repeats` times, taking turns; every second round goes backwards.

    Args:
        sides: What to time.
        repeats: Timed rounds.
        device: To wait for.
        warm_up: Rounds before that are not timed.

    Returns:
        Seconds of each round, by side.
    """
    for _ in range(warm_up):
        for work in sides.values():
            work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(repeats):
        for name in order:
            # Between the timed parts, so that neither side pays for the other's garbage.
            gc.collect()
            times[name].append(seconds(sides[name], device))
        order.reverse()
    return times
