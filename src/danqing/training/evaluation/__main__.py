"""`python -m danqing.training.evaluation`: measures the built-in family and writes docs/builtin-model.md."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import diffusers
import torch
import transformers

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.config import load_config
from danqing.training.commands import exit_code
from danqing.training.evaluation import results
from danqing.training.evaluation.bench import Bench, Places
from danqing.training.evaluation.config import Sizes
from danqing.training.evaluation.evaluator import held_back_rates, train_evaluator
from danqing.training.evaluation.family import open_family

COMMAND = "danqing eval builtin"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Measure the built-in family.")
    parser.add_argument("--config", default="builtin-cpu", help="the model's training configuration")
    parser.add_argument("--data", required=True, type=Path, help="folder made by `danqing dataset builtin`")
    parser.add_argument("--run", type=Path, default=Path("runs/eval"), help="folder of the judge and painted pictures")
    parser.add_argument(
        "--model-dir", type=Path, help="the model's folder, its family beside it (default: the package)"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the page, its JSON and images go")
    parser.add_argument("--only", help="sections to measure, separated by commas: " + ", ".join(results.SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it runs")
    parser.add_argument("--train-only", action="store_true", help="train the judge, print how good it is, and stop")
    parser.add_argument("--minutes", type=float, help="with --train-only: the longest that training may take")
    parser.add_argument("--render", action="store_true", help="write the page again from its JSON, measure nothing")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own)")
    return parser.parse_args(argv)


def chosen_sections(only: str | None) -> list[str]:
    """The sections to measure, in the page's order.

    Raises:
        InvalidRequestError: One of them is unknown.
    """
    wanted = list(results.SECTIONS) if only is None else [name.strip() for name in only.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(results.SECTIONS))
    if unknown or not wanted:
        raise InvalidRequestError(
            "there is no such section", field="--only", value=only, allowed=", ".join(results.SECTIONS)
        )
    return [name for name in results.SECTIONS if name in wanted]


def evaluate(bench: Bench, names: list[str], *, quick: bool) -> dict[str, object]:
    """Measures sections one by one; figures and page are written after each, so that a broken run loses little."""
    path = bench.places.docs / results.FILE
    found = results.read(path)
    found["about"] = results.about(bench)
    for name in names:
        print(f"{name} …", flush=True)  # noqa: T201
        command = f"{COMMAND} --config {bench.config.name} --data DIR --only {name}{' --quick' if quick else ''}"
        figures = results.measure(name, bench, command)
        found["sections"][name] = figures
        results.write(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        results.write_page(bench.places.docs, found)
        print(f"{name}: {json.dumps(figures, ensure_ascii=False)[:600]}", flush=True)  # noqa: T201
    return found


def _run(args: argparse.Namespace) -> None:
    if args.render:
        results.write_page(args.docs, results.read(args.docs / results.FILE))
        return
    names = chosen_sections(args.only)
    sizes = Sizes().quick() if args.quick else Sizes()
    with tempfile.TemporaryDirectory() as scratch:
        family = open_family(args.model_dir, Path(scratch))
        places = Places(args.data, args.run, args.docs)
        bench = Bench(load_config(args.config), sizes, places, family, torch.device(args.device))
        if args.train_only:
            deadline = None if args.minutes is None else time.time() + 60 * args.minutes
            judge = train_evaluator(bench.lessons, args.run, bench.device, deadline)
            print(json.dumps(held_back_rates(judge, bench.lessons, sizes.choices)))  # noqa: T201
            return
        evaluate(bench, names, quick=args.quick)
    print(args.docs / results.PAGE)  # noqa: T201


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake in its input or something missing."""
    args = _arguments(argv)
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    return exit_code(partial(_run, args))


if __name__ == "__main__":
    sys.exit(main())
