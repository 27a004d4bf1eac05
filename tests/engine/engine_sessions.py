"""Sessions small enough to follow by hand, and a sink that remembers."""

from __future__ import annotations

from typing import Any

import torch

from danqing.engine import Engine, Finished, SessionEvent
from danqing.engine.calls import Denoise, EncodeText, ModelKey, Report, Session
from danqing.engine.fake import FakeExecutor, context_of
from danqing.spec.model import ModelRef

KEY = ModelKey(ModelRef(name="fake", sha256="0" * 64, family="sd1"))


class Log:
    """A sink; complains when a Session ends twice or speaks after its end."""

    def __init__(self) -> None:
        self.events: list[SessionEvent] = []

    def __call__(self, event: SessionEvent) -> None:
        assert event.key not in self.ends(), f"{event.key} has ended already"
        self.events.append(event)

    def ends(self) -> list[str]:
        return [event.key for event in self.events if isinstance(event, Finished)]

    def end(self, key: str) -> Finished:
        (event,) = (event for event in self.events if isinstance(event, Finished) and event.key == key)
        return event

    def result(self, key: str) -> Any:
        end = self.end(key)
        if end.error is not None:
            raise end.error
        return end.result


def denoise_only(seed: int, steps: int, side: int = 4) -> Session:
    """`steps` model calls, nothing else."""
    x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed))
    for step in range(steps):
        x = yield Denoise(KEY, x, 2.0 / (step + 1), (context_of(str(seed)),))
    return x


def many_steps(seed: int, steps: int) -> Session:
    """Encode, then Euler from σ = 10 to 0 under a prompt and a negative prompt, reporting each step."""
    (words,) = yield EncodeText(KEY, (f"words {seed}",))
    other = context_of("negative")
    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) * 10.0
    for step in range(steps):
        sigma, after = 10.0 * (1 - step / steps) ** 3, 10.0 * (1 - (step + 1) / steps) ** 3
        rows = yield Denoise(KEY, x, sigma, (words, other))
        denoised = rows[:1]
        x = x + (x - denoised) / sigma * (after - sigma)
        yield Report(step + 1, steps, (step + 1) / steps, 0, "denoise", KEY, denoised)
    return x


def run_all(fake: FakeExecutor, sessions: dict[str, Session]) -> Log:
    """Submit all at once and run to the end."""
    log = Log()
    engine = Engine(fake)
    for key, session in sessions.items():
        engine.submit(key, session, log)
    engine.run_until_idle()
    return log
