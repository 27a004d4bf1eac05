"""Retouching: the steps of a plan done to a picture, one after the other. What no step touches stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from danqing.engine.calls import Report, Work
from danqing.enhance import cutout, faces
from danqing.enhance.bench import Bench
from danqing.enhance.detailer import masks_of
from danqing.enhance.faces import FaceRestorer
from danqing.pipelines import detecting, pixels
from danqing.pipelines.context import Context, Step, steps_of
from danqing.pipelines.inpaint import repaint_part
from danqing.pipelines.retouch_part import Part, sub_plan
from danqing.pipelines.retouch_upscale import upscaled
from danqing.spec.plan import MaskPlan
from danqing.spec.retouch_steps import CutoutStep, DetailStep, RestoreFacesStep, RetouchStepPlan

_STEP_SHARE = {"detail": 1.0, "restore_faces": 0.3, "upscale": 0.5, "cutout": 0.1}
"""How long a step takes beside the others, for progress; a tiled one counts as a detail for each tile."""


def retouch(context: Context, picture: Image.Image, begin: float = 0.0) -> Step[Image.Image]:
    """A picture with every step of the Plan done to it, RGB, or RGBA where it has transparent parts.

    Args:
        context: A Plan with a retouch.
        picture: What to start from, of any mode.
        begin: Share of the whole work that is done before.
    """
    planned = context.plan.retouch
    picture = _rgb_or_rgba(picture)
    steps = () if planned is None else planned.steps
    weights = [_weight(one) for one in steps]
    for place, step in enumerate(steps):
        share = (1.0 - begin) / sum(weights)
        part = Part(context.plan, context.pictures, 1, 0, begin + share * sum(weights[:place]), share * weights[place])
        yield Report(place, len(steps), part.fraction(0), stage="denoise")
        picture = yield from _step(part, step, picture)
    return picture


def _weight(planned: RetouchStepPlan) -> float:
    return _STEP_SHARE[planned.step.kind] + (3.0 if planned.step.kind == "upscale" and planned.passes else 0.0)


def _step(part: Part, planned: RetouchStepPlan, picture: Image.Image) -> Step[Image.Image]:
    step = planned.step
    if isinstance(step, DetailStep):
        return _with_alpha((yield from detail(part, planned, picture.convert("RGB"))), picture)
    if isinstance(step, RestoreFacesStep):
        return _with_alpha((yield from restore_faces(part, planned, picture.convert("RGB"))), picture)
    if isinstance(step, CutoutStep):
        return (yield from cut_out(step, picture))
    return (yield from upscaled(part, planned, picture))


def detail(part: Part, planned: RetouchStepPlan, picture: Image.Image) -> Step[Image.Image]:
    """The picture with each thing that was found painted again and pasted back; RGB."""
    step = planned.step
    if not isinstance(step, DetailStep) or step.strength == 0:
        return picture
    seen = picture
    things = yield Work(
        f"detect {planned.tool}", lambda bench: detecting.find_things(seen, planned, step.confidence, bench)
    )
    masks = masks_of(things, step, picture.size)
    for place, mask in enumerate(masks):
        index = planned.passes[min(place, len(planned.passes) - 1)]
        soft = pixels.blur(mask, step.blur_px)
        if index is None or soft.getbbox() is None:
            continue
        own = sub_plan(part.plan, part.plan.passes[index], place)
        inner = replace(part.inner(place, len(masks)), plan=own, total_steps=steps_of(own.base))
        picture = yield from repaint_part(inner, picture, soft, _mask_plan(step))
    return picture


def _mask_plan(step: DetailStep) -> MaskPlan:
    # The mask is at hand: what a Plan would name it by is not asked for.
    return MaskPlan(mask="0" * 64, blur_px=0, only_masked=True, padding_px=step.padding_px)


def restore_faces(part: Part, planned: RetouchStepPlan, picture: Image.Image) -> Step[Image.Image]:
    """The picture with every face restored; RGB."""
    step, file = planned.step, planned.file
    if not isinstance(step, RestoreFacesStep) or file is None:
        return picture
    seen = picture
    found = yield Work("detect faces", lambda _bench: detecting.face_points(seen, step.confidence))
    rgb = np.asarray(picture)
    chosen = found if step.max_count is None else found[: step.max_count]

    def work(bench: Bench, before: faces.Bytes, points: faces.Floats) -> faces.Bytes:
        restorer = bench.kept(file.sha256, lambda: FaceRestorer(bench.path_of(file), bench.device))
        return faces.restored(before, points, restorer, fidelity=step.fidelity, visibility=step.visibility)

    for place, points in enumerate(chosen):
        yield Report(place, len(chosen), part.inner(place, len(chosen)).fraction(0), stage="denoise")
        rgb = yield Work("restore a face", lambda bench, rgb=rgb, points=points: work(bench, rgb, points))
    return Image.fromarray(rgb)


def cut_out(step: CutoutStep, picture: Image.Image) -> Step[Image.Image]:
    """The picture with its background transparent, RGBA, or before another colour, RGB."""
    flat = pixels.flatten(picture)

    def work(_bench: Bench) -> Image.Image:
        alpha = cutout.grown_alpha(detecting.subject_alpha(flat, step.method), step.grow_px)
        if "A" in picture.getbands():
            alpha = alpha * (np.asarray(picture.getchannel("A"), np.float32) / np.float32(255))
        return Image.fromarray(cutout.cut_out(np.asarray(flat), alpha))

    cut: Image.Image = yield Work("cut out", work)
    box = cut.getchannel("A").getbbox() if step.trim else None
    if box is not None:
        cut = cut.crop(box)
    if step.background is None:
        return cut
    ground = Image.new("RGBA", cut.size, step.background)
    return Image.alpha_composite(ground, cut).convert("RGB")


def _rgb_or_rgba(picture: Image.Image) -> Image.Image:
    clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    return picture.convert("RGBA" if clear else "RGB")


def _with_alpha(changed: Image.Image, before: Image.Image) -> Image.Image:
    """The changed colours with the transparency that the picture had."""
    if "A" not in before.getbands():
        return changed
    return Image.merge("RGBA", (*changed.split(), before.getchannel("A")))
