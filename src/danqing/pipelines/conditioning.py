"""Words to contexts: AND parts, per-step schedules and the negative prompt, encoded once before a pass."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from danqing.engine.calls import EncodeText, ModelKey
from danqing.pipelines.context import Step
from danqing.prompt.composable import composable_parts
from danqing.prompt.networks import parse_networks
from danqing.prompt.schedule import schedules
from danqing.spec.plan import TextPlan

Entry = tuple[int, Tensor]


@dataclass(frozen=True)
class Conditioning:
    """What the words of one pass say at each step.

    Attributes:
        parts: For each AND part its schedule of (last step, context [tokens, width]).
        weights: Weight of each part.
        negative: Schedule of the negative prompt.
    """

    parts: tuple[tuple[Entry, ...], ...]
    weights: tuple[float, ...]
    negative: tuple[Entry, ...]

    def at(self, step: int) -> tuple[list[Tensor], Tensor]:
        """Contexts of the parts and of the negative prompt at a step, counted from 0.

        A1111 compares its step counter, which starts at 0, with the last step of an entry, which counts from 1: the
        first entry lasts one step longer than it says. Kept, so that its pictures come out the same.
        """
        return [_at(part, step) for part in self.parts], _at(self.negative, step)


def _at(schedule: tuple[Entry, ...], step: int) -> Tensor:
    return next((context for last, context in schedule if step <= last), schedule[-1][1])


def encode(key: ModelKey, text: TextPlan, steps: int, base_steps: int | None = None) -> Step[Conditioning]:
    """Encode the words of a pass.

    Args:
        key: Whose text encoder.
        text: The words.
        steps: Steps of this pass.
        base_steps: Steps of the base pass, when this is a hires pass (fractions then run from 1 to 2).
    """
    first, hires = (steps, None) if base_steps is None else (base_steps, steps)
    positive, _ = parse_networks(text.prompt)
    parts = composable_parts(positive)
    planned = [schedules(part.text, first, hires) for part in parts]
    planned.append(schedules(text.negative_prompt, first, hires))
    texts = tuple(dict.fromkeys(entry for schedule in planned for _, entry in schedule))
    answers = yield EncodeText(key, texts, text.emphasis, text.clip_skip)
    contexts: dict[str, Tensor] = dict(zip(texts, answers, strict=True))
    encoded = [tuple((last, contexts[entry]) for last, entry in schedule) for schedule in planned]
    return Conditioning(tuple(encoded[:-1]), tuple(part.weight for part in parts), encoded[-1])
