"""One piece of work in a process of its own: `python -m danqing.models.tools` with a task on stdin.

The task is JSON: `tool` (merge, convert, extract) and the fields of its task. Progress leaves as JSON lines on stdout,
the last of which is the result; an error is one JSON object on the last line of stderr, and the exit code is 1.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from danqing.models.tools.convert import ConvertTask, convert
from danqing.models.tools.extract import ExtractTask, extract
from danqing.models.tools.merge import MergeTask, merge
from danqing.spec.errors import DanqingError

_REPORT_EVERY_S = 0.25
_TOOLS: dict[str, tuple[type[Any], Callable[..., dict[str, Any]]]] = {
    "merge": (MergeTask, merge),
    "convert": (ConvertTask, convert),
    "extract": (ExtractTask, extract),
}


class _Progress:
    def __init__(self) -> None:
        self.said_s = 0.0

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self.said_s > _REPORT_EVERY_S:
            self.said_s = now
            sys.stdout.write(json.dumps({"progress": round(share, 4)}) + "\n")
            sys.stdout.flush()


def main() -> int:
    """Do the task on stdin."""
    raw = json.load(sys.stdin)
    kind, work = _TOOLS[raw.pop("tool")]
    paths = {field.name for field in dataclasses.fields(kind) if "Path" in str(field.type)}
    task = kind(**{key: Path(value) if key in paths and value is not None else value for key, value in raw.items()})
    try:
        result = work(task, _Progress())
    except DanqingError as error:
        sys.stderr.write("\n" + json.dumps(error.as_dict(), ensure_ascii=True) + "\n")
        return 1
    sys.stdout.write(json.dumps({"result": result}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
