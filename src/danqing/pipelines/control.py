"""ControlNet units in a pass: pictures to control maps of its size, and who acts at which step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danqing.engine.calls import ControlInput
from danqing.pipelines import maps, pixels
from danqing.pipelines.context import Context
from danqing.spec.control import INPAINT_ANNOTATOR
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx, SizePx
from danqing.spec.plan import ControlPlan, PassPlan
from danqing.spec.registry.controls import union_id


@dataclass(frozen=True)
class Frame:
    """Which part of the whole picture a pass paints: only-masked inpainting less, an outpaint's canvas more.

    Attributes:
        whole: Size that control pictures and masks are first brought to.
        box: The part; beyond the whole its edges are carried on.
    """

    whole: SizePx
    box: BoxPx


@dataclass(frozen=True)
class Scene:
    """What a pass starts from, for units that follow it.

    Attributes:
        image: RGB at the size of the pass; None where there is only noise.
        mask: "L", what is repainted, at the size of the pass.
        frame: How pictures of the whole are cut for this pass; None takes them whole.
    """

    image: Image.Image | None = None
    mask: Image.Image | None = None
    frame: Frame | None = None


@dataclass(frozen=True)
class PassControl:
    """A unit made ready for one pass.

    Attributes:
        unit: What was planned.
        hint: Its control map in [0, 1], −1 where a hole is, [1, 3, H, W].
        mask: Where it acts, [1, 1, H, W]; None for everywhere.
    """

    unit: ControlPlan
    hint: Tensor
    mask: Tensor | None = None

    def acts_at(self, step: int, steps: int) -> bool:
        """Whether it acts at a step, counted from 0, of `steps`: as in A1111's extension both ends are inside."""
        return self.unit.start <= step / steps <= self.unit.end

    def rows(self, conds: int, unconds: int, perturbed: int) -> ControlInput:
        """What it adds to a Call with rows in this order: prompt parts, negative prompt, perturbed rows."""
        other = 0.0 if self.unit.cond_only else 1.0
        return self.on((1.0,) * conds + (other,) * unconds + (1.0,) * perturbed)

    def on(self, rows: tuple[float, ...]) -> ControlInput:
        """What it adds to a Call where it acts on each row by this factor."""
        return ControlInput(
            net=self.unit.model,
            hint=self.hint,
            weight=self.unit.weight,
            rows=rows,
            fading=self.unit.mode == "prompt",
            mask=self.mask,
            union_id=union_id(self.unit.control_type),
        )


def pass_controls(context: Context, index: int, scene: Scene) -> tuple[PassControl, ...]:
    """The units that act in a pass, with maps of its size.

    Args:
        context: The Plan on its way.
        index: Which pass.
        scene: What the pass starts from.

    Raises:
        MissingWeightsError: An annotator's network is not installed.
    """
    planned = context.plan.passes[index]
    units = [unit for unit in context.plan.controls if acts_in(unit, planned)]
    return tuple(ready(context, unit, planned.size, scene) for unit in units)


def acts_in(unit: ControlPlan, planned: PassPlan) -> bool:
    """Whether a unit has anything to do in a pass."""
    wanted = unit.weight > 0 and unit.passes in ("both", planned.kind)
    return wanted and (planned.kind == "base" or unit.annotator != INPAINT_ANNOTATOR)


def ready(context: Context, unit: ControlPlan, size: SizePx, scene: Scene) -> PassControl:
    """A unit with its map of this size. Errors as `pass_controls`."""
    mask = None if unit.mask is None else _region(context, unit, size, scene.frame)
    if unit.annotator == INPAINT_ANNOTATOR:
        return PassControl(unit, _holes(scene), mask)
    picture = _source(context, unit, size, scene)
    if unit.annotator != "none":
        picture = maps.at_resolution(picture, _resolution_px(unit, picture.size, size))
    found = _annotated(unit, np.asarray(picture), context.plan.seeds.seed)
    fitted = maps.fit(found, size, unit.resize_mode, maps.kind_of(unit.annotator, found))
    hint = torch.from_numpy(fitted.astype(np.float32) / 255.0).permute(2, 0, 1)[None].contiguous()
    return PassControl(unit, hint, mask)


def _resolution_px(unit: ControlPlan, picture: tuple[int, int], size: SizePx) -> int:
    """The shorter side at which the annotator works."""
    if unit.resolution_px is not None:
        return unit.resolution_px
    return maps.pixel_perfect_px(picture, size, unit.resize_mode) if unit.pixel_perfect else min(picture)


def _annotated(unit: ControlPlan, picture: maps.Bytes, seed: int) -> maps.Bytes:
    """The map of a picture [h, w, 3 or 4], [h, w, 3]."""
    if unit.annotator == "none" and picture.shape[2] == 3:
        return picture
    from danqing.annotators import annotate  # annotators bring libraries that most pictures do not need

    return annotate(unit.annotator, picture, dict(unit.params), seed=seed)


def _source(context: Context, unit: ControlPlan, size: SizePx, scene: Scene) -> Image.Image:
    """The picture to annotate, RGB or RGBA; a pass's own picture is already cut."""
    if unit.image is None:
        if scene.image is None:
            raise InvalidRequestError(
                "a control unit has no picture to follow", field="controls.image", next_step="give it a picture"
            )
        return pixels.resize(scene.image, size, "stretch")
    picture = context.pictures.open(unit.image)
    picture = picture.convert(
        "RGBA" if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info else "RGB"
    )
    if scene.frame is None:
        return picture
    whole, box = scene.frame.whole, scene.frame.box
    framed = pixels.resize(picture, whole, unit.resize_mode)
    if box.right_px > whole.width_px or box.bottom_px > whole.height_px:
        return pixels.extend(framed, SizePx(width_px=box.right_px, height_px=box.bottom_px), 0, 0)
    return framed.crop(box.as_tuple())


def _region(context: Context, unit: ControlPlan, size: SizePx, frame: Frame | None) -> Tensor:
    mask = pixels.mask_of(context.pictures.open(str(unit.mask)))
    if frame is None:
        mask = pixels.resize_mask(mask, size, unit.resize_mode)
    else:
        cut = pixels.resize_mask(mask, frame.whole, unit.resize_mode).crop(frame.box.as_tuple())
        mask = pixels.resize_mask(cut, size, "stretch")
    return torch.from_numpy(pixels.as_floats(mask))[None, None]


def _holes(scene: Scene) -> Tensor:
    """The picture with −1 where it is repainted [1, 3, H, W]: what inpainting ControlNets read."""
    if scene.image is None or scene.mask is None:
        raise InvalidRequestError(
            f"{INPAINT_ANNOTATOR} needs a mask",
            field="controls.annotator",
            value=INPAINT_ANNOTATOR,
            next_step="choose another annotator, or repaint a part of a picture",
        )
    picture = (pixels.to_tensor(scene.image) + 1.0) / 2.0
    hole = torch.from_numpy(pixels.as_floats(scene.mask))[None, None] > 0.5
    return torch.where(hole, torch.full_like(picture, -1.0), picture)
