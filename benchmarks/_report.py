"""The command line that every benchmark shares, and the result it leaves."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers.utils.logging
import transformers.utils.logging

from benchmarks import _machine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Options:
    """What a person can choose.

    Attributes:
        json: One JSON object on stdout and nothing else there.
        quick: Tiny models, few repeats: shows that the code runs, measures nothing of worth.
        device: cpu, cuda, cuda:1 …
        repeats: How often each side is timed; the benchmark's own number if not given.
        check: Exit with 1 when the bar is missed.
        out: Where the result is written; nowhere for a quick run, unless given.
    """

    json: bool = False
    quick: bool = False
    device: str = "cpu"
    repeats: int | None = None
    check: bool = False
    out: Path | None = None

    def times(self, full: int, quick: int) -> int:
        """How often to repeat."""
        return self.repeats or (quick if self.quick else full)

    def say(self, text: str) -> None:
        """Tell a person how it goes."""
        print(text, file=sys.stderr if self.json else sys.stdout, flush=True)


@dataclass(frozen=True)
class Outcome:
    """What a benchmark found.

    Attributes:
        figures: Names with units (`…_s`, `ratio_…`) to numbers.
        bar: The bar in words.
        passed: Whether it was met.
        details: Whatever explains the figures: models, sizes, single times.
    """

    figures: dict[str, float]
    bar: str
    passed: bool
    details: dict[str, Any] = field(default_factory=dict[str, Any])


def run(name: str, about: str, measure: Callable[[Options], Outcome], argv: Sequence[str] | None = None) -> int:
    """Measure, write the result, print it; the exit code.

    Args:
        name: Of the benchmark and of its result file.
        about: One line for `--help`.
        measure: Does the work.
        argv: The command line after the module's name.
    """
    options = Options(**vars(parser(name, about).parse_args(argv)))
    _quiet_libraries()
    before = _machine.CpuClock.read()
    outcome = measure(options)
    return conclude(name, outcome, options, before.others_share(_machine.CpuClock.read()))


def conclude(name: str, outcome: Outcome, options: Options, others: float | None) -> int:
    """Write and print what was found; the exit code.

    Args:
        name: Of the benchmark and of its result file.
        outcome: What it found.
        options: What a person chose.
        others: The share of the machine that other programs took, 0 to 1.
    """
    result = {
        "benchmark": name,
        **{key: _rounded(value) for key, value in outcome.figures.items()},
        "bar": outcome.bar,
        "passed": outcome.passed,
        "quick": options.quick,
        "device": options.device,
        "details": outcome.details,
        "others_cpu_share": others,
        "machine": _machine.machine(options.device),
        "versions": _machine.versions(),
        "commit": _machine.commit(),
        "date": _machine.now(),
    }
    path = _write(name, result, options)
    _show(result, outcome, path, options)
    return 1 if options.check and not outcome.passed else 0


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes; their names are those of `Options`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    parser.add_argument("--quick", action="store_true", help="tiny models, seconds; checks the code, not the bar")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1 …")
    parser.add_argument("--repeats", type=_positive, default=None, help="how often each side is timed")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result (default benchmarks/results)")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not a number of repeats: 1 or more")
    return value


def _quiet_libraries() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _write(name: str, result: dict[str, Any], options: Options) -> Path | None:
    folder = options.out or (None if options.quick else RESULTS)
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "" if options.device == "cpu" else f"-{options.device.replace(':', '')}"
    path = folder / f"{name}{suffix}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _show(result: dict[str, Any], outcome: Outcome, path: Path | None, options: Options) -> None:
    for key in outcome.figures:
        options.say(f"{key:34} {result[key]:>10g}")
    verdict = "quick run, not judged" if options.quick else "met" if outcome.passed else "MISSED"
    options.say(f"bar: {outcome.bar}: {verdict}" + (f"   ({path})" if path else ""))
    if options.json:
        print(json.dumps(result, ensure_ascii=False), flush=True)


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(statistics.median(values))
