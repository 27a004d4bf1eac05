"""How processes of this program are begun: settings that libraries read from the environment when they load.

Importing `danqing` calls `prepare`. What a process's own C library reads holds for the processes that it starts: the
front's workers and trainers, which compute.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from pathlib import Path

WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def prepare(environment: MutableMapping[str, str]) -> None:
    """Add our settings to an environment; what a person set stays.

    - PyTorch's threads wait for their next work by spinning, for milliseconds (libgomp) or 0.2 s (libiomp), which keeps
      the cores from OpenVINO's threads and from other programs: a fourth of a small picture's time.
    - glibc (2.35 and later) asks for pages of 2 MB for what it allocates, where the system leaves that to programs
      (`/sys/kernel/mm/transparent_hugepage/enabled`: madvise): weights of gigabytes in pages of 4 kB cost a step of
      Stable Diffusion 1.5's shape an eighth of its time. `glibc.malloc.hugetlb=0` turns it off.
    """
    for name in WAITING:
        environment.setdefault(name, "0")
    if sys.platform == "linux":
        told = environment.get(TUNABLES, "")
        if HUGE_PAGES not in told:
            environment[TUNABLES] = f"{told}:{HUGE_PAGES}=1".lstrip(":")


def begun_so() -> bool:
    """Whether this process was begun with our settings, which is too late to change for its own C library."""
    if sys.platform != "linux":
        return True
    return HUGE_PAGES.encode() in Path("/proc/self/environ").read_bytes()
