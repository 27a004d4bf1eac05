"""How a pipeline of diffusers tells of its steps: by a callback, or by its progress bar where it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from danqing.models.families.stepwise import Tick


def steppers(pipeline: Any, taken: set[str], tick: Tick) -> dict[str, Any]:
    """The arguments by which a pipeline tells of its steps; one that has none is listened to at its progress bar."""

    def on_step_end(_: Any, __: int, ___: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        tick()
        return tensors

    def on_step(*_: Any) -> None:
        tick()

    found: dict[str, Any] = {
        name: on_step_end for name in ("callback_on_step_end", "prior_callback_on_step_end") if name in taken
    }
    if "callback_on_step_end" not in found and "callback" in taken:
        found["callback"] = on_step
    if not found:
        pipeline.progress_bar = listening(pipeline.progress_bar, tick)
    return found


def listening(progress_bar: Callable[..., Any], tick: Tick) -> Callable[..., Any]:
    """A pipeline's progress bar that also tells us of each step."""

    def opened(*args: Any, **options: Any) -> Any:
        bar = progress_bar(*args, **options)
        if args and args[0] is not None:
            return _told(bar, tick)
        update = bar.update

        def updated(count: int = 1) -> Any:
            answer = update(count)
            tick()
            return answer

        bar.update = updated
        return bar

    return opened


def _told(bar: Any, tick: Tick) -> Iterator[Any]:
    for item in bar:
        yield item
        tick()
