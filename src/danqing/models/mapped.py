"""Memory that is held without need: pages of mapped files of weights once they were copied, and freed pieces.

A page of a mapped file counts as this process's own for as long as it is mapped, beside the copy that a module holds:
without this, a model takes twice its file while it is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

BETWEEN_BYTES = 16 << 20
"""How much is copied between two times that pages are let go."""
FREED_BYTES = 128 << 20
"""How much is freed between two times that it is given back: each looks through the whole heap."""
_MAPS = Path("/proc/self/maps")
_DONT_NEED = 4
_SET_THP_DISABLE, _GET_THP_DISABLE = 41, 42
_gate, _within, _disabled_before = threading.Lock(), 0, 0


class Pages:
    """The pages of weights while they are copied.

    Args:
        place: The file, or the folder of several, that the weights are mapped from.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._copied = 0

    def copied(self, count: int) -> None:
        """Tell that so many bytes were copied; now and then all pages are let go.

        Args:
            count: Bytes.
        """
        self._copied += count
        if self._copied >= BETWEEN_BYTES:
            self.let_go()

    def let_go(self) -> int:
        """Let all pages go; whoever reads them again gets them from the file. Bytes of address space; 0 off Linux."""
        self._copied = 0
        return let_go(self._place)


@contextmanager
def small_pages() -> Generator[None]:
    """Inside the block nothing new gets pages of 2 MB, which Danqing asks for elsewhere (`danqing.surroundings`).

    Pieces of many sizes that come and go leave holes in such pages: loading would hold a tenth more than the model.
    """
    global _within, _disabled_before  # noqa: PLW0603
    with _gate:
        _within += 1
        if _within == 1:
            _disabled_before = _prctl(_GET_THP_DISABLE)
            _prctl(_SET_THP_DISABLE, 1)
    try:
        yield
    finally:
        with _gate:
            _within -= 1
            if _within == 0:
                _prctl(_SET_THP_DISABLE, _disabled_before)


class Freed:
    """Counts what was freed in pieces, which the C library keeps for later, and gives it back to the system in turn."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, count: int) -> None:
        """Tell that so many bytes were freed.

        Args:
            count: Bytes.
        """
        self._bytes += count
        if self._bytes >= FREED_BYTES:
            self._bytes = 0
            give_back()


def give_back() -> bool:
    """Give what was freed back to the system. False where the C library cannot."""
    trim = _trim()
    return trim is not None and trim(0) == 1


def let_go(place: Path) -> int:
    """Let go of all pages of a file, or of those in a folder. Nothing is lost: they are only read, never written.

    Args:
        place: The file or folder.

    Returns:
        Bytes of address space that were let go; 0 where the system has no such call.
    """
    advise = _advise()
    if advise is None:
        return 0
    done = 0
    for start, end in _ranges(place.resolve()):
        if advise(start, end - start, _DONT_NEED) == 0:
            done += end - start
    return done


def _prctl(option: int, value: int = 0) -> int:
    """Linux's call of that name, about this process; 0 elsewhere."""
    return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) if sys.platform.startswith("linux") else 0


def _ranges(place: Path) -> Iterator[tuple[int, int]]:
    """First address and the one behind the last of every mapping of these files."""
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    whole, below = str(place), f"{place}/"
    for line in lines:
        fields = line.split(maxsplit=5)
        # Programs are mapped to be executed; weights never are.
        if len(fields) == 6 and "x" not in fields[1] and (fields[5] == whole or fields[5].startswith(below)):
            start, _, end = fields[0].partition("-")
            yield int(start, 16), int(end, 16)


@functools.cache
def _advise() -> Callable[[int, int, int], int] | None:
    """Linux's `madvise`."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    call.restype = ctypes.c_int
    return call


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's `malloc_trim`."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_size_t,)
    call.restype = ctypes.c_int
    return call
