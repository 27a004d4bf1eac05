"""Timing two or more things fairly: in turns, the order turned round each time."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks._machine import CpuClock

CALM_SHARE = 0.1
FEWEST = 3


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


@dataclass
class Rounds:
    """Timings taken in turns, and how busy other programs were meanwhile.

    Attributes:
        times: Seconds of each round, by side.
        others: Share of the machine that other programs took in each round, 0 to 1.
    """

    times: dict[str, list[float]]
    others: list[float] = field(default_factory=list[float])

    @property
    def quiet(self) -> list[int]:
        """The rounds that count: those with little else running, or the quietest three if there are fewer."""
        calm = [index for index, share in enumerate(self.others) if share <= CALM_SHARE]
        ranked = sorted(range(len(self.others)), key=lambda index: self.others[index])
        return calm if len(calm) >= FEWEST else sorted(ranked[:FEWEST])

    def median_s(self, side: str) -> float:
        """Median seconds of a side over the quiet rounds."""
        return float(statistics.median(self.times[side][index] for index in self.quiet))

    def ratio(self, above: str, below: str) -> float:
        """Median of the ratios within each quiet round: a slow drift of the machine leaves it alone."""
        return float(statistics.median(self.times[above][i] / self.times[below][i] for i in self.quiet))

    def details(self) -> dict[str, Any]:
        """All single times, for the result."""
        named = {f"{side}_s": [round(value, 4) for value in values] for side, values in self.times.items()}
        return {**named, "others_cpu_share_by_round": self.others, "rounds_counted": len(self.quiet)}


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int, device: torch.device, *, warm_up: int = 1
) -> Rounds:
    """Time each side `repeats` times, taking turns; every second round goes backwards.

    Args:
        sides: What to time.
        repeats: Timed rounds.
        device: To wait for.
        warm_up: Rounds before that are not timed.
    """
    for _ in range(warm_up):
        for work in sides.values():
            work()
    rounds = Rounds({name: [] for name in sides})
    order = list(sides)
    for _ in range(repeats):
        before = CpuClock.read()
        for name in order:
            # Between the timed parts, so that neither side pays for the other's garbage.
            gc.collect()
            rounds.times[name].append(seconds(sides[name], device))
        rounds.others.append(before.others_share(CpuClock.read()) or 0.0)
        order.reverse()
    return rounds
