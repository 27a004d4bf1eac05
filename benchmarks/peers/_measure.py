"""Measuring a point: get every side ready, see from single steps how long it will take, then let them take turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks._machine import CpuClock
from benchmarks._timing import Rounds
from benchmarks.peers._cases import Point, Shelf
from benchmarks.peers._crew import Crew
from benchmarks.peers._jobs import Checkpoint, CrowdedError, Job, RefusedError
from benchmarks.peers._process import DiedError, Process
from benchmarks.peers._sides import Side, precision_class

MINUTE_S = 60.0


@dataclass(frozen=True)
class Probe:
    """What single steps said.

    Attributes:
        first_s: The first picture of this size: with compiling, reading and the like.
        fixed_s: Everything but the steps.
        step_s: One step.
    """

    first_s: float
    fixed_s: float
    step_s: float

    def seconds(self, job: Job) -> float:
        """How long a job should take."""
        return self.fixed_s + job.done_steps * self.step_s


@dataclass
class Found:
    """What a point's measurement found.

    Attributes:
        point: Which.
        sides: Figures of each side that ran, by name.
        refused: Why a side did not take part, by name.
        failed: What went wrong, by name.
        skipped: Why nothing was timed; empty if it was.
        estimate_s: What one round was expected to take.
        details: Single times, and what else ran meanwhile.
        probes: What single steps said of each side.
    """

    point: Point
    sides: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    estimate_s: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """For the result."""
        job = asdict(self.point.jobs[0])
        for path in ("init", "control"):
            job[path] = bool(job[path])
        return {
            "label": self.point.label,
            "checkpoint": self.point.checkpoint,
            "kind": self.point.kind,
            "users": len(self.point.jobs),
            "x": self.point.x,
            "job": job,
            "sides": self.sides,
            "refused": self.refused,
            "failed": self.failed,
            "skipped": self.skipped,
            "estimated_round_s": round(self.estimate_s, 2),
            **self.details,
        }


class Meter:
    """Measures points.

    Args:
        crew: The sides that are there.
        shelf: Checkpoints.
        rounds: How often each side is timed, if there is time.
        say: Tells a person.
    """

    def __init__(self, crew: Crew, shelf: Shelf, rounds: int, say: Callable[[str], None]) -> None:
        self._crew = crew
        self._shelf = shelf
        self._rounds = rounds
        self._say = say
        self._takes = 0

    def measure(self, point: Point, left_s: float) -> Found:
        """One point.

        Args:
            point: What.
            left_s: Seconds that it may take.
        """
        found = Found(point)
        checkpoint = self._shelf.get(point.checkpoint)
        if checkpoint is None:
            found.skipped = "the built-in model is not installed"
            self._say(f"  {point.label}: SKIPPED: {found.skipped}")
            return found
        if left_s <= 0:
            found.skipped = "the case's time is up: see --minutes"
            self._say(f"  {point.label}: SKIPPED: {found.skipped}")
            return found
        until = time.perf_counter() + left_s
        waiting = self._crew.sides
        while waiting:
            waiting = self._sitting(found, checkpoint, waiting, until)
        for name, why in {**found.refused, **found.failed}.items():
            self._say(f"  {point.label}: {name} did NOT take part: {why}")
        return found

    def _sitting(self, found: Found, checkpoint: Checkpoint, waiting: list[Side], until: float) -> list[Side]:
        """Measure as many sides as memory holds at once, the reference among them; who has to wait for the next."""
        point = found.point
        probes, crowded = self._probes(point, checkpoint, waiting, found)
        base = self._crew.reference(list(probes))
        if not probes or (crowded and list(probes) == [base] and found.sides.get(base, {}).get("seconds")):
            # Not even two of them fit.
            found.refused |= {side.name: str(why) for side, why in crowded.items()}
            found.skipped = found.skipped or ("" if found.sides else "no side can do it")
            return []
        found.estimate_s = sum(self._expected(point, name, probe) for name, probe in probes.items())
        left_s = until - time.perf_counter()
        rounds = min(self._rounds, math.floor(left_s / max(found.estimate_s, 1e-9)))
        say = f"  {point.label}: {', '.join(probes)}: about {_span(found.estimate_s)} a round"
        if rounds < 1:
            left = _span(max(left_s, 0))
            found.skipped = f"a round would take {_span(found.estimate_s)}, {left} are left: see --minutes"
            self._say(f"{say}: SKIPPED, {left} are left (--minutes)")
            return []
        self._say(f"{say}, {rounds} rounds")
        self._time(point, list(probes), rounds, found)
        if not crowded:
            return []
        self._crew.close_all(but=base)
        self._say(f"  {point.label}: {', '.join(side.name for side in crowded)}: in a sitting of their own, for memory")
        return [self._crew.side(base), *crowded]

    def _probes(
        self, point: Point, checkpoint: Checkpoint, sides: list[Side], found: Found
    ) -> tuple[dict[str, Probe], dict[Side, CrowdedError]]:
        """Every side that can do it, warmed up, with what single steps said of it; and those with no room."""
        probes: dict[str, Probe] = {}
        crowded: dict[Side, CrowdedError] = {}
        for side in sides:
            try:
                reason = self._crew.refuses(side, checkpoint, point)
                if reason:
                    raise RefusedError(reason)  # noqa: TRY301
                process = self._crew.ready(side, point.checkpoint, checkpoint)
                if side.name not in found.probes:
                    found.probes[side.name] = self._probe(process, point)
                    told = {key: round(value, 4) for key, value in asdict(found.probes[side.name]).items()}
                    found.sides[side.name] = {**self._crew.about(side, point.checkpoint), **told}
                    self._say(f"    {side.name}: first {_span(told['first_s'])}, a step {_span(told['step_s'])}")
                probes[side.name] = found.probes[side.name]
            except CrowdedError as error:
                crowded[side] = error
            except RefusedError as error:
                found.refused[side.name] = str(error)
            except DiedError as error:
                found.failed[side.name] = str(error)
                self._crew.drop_if_dead(side)
        return probes, crowded

    def _probe(self, process: Process, point: Point) -> Probe:
        job = point.jobs[0]
        one = math.ceil(1 / job.strength) if job.init else 1
        first = process.paint(self._take(replace(job, steps=one)))["seconds"]
        short = process.paint(self._take(replace(job, steps=one)))["seconds"]
        long = process.paint(self._take(replace(job, steps=2 * one)))["seconds"]
        step = max(long - short, 0.05 * short)
        if point.kind == "together":
            # Batches of other sizes are met for the first time here, not in a timed round.
            self._together(process, tuple(replace(other, steps=1) for other in point.jobs[:8]))
        return Probe(first, max(short - step, 0.0), step)

    def _take(self, job: Job) -> Job:
        self._takes += 1
        return job.take(self._takes)

    def _together(self, process: Process, jobs: tuple[Job, ...]) -> dict[str, Any]:
        self._takes += 1
        return process.ask("together", jobs=[asdict(job.take(self._takes)) for job in jobs])

    def _expected(self, point: Point, name: str, probe: Probe) -> float:
        opened = self._crew.open_s(name, point.checkpoint)
        painted = sum(probe.seconds(job) for job in point.jobs)
        if point.kind == "switch":
            return 2 * (opened + painted)
        return 5.0 + opened + painted if point.kind == "cold" else painted

    def _time(self, point: Point, names: list[str], rounds: int, found: Found) -> None:
        """Rounds in turns, every second one backwards; a side that fails falls out of the whole point."""
        kept = Rounds({name: [] for name in names})
        more: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        order = list(names)
        for number in range(rounds):
            before = self._clock()
            self._takes += 1
            take = self._takes
            for name in [name for name in order if name not in found.failed]:
                try:
                    seconds, extra = self._once(point, name, take, number)
                except (DiedError, RefusedError) as error:
                    found.failed[name] = str(error)
                    self._say(f"  {point.label}: {name} FAILED: {error}")
                    self._crew.drop_if_dead(self._crew.side(name))
                    continue
                kept.times[name].append(seconds)
                more[name].append(extra)
            kept.others.append(before.others_share(self._clock()) or 0.0)
            order.reverse()
        for name in found.failed.keys() & kept.times.keys():
            kept.times.pop(name)
            found.sides.pop(name)
        self._conclude(kept, more, found)

    def _once(self, point: Point, name: str, take: int, number: int) -> tuple[float, dict[str, Any]]:
        """One timing of one side: seconds, and what else belongs to it."""
        side = self._crew.side(name)
        job = point.jobs[0].take(take)
        if point.kind == "cold":
            return self._crew.cold(side, point.checkpoint, job)
        checkpoint = self._shelf.get(point.checkpoint)
        assert checkpoint is not None
        process = self._crew.ready(side, point.checkpoint, checkpoint)
        if point.kind == "together":
            told = process.ask("together", jobs=[asdict(one.take(take)) for one in point.jobs])
            mean = sum(told["latencies"]) / len(told["latencies"])
            return max(told["latencies"]), {"mean_latency_s": mean}
        if point.kind == "switch":
            other = self._shelf.get(point.other)
            assert other is not None
            opened = self._crew.change(side, point.other, other)
            there = opened + process.paint(job)["seconds"]
            back = self._crew.change(side, point.checkpoint, checkpoint) + process.paint(job)["seconds"]
            return (there + back) / 2, {"there_s": there, "back_s": back}
        keep = self._crew.picture_path(point, name) if number == 0 else ""
        told = process.paint(job, keep)
        return told["seconds"], {"spread": told["spread"]}

    def _conclude(self, kept: Rounds, more: dict[str, list[dict[str, Any]]], found: Found) -> None:
        """Medians, and ratios to the reference within each round."""
        base = self._crew.reference(list(kept.times))
        sittings = [*found.details.get("sittings", []), {"sides": list(kept.times), **kept.details()}]
        for name in kept.times:
            figures = found.sides[name]
            if "seconds" in figures:
                # The reference of a further sitting: its first figures stand.
                continue
            figures["seconds"] = round(kept.median_s(name), 4)
            extras = {key for one in more[name] for key in one}
            figures |= {key: round(_median([one[key] for one in more[name]]), 3) for key in sorted(extras)}
            figures["peak_gib"] = round(self._crew.peak_bytes(name) / 2**30, 2)
            figures["precision_class"] = precision_class(str(figures.get("precision", "")))
            if base:
                figures["ratio"] = round(kept.ratio(name, base), 3)
            self._say(f"    {name:18} {figures['seconds']:9.3f} s   × {figures.get('ratio', 1.0):.2f}")
            if _is_flat(figures):
                figures["warning"] = "the picture is flat: are its numbers finite?"
        found.details = {"reference": base, "sittings": sittings}

    def _clock(self) -> CpuClock:
        """The machine's clock, where our sides' own time does not count as other programs'."""
        clock = CpuClock.read()
        return replace(clock, own_s=clock.own_s + self._crew.cpu_s())


def _is_flat(figures: dict[str, Any]) -> bool:
    """Whether a picture has next to no differences, as one of NaN has."""
    return float(figures.get("spread", 255.0)) < 1.0


def _median(values: list[float]) -> float:
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < MINUTE_S else f"{seconds / MINUTE_S:.1f} min"
