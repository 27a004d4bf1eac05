"""The contract of recorded CUDA graphs where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from danqing.models.cuda_graphs import Feeds, Recording, Work, fill


class CopyRecorder:
    """The same contract where there is no GPU, for tests: a recording computes anew at each call.

    Its answers lie in buffers that the next call overwrites, as a graph's do.

    Args:
        free: What `free_bytes` says.
    """

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.recorded: list[dict[str, tuple[int, ...]]] = []
        self.fails: BaseException | None = None
        self.replayed = 0

    def free_bytes(self) -> int:
        """As set."""
        return self.free

    def new_pool(self) -> Any:
        """Nothing is shared."""
        return None

    def record(self, work: Work, static: dict[str, Tensor], pool: Any) -> Recording:
        """Raises `fails` if that is set."""
        del pool
        if self.fails is not None:
            raise self.fails
        self.recorded.append({name: tuple(one.shape) for name, one in static.items()})
        answers = tuple(one.clone() for one in work(static))
        return _CopyRecording(self, work, static, answers)

    def apart(self, work: Callable[[], object]) -> None:
        """At once."""
        work()


class _CopyRecording:
    def __init__(
        self, recorder: CopyRecorder, work: Work, static: dict[str, Tensor], answers: tuple[Tensor, ...]
    ) -> None:
        self._recorder = recorder
        self._work = work
        self._static = static
        self._answers = answers

    @property
    def size_bytes(self) -> int:
        """Of the buffers."""
        buffers = (*self._static.values(), *self._answers)
        return sum(one.numel() * one.element_size() for one in buffers)

    def __call__(self, feeds: Feeds) -> tuple[Tensor, ...]:
        rows = fill(self._static, feeds)
        self._recorder.replayed += 1
        for buffer, one in zip(self._answers, self._work(self._static), strict=True):
            buffer.copy_(one)
        return tuple(one[:rows] for one in self._answers)
