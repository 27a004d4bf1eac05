"""Words to a picture."""

from __future__ import annotations

from torch import Tensor

from danqing.pipelines.context import Context, Step
from danqing.pipelines.passes import Start, run_pass


def txt2img(context: Context) -> Step[Tensor]:
    """Latents [1, c, h, w] of the base pass."""
    return (yield from run_pass(context, 0, Start()))
