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

from benchmarks._bench import BRIEFS, NoPictures, Workbench, workbench
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
        rounds: list[dict[str, object]] = []
        ours: list[dict[str, float]] = []
        theirs: list[dict[str, float]] = []
        for number in range(options.times(full=3, quick=1)):
            jobs = arrivals(bench, options, SEED + number)
            options.say(f"round {number + 1}: {' '.join(job.key for job in jobs)}")
            # Every second round the other side goes first.
            for together in (True, False) if number % 2 == 0 else (False, True):
                (ours if together else theirs).append(latencies(bench, jobs, together=together))
            rounds.append({"seed": SEED + number, "order": [job.key for job in jobs]})
        for entry, mine, other in zip(rounds, ours, theirs, strict=True):
            entry |= {
                "short_engine_s": round(_mean(mine, short=True), 3),
                "short_fcfs_s": round(_mean(other, short=True), 3),
                "long_engine_s": round(_mean(mine, short=False), 3),
                "long_fcfs_s": round(_mean(other, short=False), 3),
                "all_engine_s": round(max(mine.values()), 3),
                "all_fcfs_s": round(max(other.values()), 3),
            }
        about = bench.about()
    pairs = list(zip(ours, theirs, strict=True))
    ratio = median([_mean(mine, short=True) / _mean(other, short=True) for mine, other in pairs])
    figures = {
        "ratio_short_latency": ratio,
        "short_engine_s": median([_mean(mine, short=True) for mine in ours]),
        "short_fcfs_s": median([_mean(other, short=True) for other in theirs]),
        "ratio_long_latency": median([_mean(mine, short=False) / _mean(other, short=False) for mine, other in pairs]),
        "ratio_all_done": median([max(mine.values()) / max(other.values()) for mine, other in pairs]),
    }
    return Outcome(figures, f"≤ {BAR} × first come, first served", ratio <= BAR, {**about, "rounds": rounds})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("mixed_load", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
