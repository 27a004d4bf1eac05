"""LEDITS++: diffusers' pipeline as Calls that nothing shares, one for each step."""

from __future__ import annotations

from typing import Any

from PIL import Image

from danqing.engine.calls import Exclusive, Report
from danqing.models.families.ledits import Concept, Ledits, LeditsTask
from danqing.models.families.sd import StableDiffusion
from danqing.models.families.stepwise import Ended, Stepwise
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.prompt.alignment import differences, plain_text, spans_of
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.words_edit import WordsPlan


def ledits(context: Context, asked: WordsPlan) -> Step[Image.Image]:
    """The edited picture, at the size of the pass."""
    planned, init = context.plan.base, context.plan.init
    if init is None:
        raise InvalidRequestError("LEDITS++ edits a picture", field="image", next_step="give it a picture")
    key, steps = context.key(planned.model), planned.sampling.steps
    yield Report(0, steps, context.fraction(0), 0, "load")
    picture = pixels.resize(pixels.flatten(context.pictures.open(init.image)), planned.size, init.resize_mode)
    task = LeditsTask(
        picture=picture,
        source_prompt=plain_text(asked.source_prompt),
        concepts=concepts(asked, planned.text.prompt, planned.guidance_scale),
        steps=steps,
        skip=asked.skip,
        threshold=asked.edit_threshold,
        seed=context.plan.seeds.seed,
        clip_skip=planned.text.clip_skip,
    )
    work = _Work(task)
    name = f"ledits:{key.model.sha256}"
    try:
        yield Exclusive(key, name, work.begin)
        done = 0
        while (ended := (yield Exclusive(key, name, work.advance))) is None:
            done += 1
            yield Report(min(done, 2 * steps), 2 * steps, context.fraction(min(done, 2 * steps - 1)), 0)
    finally:
        work.close()
    context.done_steps += 2 * steps
    return ended.result


def concepts(asked: WordsPlan, prompt: str, scale: float) -> tuple[Concept, ...]:
    """What comes and what goes between two prompts; the whole prompt comes where no source prompt is given.

    Args:
        asked: The source prompt, and the weights of words, which act on what they stand in.
        prompt: The edited prompt.
        scale: How strongly.

    Raises:
        InvalidRequestError: The prompts say the same.
    """
    old, new = plain_text(asked.source_prompt), plain_text(prompt)
    blocks = differences(old, new) if old.strip() else [([], [new.strip()])]
    found: list[Concept] = []
    for gone, come in blocks:
        for words, going in ((gone, True), (come, False)):
            text = " ".join(words)
            if any(sign.isalnum() for sign in text):
                found.append(Concept(text, going, scale * _weight(asked, text)))
    if not found:
        raise InvalidRequestError(
            "source prompt and prompt say the same",
            field="prompt",
            value=prompt[:80],
            allowed="a prompt with other words",
            next_step="say what is to be different",
        )
    return tuple(found)


def _weight(asked: WordsPlan, text: str) -> float:
    weight = 1.0
    for one in asked.weights:
        if spans_of(text, one.word):
            weight *= one.weight
    return weight


class _Work:
    """An edit that goes on when it is told to."""

    def __init__(self, task: LeditsTask) -> None:
        self.task = task
        self._edit: Ledits | None = None
        self._running: Stepwise | None = None

    def begin(self, model: Any) -> None:
        """Make the pipeline ready; nothing is computed yet."""
        if not isinstance(model, StableDiffusion):
            raise UnsupportedError("LEDITS++ does not fit this model", field="technique", value=str(model))
        edit = Ledits(model, self.task)
        self._edit = edit
        self._running = Stepwise(edit.edit, self.task.seed)

    def advance(self, model: Any) -> Ended | None:
        """Go on to the next step; the picture at the end."""
        if self._running is None or self._edit is None:
            self.begin(model)
        if self._running is None or self._edit is None:
            return None
        with self._edit.working():
            return self._running.advance()

    def close(self) -> None:
        """End it where it rests."""
        if self._running is not None:
            self._running.close()
