"""`python -m danqing.training.samples --drawings DIR --paintings DIR --work DIR --out DIR [NAME …]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from danqing.models.diffusers_folders import BUILTIN_DIR
from danqing.spec.errors import NotFoundError
from danqing.training.commands import exit_code
from danqing.training.samples.config import load_samples
from danqing.training.samples.make import Places, make


def main(argv: list[str] | None = None) -> int:
    """Make the samples that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m danqing.training.samples", description="Make the shipped samples.")
    parser.add_argument("names", nargs="*", help="default: all")
    parser.add_argument("--drawings", type=Path, required=True, help="made by `danqing dataset builtin --out`")
    parser.add_argument("--paintings", type=Path, required=True, help="folder with the painters' files")
    parser.add_argument("--work", type=Path, required=True, help="sets and runs are made and kept here")
    parser.add_argument("--out", type=Path, default=BUILTIN_DIR, help="default: the package's built-in folder")
    args = parser.parse_args(argv)
    return exit_code(partial(_make, args.names, Places(args.drawings, args.paintings, args.work, args.out)))


def _make(names: Sequence[str], places: Places) -> None:
    known = {sample.name: sample for sample in load_samples()}
    for name in names or known:
        if name not in known:
            raise NotFoundError("there is no such sample", field="name", value=name, allowed=", ".join(known))
        target, end = make(known[name], places)
        figures = ", ".join(f"{key} {value:g}" for key, value in end.figures.items())
        size_kb = target.stat().st_size / 1000
        print(f"{name}: {size_kb:.0f} kB, {end.seconds:.0f} s, {figures}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
