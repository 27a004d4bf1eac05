"""Sessions small enough to follow by hand, and a sink that remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import Denoise, EncodeText, ModelKey, Report, Session
from danqing.engine.fake import FakeExecutor, context_of
from danqing.pipelines.txt2img import txt2img
from danqing.spec.errors import CancelledError
from danqing.spec.model import ModelRef
from danqing.spec.plan import Plan
from easel import Easel, into

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
        rows = yield Denoise(KEY, x, sigma, (words.states, other))
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


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest value beyond 1: untrained latents are far from unit size."""
    return float((a - b).abs().max() / max(1.0, float(b.abs().max())))


def check_arrivals(
    easel: Easel, plans: Sequence[Plan], lone: Sequence[torch.Tensor], data: st.DataObject, tolerance: float
) -> None:
    """Five of the plans arrive in a drawn order, one is cancelled on the way; the others end as they do alone."""
    order = data.draw(st.permutations(range(len(plans))), label="order")[:5]
    delays = data.draw(st.lists(st.integers(0, 4), min_size=5, max_size=5), label="ticks between arrivals")
    gone = data.draw(st.sampled_from(order), label="cancelled")
    after = data.draw(st.integers(0, 6), label="ticks until then")
    engine = Engine(easel.executor, EngineOptions(preview_every=0))
    ended: dict[str, Finished] = {}
    for index, delay in zip(order, delays, strict=True):
        engine.submit(str(index), txt2img(easel.context(plans[index])), into(ended))
        for _ in range(delay):
            engine.tick()
    for _ in range(after):
        engine.tick()
    cancelled = engine.cancel(str(gone))
    engine.run_until_idle()
    for index in order:
        if cancelled and index == gone:
            assert isinstance(ended[str(index)].error, CancelledError)
        else:
            assert distance(ended[str(index)].result, lone[index]) <= tolerance, index
