"""A file that is written on one side and sent on the other, so that a ZIP need not be kept anywhere."""

from __future__ import annotations

from collections.abc import Iterator

_CHUNK_BYTES = 256 * 1024


class Pipe:
    """A file that can only be written, and emptied from the other side."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        """See `io.RawIOBase.write`."""
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def take(self) -> Iterator[bytes]:
        """What was written since the last time, in pieces."""
        held, self._held = b"".join(self._held), []
        for start in range(0, len(held), _CHUNK_BYTES):
            yield held[start : start + _CHUNK_BYTES]
