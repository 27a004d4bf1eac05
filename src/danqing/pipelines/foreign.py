"""A pass that a pipeline of diffusers paints as a whole: Calls that nothing shares, one for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from danqing.engine.calls import Exclusive, ModelKey, Report
from danqing.models.families.foreign import ForeignModel
from danqing.models.families.foreign_call import ForeignTask, Weighted, paint
from danqing.models.families.stepwise import Ended, Stepwise
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step, steps_of
from danqing.prompt.plain import plain_parts
from danqing.spec.errors import UnsupportedError
from danqing.spec.plan import PassPlan
from danqing.spec.registry.foreign import find_foreign


@dataclass(frozen=True)
class Given:
    """The pictures that a pass begins with.

    Attributes:
        image: What it paints over, at the size of the pass; any size for a pipeline that enlarges.
        mask: "L", 255 is repainted.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None


def foreign_pass(context: Context, index: int, given: Given | None = None) -> Step[Image.Image]:
    """Run a pass by the pipeline that its model brings, and return its picture.

    The pipeline rests after every step, so that other Sessions get their turn and a cancelled one stops there.

    Args:
        context: The Plan on its way.
        index: Which pass of the Plan.
        given: What it begins with; nothing for a pass from words alone.
    """
    planned = context.plan.passes[index]
    key, steps = context.key(planned.model), steps_of(planned)
    yield Report(0, steps, context.fraction(0), index, "load")
    work = _Work(context, planned, given or Given())
    try:
        yield Exclusive(key, _name(key), work.begin)
        done = 0
        while (ended := (yield Exclusive(key, _name(key), work.advance))) is None:
            # Priors come before the steps that are counted; they show as a beginning that takes longer.
            done = min(done + 1, steps)
            yield Report(done, steps, context.fraction(min(done, steps - 1)), index)
    finally:
        work.close()
    context.done_steps += steps
    # Some pipelines paint sizes of their own near the one that was asked for.
    return pixels.resize(ended.result, planned.size, "stretch")


class _Work:
    """A pipeline on its way to a picture."""

    def __init__(self, context: Context, planned: PassPlan, given: Given) -> None:
        self.context = context
        self.planned = planned
        self.given = given
        self._running: Stepwise | None = None

    def begin(self, model: Any) -> None:
        """Make the pipeline ready; nothing is computed yet."""
        if not isinstance(model, ForeignModel):
            raise UnsupportedError("this model has no pipeline of its own", field="model", value=str(model))
        task = _task(model, self.context, self.planned, self.given)
        self._running = Stepwise(lambda tick: paint(model, task, tick), task.seed)

    def advance(self, model: Any) -> Ended | None:
        """Go on to the next step; the picture at the end."""
        if self._running is None:
            self.begin(model)
        return None if self._running is None else self._running.advance()

    def close(self) -> None:
        """End it where it rests."""
        if self._running is not None:
            self._running.close()


def _name(key: ModelKey) -> str:
    return f"pipeline:{key.model.sha256}"


def _task(model: ForeignModel, context: Context, planned: PassPlan, given: Given) -> ForeignTask:
    plan, parts = context.plan, model.info.foreign
    known = None if parts is None else find_foreign(parts.index)
    if parts is None or known is None or planned.pipeline is None:
        raise UnsupportedError("this plan names no pipeline", field="model", value=planned.model.name)
    texts = tuple(Weighted(part.text, part.weight) for part in plain_parts(planned.text.prompt))
    prompts = plan.image_prompts if planned.kind == "base" else ()
    opened = [(pixels.flatten(context.pictures.open(one.image)), one.weight) for one in prompts]
    return ForeignTask(
        known=known,
        pipeline=planned.pipeline,
        texts=texts,
        negative_prompt=plain_parts(planned.text.negative_prompt)[0].text,
        size=planned.size,
        steps=planned.sampling.steps,
        guidance_scale=planned.guidance_scale,
        distilled=planned.guidance.distilled,
        seed=plan.seeds.seed,
        noise_device=model.device.type if plan.seeds.source == "gpu" else "cpu",
        strength=planned.strength,
        image=given.image,
        mask=given.mask,
        images=tuple(Weighted(picture, weight) for picture, weight in opened),
        extra=parts.call,
    )
