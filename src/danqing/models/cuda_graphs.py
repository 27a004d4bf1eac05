"""A network's call recorded as a CUDA graph: one launch in place of a thousand, over buffers that stay where they are.

See PyTorch's *CUDA semantics*, section *CUDA Graphs*. Recording happens in the thread that paints, between batches:
nothing else may run in the memory that a recording takes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

Feeds = Mapping[str, Tensor]
"""What a network reads, by name; the first dimension of each is the rows of the batch."""
Work = Callable[[Feeds], tuple[Tensor, ...]]
"""A network's call; every answer has a row for each row of the feeds."""
logger = logging.getLogger(__name__)


class Recording(Protocol):
    """A recorded call."""

    @property
    def size_bytes(self) -> int:
        """Device memory that it holds beside the weights."""
        ...

    def __call__(self, feeds: Feeds) -> tuple[Tensor, ...]:
        """The answers for as many rows as are fed; they hold until the next call."""
        ...


class Recorder(Protocol):
    """Records calls; a fake one stands in where there is no GPU."""

    def free_bytes(self) -> int:
        """Device memory that can be had."""
        ...

    def new_pool(self) -> Any:
        """Memory that the recordings of one network share, since they never run at the same time."""
        ...

    def record(self, work: Work, static: dict[str, Tensor], pool: Any) -> Recording:
        """Record a call.

        Args:
            work: The call; all it has to choose or compile was done before.
            static: Buffers that it will read from now on, filled with numbers that may be real.
            pool: From `new_pool`.

        Raises:
            torch.OutOfMemoryError: There is no room.
            RuntimeError: It cannot be recorded.
        """
        ...

    def apart(self, work: Callable[[], object]) -> None:
        """Do work beside what runs, from another thread, to its end."""
        ...


def static_feeds(feeds: Feeds, rows: int) -> dict[str, Tensor]:
    """Buffers of so many rows in the layout of some feeds, filled from them as far as those go; zeros else."""
    found: dict[str, Tensor] = {}
    for name, one in feeds.items():
        buffer = torch.zeros((rows, *one.shape[1:]), dtype=one.dtype, device=one.device)
        if one.ndim == 4 and one.is_contiguous(memory_format=torch.channels_last):
            buffer = buffer.contiguous(memory_format=torch.channels_last)
        buffer[: len(one)].copy_(one)
        found[name] = buffer
    return found


class CudaRecorder:
    """Records CUDA graphs.

    Args:
        device: The GPU.
        free: Bytes of its memory that can be had.
    """

    def __init__(self, device: torch.device, free: Callable[[], int]) -> None:
        self._device = device
        self._free = free
        # One stream for all: what a library prepares for a stream (cuBLAS' workspace) is then prepared once.
        self._stream = torch.cuda.Stream(device)
        self._beside = torch.cuda.Stream(device)

    def free_bytes(self) -> int:
        """As was told."""
        return self._free()

    def new_pool(self) -> Any:
        """A handle."""
        return torch.cuda.graph_pool_handle()

    def record(self, work: Work, static: dict[str, Tensor], pool: Any) -> Recording:
        """As the interface says."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work(static)
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may ask for memory meanwhile (saving, compiling); only this one's requests are recorded.
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                answers = work(static)
        except BaseException:
            # A recording that fails while it is being closed leaves its stream behind as the current one.
            torch.cuda.set_stream(current)
            raise
        held = sum(one.numel() * one.element_size() for one in static.values())
        return _CudaRecording(graph, static, answers, torch.cuda.memory_reserved(self._device) - before + held)

    def apart(self, work: Callable[[], object]) -> None:
        """On a stream of its own."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._beside):
            work()
        self._beside.synchronize()


class _CudaRecording:
    """A recorded CUDA graph, its inputs and its answers."""

    def __init__(
        self, graph: torch.cuda.CUDAGraph, static: dict[str, Tensor], answers: tuple[Tensor, ...], size_bytes: int
    ) -> None:
        self._graph = graph
        self._static = static
        self._answers = answers
        self.size_bytes = max(0, size_bytes)

    def __call__(self, feeds: Feeds) -> tuple[Tensor, ...]:
        """Copy in, replay, look at as many rows as were fed."""
        rows = fill(self._static, feeds)
        self._graph.replay()
        return tuple(one[:rows] for one in self._answers)


def fill(static: Mapping[str, Tensor], feeds: Feeds) -> int:
    """Copy feeds into the first rows of their buffers; how many rows. What stands in the others is of no account.

    Raises:
        RuntimeError: There are other feeds than buffers.
    """
    if static.keys() != feeds.keys():
        raise RuntimeError(f"a recorded call reads {sorted(static)}, and was fed {sorted(feeds)}")
    rows = {len(one) for one in feeds.values()}
    for name, one in feeds.items():
        static[name][: len(one)].copy_(one)
    if len(rows) != 1:
        raise RuntimeError(f"the feeds of a recorded call have {sorted(rows)} rows")
    return rows.pop()
