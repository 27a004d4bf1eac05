"""Danqing and every peer that is there, on the same checkpoints, prompts, steps, sizes and machine, taking turns.

Bar: no peer is faster in any case, and Stable Diffusion 1.5's shape at 512² is at least 3.2 × diffusers' defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import _machine, _report
from benchmarks._report import RESULTS, Options, Outcome
from benchmarks.peers import _plot
from benchmarks.peers._cases import FULL, NAMES, QUICK, Case, Scale, Shelf, cases
from benchmarks.peers._crew import Crew, Setup
from benchmarks.peers._measure import MINUTE_S, Found, Meter
from benchmarks.peers._sides import BY_NAME, OURS, PROGRAMS, SIDES, Side

BAR_DEFAULTS = 3.2
BAR = f"no peer faster in any case, SD1.5 512² ≥ {BAR_DEFAULTS} × diffusers' defaults"
MINUTES = 15.0


@dataclass(frozen=True)
class Wanted(Options):
    """What a person chose besides what all benchmarks take.

    Attributes:
        cases: Names of cases.
        peers: Names of sides, Danqing's among them.
        minutes: A case's.
        threads: Of every side.
        steps: Of the cases that paint a whole picture.
        work: Where checkpoints and conversions lie.
        pythons: Interpreters by program.
        urls: Addresses.
        checkouts: Folders.
        pictures: Where each side's first picture goes.
        add: Keep the cases of an earlier result that are not run now.
    """

    cases: tuple[str, ...] = NAMES
    peers: tuple[str, ...] = ()
    minutes: float = MINUTES
    threads: int = 1
    steps: int | None = None
    work: Path | None = None
    pythons: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    checkouts: dict[str, Path] = field(default_factory=dict)
    pictures: Path | None = None
    add: bool = False

    def sides(self) -> list[Side]:
        """The sides that are asked for; all but those that must be named, if none is."""
        if not self.peers:
            return [side for side in SIDES if not side.asked]
        # Danqing is what everybody is compared with.
        return [side for side in SIDES if side.name in self.peers or side.name == OURS]

    def scale(self) -> Scale:
        """How large everything is."""
        base = QUICK if self.quick else FULL
        return base if self.steps is None else Scale(**{**vars(base), "steps": self.steps})


def parse(argv: Sequence[str] | None) -> Wanted:
    """The command line."""
    parser = _report.parser("peers", __doc__ or "")
    parser.add_argument("--cases", type=_names(NAMES, "case"), default=NAMES, help=f"of {', '.join(NAMES)}")
    known = tuple(BY_NAME)
    parser.add_argument("--peers", type=_names(known, "side"), default=(), help=f"of {', '.join(known)}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each case; longer points are skipped")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every side (default: all cores)")
    parser.add_argument("--steps", type=int, default=None, help="of whole pictures, instead of 20")
    parser.add_argument("--work", type=Path, default=None, help="keep checkpoints and conversions here (10 GB)")
    parser.add_argument("--add", action="store_true", help="keep the other cases of the result that is there")
    parser.add_argument("--pictures", type=Path, default=None, help="keep each side's first picture here")
    _add_pairs(parser, "python", "PROGRAM=PYTHON", "interpreter that has a program's packages")
    _add_pairs(parser, "url", "PROGRAM=URL", "a running comfyui or a1111")
    _add_pairs(parser, "checkout", "PROGRAM=FOLDER", "a comfyui or a1111 that is started from here")
    told = vars(parser.parse_args(argv))
    pythons, urls, checkouts = (_pairs(parser, told.pop(key), key) for key in ("python", "url", "checkout"))
    return Wanted(**told, pythons=pythons, urls=urls, checkouts={key: Path(at) for key, at in checkouts.items()})


def _add_pairs(parser: argparse.ArgumentParser, name: str, form: str, about: str) -> None:
    # Also from the environment: DANQING_BENCH_PYTHON_OPTIMUM=… stands for --python optimum=…
    parser.add_argument(f"--{name}", action="append", default=[], metavar=form, help=about)


def _pairs(parser: argparse.ArgumentParser, given: list[str], name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for program in PROGRAMS:
        value = os.environ.get(f"DANQING_BENCH_{name.upper()}_{program.upper()}")
        if value:
            found[program] = value
    for one in given:
        program, _, value = one.partition("=")
        if program not in PROGRAMS or not value:
            parser.error(f"--{name} {one!r}: PROGRAM=… with one of {', '.join(PROGRAMS)}")
        found[program] = value
    return found


def _names(known: tuple[str, ...], what: str) -> Any:
    def read(text: str) -> tuple[str, ...]:
        asked = tuple(name.strip() for name in text.split(",") if name.strip())
        unknown = [name for name in asked if name not in known]
        if unknown or not asked:
            raise argparse.ArgumentTypeError(f"no {what} {', '.join(unknown)}: there are {', '.join(known)}")
        return asked

    return read


@contextmanager
def _work(wanted: Wanted) -> Iterator[Path]:
    if wanted.work is not None:
        wanted.work.mkdir(parents=True, exist_ok=True)
        yield wanted.work.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="danqing-peers-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(wanted: Wanted) -> Outcome:
    """Every case in its turn."""
    with _work(wanted) as work:
        shelf = Shelf(work, quick=wanted.quick, say=wanted.say)
        setup = Setup(
            work, wanted.threads, wanted.device, wanted.pythons, wanted.urls, wanted.checkouts, wanted.pictures
        )
        chosen = [case for case in cases(wanted.scale(), shelf) if case.name in wanted.cases]
        needed = {key for case in chosen for point in case.points for key in (point.checkpoint, point.other) if key}
        for key in sorted(needed):
            shelf.get(key)
        crew = Crew(setup, wanted.say)
        try:
            crew.gather(wanted.sides(), work / "models")
            meter = Meter(crew, shelf, wanted.times(full=5, quick=1), wanted.say)
            found = {case.name: _case(case, meter, wanted) for case in chosen}
        finally:
            crew.close()
        return _outcome(chosen, found, crew, wanted)


def _case(case: Case, meter: Meter, wanted: Wanted) -> list[Found]:
    wanted.say(f"{case.name}: {case.about}")
    until = time.perf_counter() + wanted.minutes * MINUTE_S
    return [meter.measure(point, until - time.perf_counter()) for point in case.points]


def _outcome(chosen: Sequence[Case], found: dict[str, list[Found]], crew: Crew, wanted: Wanted) -> Outcome:
    details = {
        "threads": wanted.threads,
        "steps": wanted.scale().steps,
        "sides": {side.name: side.about for side in crew.sides},
        "not_measured": crew.absent,
        "cases": {
            case.name: {
                "about": case.about,
                "axis": case.axis,
                "points": [point.told() for point in found[case.name]],
            }
            for case in chosen
        },
    }
    return judged(details)


def judged(details: dict[str, Any]) -> Outcome:
    """What the measured cases say together."""
    figures: dict[str, float] = {}
    slower = True
    for name, case in details["cases"].items():
        for number, point in enumerate(case["points"]):
            key = name if len(case["points"]) == 1 else f"{name}_{number}"
            for side, told in point["sides"].items():
                if "seconds" in told and "ratio" in told:
                    figures[f"{key}_{side}_s"] = told["seconds"]
                    figures[f"ratio_{key}_{side}"] = told["ratio"]
                    slower = slower and (side.startswith(OURS) or told["ratio"] >= 1.0)
    defaults = figures.get("ratio_sd15_diffusers", 0.0)
    return Outcome(figures, BAR, bool(figures) and slower and defaults >= BAR_DEFAULTS, details)


def earlier(wanted: Wanted) -> dict[str, Any] | None:
    """The result that this one is added to.

    Raises:
        SystemExit: That was another machine, or another number of threads.
    """
    path = (wanted.out or RESULTS) / "peers.json"
    if not wanted.add or not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    theirs = {"machine": found["machine"], "threads": found["details"]["threads"]}
    ours = {"machine": _machine.machine(wanted.device), "threads": wanted.threads}
    if theirs != ours:
        raise SystemExit(
            f"{path} was measured on {theirs}, this is {ours}: leave --add out, or write elsewhere (--out)"
        )
    return found


def added(outcome: Outcome, before: dict[str, Any] | None, run: dict[str, Any]) -> Outcome:
    """A result with the cases of an earlier one that were not run now; each case says when it was.

    Args:
        outcome: What was found now.
        before: The earlier result.
        run: What is told of this run.
    """
    cases = {name: {**case, "run": run} for name, case in outcome.details["cases"].items()}
    details = {**outcome.details, "cases": cases}
    if before is not None:
        then = {key: before[key] for key in ("date", "commit", "others_cpu_share")}
        kept = {name: {"run": then, **case} for name, case in before["details"]["cases"].items() if name not in cases}
        details["cases"] = {name: {**kept, **cases}[name] for name in NAMES if name in kept or name in cases}
        details["sides"] = {**before["details"]["sides"], **details["sides"]}
    return judged(details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, and draw its result beside it."""
    wanted = parse(argv)
    joined = earlier(wanted)
    before = _machine.CpuClock.read()
    outcome = measure(wanted)
    others = before.others_share(_machine.CpuClock.read())
    folder = wanted.out or (None if wanted.quick else RESULTS)
    if wanted.add:
        run = {"date": _machine.now(), "commit": _machine.commit(), "others_cpu_share": others}
        outcome = added(outcome, joined, {**run, "steps": wanted.scale().steps})
    code = _report.conclude("peers", outcome, wanted, others)
    if folder is not None:
        path = folder / "peers.svg"
        path.write_text(_plot.draw(outcome.details), encoding="utf-8")
        wanted.say(f"drawn: {path}")
    return code


if __name__ == "__main__":
    sys.exit(main())
