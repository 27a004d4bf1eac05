"""Words to contexts: AND parts, per-step schedules and the negative prompt, encoded once before a pass."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.engine.calls import EncodeText, ModelKey
from danqing.models.text import TextState
from danqing.pipelines.context import Step
from danqing.prompt.composable import composable_parts
from danqing.prompt.networks import parse_networks
from danqing.prompt.schedule import schedules
from danqing.spec.network import uses_in_text
from danqing.spec.plan import PassPlan, RefinerPlan

Entry = tuple[int, TextState]


@dataclass(frozen=True)
class Conditioning:
    """What the words of one pass say at each step.

    Attributes:
        parts: For each AND part its schedule of (last step, what the model reads).
        weights: Weight of each part.
        negative: Schedule of the negative prompt.
    """

    parts: tuple[tuple[Entry, ...], ...]
    weights: tuple[float, ...]
    negative: tuple[Entry, ...]

    def at(self, step: int) -> tuple[list[TextState], TextState]:
        """What the model reads of the parts and of the negative prompt at a step, counted from 0.

        A1111 compares its step counter, which starts at 0, with the last step of an entry, which counts from 1: the
        first entry lasts one step longer than it says. Kept, so that its pictures come out the same.
        """
        return [_at(part, step) for part in self.parts], _at(self.negative, step)


def _at(schedule: tuple[Entry, ...], step: int) -> TextState:
    return next((state for last, state in schedule if step <= last), schedule[-1][1])


def encode(
    key: ModelKey, planned: PassPlan, base_steps: int | None = None, refiner: RefinerPlan | None = None
) -> Step[Conditioning]:
    """Encode the words of a pass.

    Args:
        key: Whose text encoder.
        planned: The pass, with its words. A schedule counts the steps asked for, as in A1111, also where the strength
            lets fewer run.
        base_steps: Steps of the base pass, when this is a hires pass (fractions then run from 1 to 2).
        refiner: The same words for the refiner, with the networks that fit it.
    """
    text, steps = planned.text, planned.sampling.steps
    loaded = planned if refiner is None else refiner
    first, hires = (steps, None) if base_steps is None else (base_steps, steps)
    positive, _ = parse_networks(text.prompt)
    parts = composable_parts(positive)
    entries = [schedules(part.text, first, hires) for part in parts]
    entries.append(schedules(text.negative_prompt, first, hires))
    texts = tuple(dict.fromkeys(entry for schedule in entries for _, entry in schedule))
    networks = uses_in_text(loaded.networks)
    answers = yield EncodeText(key, texts, text.emphasis, text.clip_skip, networks, loaded.embeddings)
    contexts: dict[str, TextState] = dict(zip(texts, answers, strict=True))
    encoded = [tuple((last, contexts[entry]) for last, entry in schedule) for schedule in entries]
    return Conditioning(tuple(encoded[:-1]), tuple(part.weight for part in parts), encoded[-1])
