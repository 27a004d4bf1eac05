"""Extend a picture on any side: a larger canvas, the new sides masked, the seam feathered."""

from __future__ import annotations

import numpy as np
from PIL import Image

from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Frame
from danqing.pipelines.img2img import init_of
from danqing.pipelines.inpaint import Repaint, repaint
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx, SizePx
from danqing.spec.plan import OutpaintPlan


def outpaint(context: Context) -> Step[Image.Image]:
    """The extended picture; the old part keeps its pixels outside the feather."""
    planned = context.plan.outpaint
    if planned is None:
        raise InvalidRequestError("this plan has no margins", field="margins", next_step="extend at least one side")
    original = pixels.flatten(context.pictures.open(init_of(context).image))
    size = context.plan.base.size
    margins = planned.margins
    canvas = pixels.extend(original, size, margins.left_px, margins.top_px)
    # The canvas was rounded up to what the model can paint; the surplus goes.
    width = original.width + margins.left_px + margins.right_px
    height = original.height + margins.top_px + margins.bottom_px
    mask = feathered_mask((original.width, original.height), size, planned)
    # A control picture shows the whole extended picture, without the surplus.
    box = BoxPx(left_px=0, top_px=0, right_px=size.width_px, bottom_px=size.height_px)
    frame = Frame(SizePx(width_px=width, height_px=height), box)
    work = Repaint(canvas, mask, planned.fill, frame=frame)
    painted = yield from repaint(context, work)
    whole = Image.composite(painted.image, canvas, painted.shown)
    return whole.crop((0, 0, width, height))


def feathered_mask(inner: tuple[int, int], size: SizePx, planned: OutpaintPlan) -> Image.Image:
    """255 on the new sides, falling to 0 over `feather_px` inside the old picture, only on sides that grow.

    Args:
        inner: Width and height of the old picture.
        size: Size of the canvas.
        planned: Margins and feather.
    """
    margins = planned.margins
    horizontal = _ramp(inner[0], (margins.left_px, margins.right_px), size.width_px, planned.feather_px)
    vertical = _ramp(inner[1], (margins.top_px, margins.bottom_px), size.height_px, planned.feather_px)
    mask = np.maximum(horizontal[None, :], vertical[:, None])
    return Image.fromarray((mask * 255).round().astype(np.uint8))


def _ramp(inner: int, grown: tuple[int, int], total: int, feather: int) -> pixels.Floats:
    """1 outside the old picture, 0 inside, with a linear ramp inside each side that grew."""
    before, after = grown
    position = np.arange(total, dtype=np.float32)
    mask = ((position < before) | (position >= before + inner)).astype(np.float32)
    width = min(feather, inner // 2)
    if width > 0 and before > 0:
        mask = np.maximum(mask, np.clip(1.0 - (position - before + 1) / (width + 1), 0.0, 1.0))
    if width > 0 and after > 0:
        mask = np.maximum(mask, np.clip(1.0 - (before + inner - position) / (width + 1), 0.0, 1.0))
    return mask.astype(np.float32)
