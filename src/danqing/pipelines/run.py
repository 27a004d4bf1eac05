"""A Plan to a Session: the base pass of its kind, then its hires passes, then the picture."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, Report, Session
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Pictures, Step, steps_of
from danqing.pipelines.drag import drag
from danqing.pipelines.drag_quality import calls_of
from danqing.pipelines.hires import hires
from danqing.pipelines.img2img import img2img, init_of
from danqing.pipelines.inpaint import inpaint
from danqing.pipelines.outpaint import outpaint
from danqing.pipelines.retouch import retouch
from danqing.pipelines.retouch_part import Part
from danqing.pipelines.txt2img import txt2img
from danqing.pipelines.words_edit import extra_steps, words_edit
from danqing.spec.plan import PassPlan, Plan
from danqing.spec.registry.samplers import find_sampler

PAINTING_SHARE = 0.6
"""Of the progress, where a painting is retouched after its last pass."""
_BASE = {
    "txt2img": txt2img,
    "img2img": img2img,
    "inpaint": inpaint,
    "outpaint": outpaint,
    "drag": drag,
    "words": words_edit,
}


def paint(plan: Plan, pictures: Pictures) -> Session:
    """The Session of a Plan; it returns one Pillow picture (RGB).

    Args:
        plan: What to paint.
        pictures: Where its input pictures are.
    """
    if plan.kind == "retouch":
        return _retouch(Context(plan, pictures, total_steps=1))
    painting = Context(plan, pictures, total_steps=_steps(plan))
    return _paint(painting) if plan.retouch is None else _finished(painting)


def _retouch(context: Context) -> Step[Image.Image]:
    """The steps of a retouch, on the picture that it starts from."""
    return (yield from retouch(context, context.pictures.open(init_of(context).image)))


def _finished(context: Context) -> Step[Image.Image]:
    """A painting, and what is done to it after its last pass."""
    part = Part(context.plan, context.pictures, context.total_steps, begin=0.0, width=PAINTING_SHARE)
    painted = yield from _paint(part)
    return (yield from retouch(context, painted, PAINTING_SHARE))


def _paint(context: Context) -> Step[Image.Image]:
    plan = context.plan
    result: Tensor | Image.Image = yield from _BASE[plan.kind](context)
    passes = plan.painting
    for index in range(1, len(passes)):
        result = yield from hires(context, index, result)
    last = len(passes) - 1
    steps = passes[-1].sampling.steps
    if isinstance(result, Tensor):
        yield Report(steps, steps, context.fraction(context.total_steps), last, "decode")
        result = pixels.to_image((yield Decode(context.key(passes[-1].model), result)))
    # Inpainting and outpainting correct only what they paint.
    if plan.kind == "img2img" and plan.init is not None and plan.init.colour_correction:
        result = pixels.match_colours(result, pixels.flatten(context.pictures.open(init_of(context).image)))
    return result


def expected_calls(plan: Plan) -> float:
    """How many model calls a Plan will take, for shortest-remaining-first scheduling and estimates of time."""
    if plan.drag is not None and plan.drag.mode == "quality":
        return float(calls_of(plan.drag, steps_of(plan.base)) + 4 * len(plan.passes))
    run = plan.passes[1:] if plan.kind == "retouch" else plan.passes
    per_pass = (steps_of(planned) * _order(planned) for planned in run)
    return float(sum(per_pass) + extra_steps(plan.words) * steps_of(plan.base) + 4 * len(plan.passes))


def _steps(plan: Plan) -> int:
    """Steps of all passes, and of what they do before."""
    return sum(steps_of(planned) for planned in plan.painting) + extra_steps(plan.words) * steps_of(plan.base)


def _order(planned: PassPlan) -> int:
    """Model calls of a step."""
    return 1 if planned.pipeline is not None else find_sampler(planned.sampling.sampler).order
