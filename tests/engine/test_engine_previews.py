"""Previews that nobody would see cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine_sessions import Log, many_steps
from torch import Tensor

from danqing.engine import Engine, EngineOptions, Previewed
from danqing.engine.calls import ModelCall
from danqing.engine.fake import FakeExecutor


def test_previews_in_between_are_not_even_computed():
    now_s, asked = [0.0], list[int]()

    class Counting(FakeExecutor):
        def preview(self, model: Any, denoised: Tensor, *, decode: bool):
            asked.append(1)
            return super().preview(model, denoised, decode=decode)

    def a_moment_passes(_: Sequence[ModelCall]) -> None:
        now_s[0] += 0.04

    log = Log()
    fake = Counting(on_batch=a_moment_passes)
    engine = Engine(fake, EngineOptions(preview_interval_s=0.1), clock=lambda: now_s[0])
    engine.submit("s", many_steps(1, 10), log)
    engine.run_until_idle()
    assert [event.step for event in log.events if isinstance(event, Previewed)] == [1, 4, 7, 10]
    assert len(asked) == 4
