"""Turns itself into a trainer process: low priority, ended with the process that started it. `-m`, never imported.

Arguments: `background` or `foreground`, then the program and what it is given.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

NICENESS = 10
"""Beside other programs it still gets a share: at 19 a run on a busy machine stood still for minutes."""
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Set this process up, then become the program."""
    how, *command = arguments
    if how == "background" and hasattr(os, "nice"):
        os.nice(NICENESS)
        _lower_group()
    if sys.platform == "linux":
        _end_with_parent()
    os.execv(command[0], command)  # noqa: S606 - our own interpreter and module


def _lower_group() -> None:
    """Linux groups a session's processes; their niceness counts only inside the group, so the group is lowered too."""
    try:
        Path("/proc/self/autogroup").write_text(str(NICENESS))
    except OSError:
        return  # another system, or a kernel without autogroups


def _end_with_parent() -> None:
    """SIGTERM when the studio is killed: the trainer writes its checkpoint and leaves."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed just now
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
