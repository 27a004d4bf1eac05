"""Mean latency of twenty 4-step pictures that arrive with four of 50 steps (bar: at most 0.35 × that of a queue).

The queue is first come, first served: one picture at a time in the order of arrival, which a fixed seed shuffles; each
round has its own order. Both use the same executor and loaded model. Latency runs from the common arrival to the
finished picture.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks._bench import BRIEFS, NoPictures, Workbench, workbench
from benchmarks._machine import CpuClock
from benchmarks._report import Options, Outcome, median, run
from benchmarks._timing import synchronise
from danqing.engine import Engine, Finished, SessionEvent
from danqing.pipelines import expected_calls, paint
from danqing.spec.plan import Plan

BAR = 0.35
SEED = 20261121


@dataclass(frozen=True)
class Job:
    """One request of the load.

    Attributes:
        key: Its name: `s3` is a short one, `l0` a long one.
        plan: What it paints.
        user: Whose it is.
    """

    key: str
    plan: Plan
    user: str = "local"


def arrivals(bench: Workbench, options: Options, seed: int) -> list[Job]:
    """All requests in the order they come."""
    counts = (("s", 4, 2), ("l", 1, 6)) if options.quick else (("s", 20, 4), ("l", 4, 50))
    jobs: list[Job] = []
    for letter, count, steps in counts:
        for index in range(count):
            prompt = f"{BRIEFS[index % len(BRIEFS)]}, {letter}{index}"
            jobs.append(Job(f"{letter}{index}", bench.plan(prompt, seed=len(jobs), steps=steps)))
    random.Random(seed).shuffle(jobs)
    return jobs


def latencies(bench: Workbench, jobs: Sequence[Job], *, together: bool) -> dict[str, float]:
    """Seconds from arrival to the finished picture, by job.

    Args:
        bench: Where they are painted.
        jobs: In order of arrival.
        together: All at once in one engine, or one after the other.
    """
    engine = Engine(bench.executor())
    done: dict[str, float] = {}
    synchronise(bench.device)
    started = time.perf_counter()

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished):
            if event.error is not None:
                raise event.error
            done[event.key] = time.perf_counter() - started

    for job in jobs:
        engine.submit(
            job.key, paint(job.plan, NoPictures()), sink, user=job.user, expected_calls=expected_calls(job.plan)
        )
        if not together:
            engine.run_until_idle()
    engine.run_until_idle()
    return done


def _mean(times: dict[str, float], *, short: bool) -> float:
    values = [value for key, value in times.items() if key.startswith("s") is short]
    return sum(values) / len(values)


def measure(options: Options) -> Outcome:
    """Rounds of both, each with its own order of arrival."""
    with workbench(options) as bench:
        latencies(bench, arrivals(bench, options, SEED)[:3], together=True)
        rounds = [
            _round(bench, arrivals(bench, options, SEED + number), options, engine_first=number % 2 == 0)
            for number in range(options.times(full=3, quick=1))
        ]
        details = {**bench.about(), "seeds": [SEED + number for number in range(len(rounds))], "rounds": rounds}
    figures = {
        "ratio_short_latency": median([one["short_engine_s"] / one["short_fcfs_s"] for one in rounds]),
        "short_engine_s": median([one["short_engine_s"] for one in rounds]),
        "short_fcfs_s": median([one["short_fcfs_s"] for one in rounds]),
        "ratio_long_latency": median([one["long_engine_s"] / one["long_fcfs_s"] for one in rounds]),
        "ratio_all_done": median([one["all_engine_s"] / one["all_fcfs_s"] for one in rounds]),
    }
    passed = figures["ratio_short_latency"] <= BAR
    return Outcome(figures, f"short ones ≤ {BAR} × first come, first served", passed, details)


def _round(bench: Workbench, jobs: Sequence[Job], options: Options, *, engine_first: bool) -> dict[str, Any]:
    """Both sides over one order of arrival."""
    before = CpuClock.read()
    sides = {together: latencies(bench, jobs, together=together) for together in (engine_first, not engine_first)}
    found: dict[str, Any] = {}
    for name, times in (("engine", sides[True]), ("fcfs", sides[False])):
        found[f"short_{name}_s"] = round(_mean(times, short=True), 4)
        found[f"long_{name}_s"] = round(_mean(times, short=False), 4)
        found[f"all_{name}_s"] = round(max(times.values()), 4)
    order = [job.key for job in jobs]
    options.say(
        f"short: engine {found['short_engine_s']:.2f} s, queue {found['short_fcfs_s']:.2f} s; {' '.join(order)}"
    )
    return {**found, "order": order, "others_cpu_share": before.others_share(CpuClock.read())}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("mixed_load", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
