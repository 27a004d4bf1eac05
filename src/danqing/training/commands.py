"""How the package's `python -m …` commands end: 0, or 2 after a mistake was told on stderr in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from danqing.spec.errors import DanqingError

MISTAKE = 2


def tell(error: DanqingError) -> int:
    """Say what was wrong; the exit code."""
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return MISTAKE


def exit_code(work: Callable[[], object]) -> int:
    """Do a command's work: 0 when done, 2 for a mistake in its input or something missing."""
    try:
        work()
    except DanqingError as error:
        return tell(error)
    return 0
