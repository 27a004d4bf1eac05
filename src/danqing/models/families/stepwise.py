"""Work of a library that cannot be interrupted, done a step at a time.

A pipeline of diffusers owns its loop; the engine owns the device. So the pipeline runs in a thread of its own that
rests at every step until it is told to go on: other Sessions get their turn between two steps, a cancelled picture
stops at the next one, and only one thread computes at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Tick = Callable[[], None]
"""What the work calls at the end of each step."""
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Ended:
    """The work is done.

    Attributes:
        result: What it returned.
    """

    result: Any


class _StoppedError(BaseException):
    """Raised inside the work to end it. No Exception, so that no library catches it."""


class Stepwise:
    """Work that goes on when it is told to.

    Args:
        job: The work; it calls its argument at the end of each step.
        seed: Of PyTorch's shared generators, for libraries that draw from them; the work has a state of its own of
            these, so that nothing that runs between two of its steps changes its result.
    """

    def __init__(self, job: Callable[[Tick], Any], seed: int) -> None:
        self._job = job
        self._seed = seed
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._rested = threading.Semaphore(0)
        self._stopping = False
        self._outcome: Ended | BaseException | None = None
        self._random: tuple[torch.Tensor, list[torch.Tensor]] | None = None

    def advance(self) -> Ended | None:
        """Go on to the end of the next step, or to the end; None means that there is more to do.

        Work that failed begins again, so that it can be tried once more with more memory.

        Raises:
            Exception: Whatever the work raises.
        """
        if isinstance(self._outcome, Ended):
            return self._outcome
        if self._thread is None:
            self._outcome, self._random = None, None
            self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
            self._thread.start()
        with self._own_randomness():
            self._go.release()
            self._rested.acquire()
        if self._outcome is not None:
            self._thread.join()
            self._thread = None
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def close(self) -> None:
        """End the work at the step where it rests."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self._go.release()
            thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        self._go.acquire()
        try:
            with torch.no_grad():
                self._outcome = Ended(self._job(self._tick))
        except BaseException as error:  # noqa: BLE001  it is raised again where the work is told to go on
            self._outcome = error
        self._rested.release()

    def _tick(self) -> None:
        self._rested.release()
        self._go.acquire()
        if self._stopping:
            raise _StoppedError

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        with torch.random.fork_rng():
            if self._random is None:
                torch.manual_seed(self._seed)
            else:
                torch.set_rng_state(self._random[0])
                if cuda:
                    torch.cuda.set_rng_state_all(self._random[1])
            try:
                yield
            finally:
                self._random = torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []
