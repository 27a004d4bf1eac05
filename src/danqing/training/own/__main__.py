"""`python -m danqing.training.own RUN_FOLDER`: trains what the folder's request asks for.

Exit codes: 0 done, 75 paused (a checkpoint was written; start it again to go on), 2 a mistake in what was asked for or
something missing, 1 anything else. Everything is told in `events.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MALLOC = {"MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_MMAP_THRESHOLD_": "20000000000"}
"""The C library gives a step's memory back to the system and asks for it again: with these it keeps it."""


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m danqing.training.own", description="Train one's own.")
    parser.add_argument("folder", type=Path, help="the run's folder, with request.json")
    parser.add_argument("--sets", type=Path, required=True, help="folder of training sets")
    parser.add_argument("--models", type=Path, help="models folder in A1111's layout (default: the built-in family)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own)")
    parser.add_argument("--estimate", action="store_true", help="print what it would cost as one JSON line, and end")
    return parser.parse_args(argv)


def _with_calm_memory() -> None:
    """Begin again with the C library told to keep memory; it reads that at its start only."""
    if sys.platform != "linux" or all(name in os.environ for name in MALLOC):
        return
    os.environ.update({name: os.environ.get(name, value) for name, value in MALLOC.items()})
    # The same interpreter with the same arguments: nothing of this comes from a request.
    os.execv(sys.executable, [sys.executable, "-m", "danqing.training.own", *sys.argv[1:]])  # noqa: S606


def main(argv: list[str] | None = None) -> int:
    """The trainer's process; its exit code."""
    args = _arguments(argv)
    from danqing.spec.errors import DanqingError
    from danqing.training.commands import tell
    from danqing.training.own import process

    started = time.monotonic()
    try:
        if args.estimate:
            print(process.estimate(args).model_dump_json(), flush=True)  # noqa: T201
            return 0
        return process.run(args)
    except DanqingError as error:
        tell(error)
        return _failed(args, error.as_dict(), started)
    except Exception as error:  # noqa: BLE001 (the run's last words: whatever it is, a person is told)
        traceback.print_exc()
        said = {"code": "error", "message": f"training stopped: {type(error).__name__}: {error}"}
        _failed(args, said, started)
        return 1


def _failed(args: argparse.Namespace, error: dict[str, Any], started: float) -> int:
    from danqing.training.own import process

    if args.estimate:
        print(json.dumps({"reasons": [error["message"]]}), flush=True)  # noqa: T201
        return 0
    process.tell_failure(args.folder, error, time.monotonic() - started)
    return 2


if __name__ == "__main__":
    _with_calm_memory()
    sys.exit(main())
