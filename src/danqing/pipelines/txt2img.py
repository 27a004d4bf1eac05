"""Words to a picture."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from danqing.pipelines.context import Context, Step
from danqing.pipelines.foreign import foreign_pass
from danqing.pipelines.passes import Start, run_pass


def txt2img(context: Context) -> Step[Tensor | Image.Image]:
    """Latents [1, c, h, w] of the base pass; the picture where a pipeline paints it as a whole."""
    if context.plan.base.pipeline is not None:
        return (yield from foreign_pass(context, 0))
    return (yield from run_pass(context, 0, Start()))
