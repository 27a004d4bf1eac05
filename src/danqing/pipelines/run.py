"""A Plan to a Session: the base pass of its kind, then its hires passes, then the picture."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from danqing.engine.calls import Decode, Report, Session
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Pictures, Step, steps_of
from danqing.pipelines.hires import hires
from danqing.pipelines.img2img import img2img, init_of
from danqing.pipelines.inpaint import inpaint
from danqing.pipelines.outpaint import outpaint
from danqing.pipelines.txt2img import txt2img
from danqing.spec.plan import PassPlan, Plan
from danqing.spec.registry.samplers import find_sampler

_BASE = {"txt2img": txt2img, "img2img": img2img, "inpaint": inpaint, "outpaint": outpaint}


def paint(plan: Plan, pictures: Pictures) -> Session:
    """The Session of a Plan; it returns one Pillow picture (RGB).

    Args:
        plan: What to paint.
        pictures: Where its input pictures are.
    """
    context = Context(plan, pictures, total_steps=sum(steps_of(planned) for planned in plan.passes))
    return _paint(context)


def _paint(context: Context) -> Step[Image.Image]:
    plan = context.plan
    result: Tensor | Image.Image = yield from _BASE[plan.kind](context)
    for index in range(1, len(plan.passes)):
        result = yield from hires(context, index, result)
    last = len(plan.passes) - 1
    steps = plan.passes[-1].sampling.steps
    if isinstance(result, Tensor):
        yield Report(steps, steps, 1.0, last, "decode")
        result = pixels.to_image((yield Decode(context.key(plan.passes[-1].model), result)))
    # Inpainting and outpainting correct only what they paint.
    if plan.kind == "img2img" and plan.init is not None and plan.init.colour_correction:
        result = pixels.match_colours(result, pixels.flatten(context.pictures.open(init_of(context).image)))
    return result


def expected_calls(plan: Plan) -> float:
    """How many model calls a Plan will take, for shortest-remaining-first scheduling and estimates of time."""
    per_pass = (steps_of(planned) * _order(planned) for planned in plan.passes)
    return float(sum(per_pass) + 4 * len(plan.passes))


def _order(planned: PassPlan) -> int:
    """Model calls of a step."""
    return 1 if planned.pipeline is not None else find_sampler(planned.sampling.sampler).order
