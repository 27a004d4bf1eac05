"""Image prompts in a pass: pictures to embeddings once before it, and what they say at each step.

Two ways to mix several pictures. `tokens`: each keeps its own image tokens and all stand side by side in one attention,
as IP-Adapter and diffusers have it, so that the picture takes parts from all of them; a picture's share multiplies its
part of the attention. `average`: one embedding between them, as unCLIP blends (Ramesh et al. 2022, arXiv 2204.06125),
so that the picture is something in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from danqing.engine.calls import EmbedImage, ImageInput
from danqing.pipelines import pixels
from danqing.pipelines.context import Context, Step
from danqing.planning.image_prompts import REVISION_FAMILY
from danqing.spec.image_prompt import ImageMix
from danqing.spec.model import ModelRef
from danqing.spec.plan import ImageAdapterPlan, ImagePromptPlan


@dataclass(frozen=True)
class PassImages:
    """The image prompts of a pass, ready for one model.

    Attributes:
        adapter: Which image adapter.
        prompts: What was planned.
        embeddings: Of each of their pictures [n, width].
        mix: How several become one prompt.
    """

    adapter: ModelRef
    prompts: tuple[ImagePromptPlan, ...]
    embeddings: Tensor
    mix: ImageMix

    def at(self, step: int, steps: int, conds: int, unconds: int, perturbed: int) -> ImageInput | None:
        """What they add to a Call with rows in this order: prompt parts, negative prompt, perturbed rows.

        Args:
            step: Counted from 0.
            steps: Of the pass.
            conds: Rows of the prompt's parts, which read the pictures.
            unconds: Rows of the negative prompt, which read the empty picture.
            perturbed: Further rows of the prompt.

        Returns:
            None where none acts at this step.
        """
        acting = self._acting(step, steps)
        if not acting or self.is_revision:
            return None
        weights = [self.prompts[index].weight for index in acting]
        # The strongest sets the strength, so that a second picture at a weight near 0 changes next to nothing.
        strength = max(weights)
        embeddings, shares = self.embeddings[acting], tuple(weight / strength for weight in weights)
        if self.mix == "average":
            embeddings, shares = average(embeddings, shares)[None], (1.0,)
        rows = (True,) * conds + (False,) * unconds + (True,) * perturbed
        return ImageInput(self.adapter, embeddings, shares, strength, rows)

    @property
    def is_revision(self) -> bool:
        """Whether the pictures stand in place of SDXL's pooled text, and not in its attention."""
        return self.adapter.family == REVISION_FAMILY

    def _acting(self, step: int, steps: int) -> list[int]:
        return [index for index, one in enumerate(self.prompts) if one.start <= step / steps <= one.end]

    def pooled(self, text: Tensor, step: int, steps: int) -> Tensor:
        """What SDXL is told in place of a pooled text [width] at a step: at weight 1 the picture alone.

        Several pictures are one vector between them. Below weight 1 the vector lies between text and picture.

        Args:
            text: Pooled.
            step: Counted from 0.
            steps: Of the pass.
        """
        acting = self._acting(step, steps)
        if not acting or not self.is_revision:
            return text
        weights = [self.prompts[index].weight for index in acting]
        picture = average(self.embeddings[acting], weights).to(text)
        return torch.lerp(text, picture, max(weights))


def average(embeddings: Tensor, shares: Sequence[float]) -> Tensor:
    """The weighted mean [width] of embeddings [n, width], as long as they are on average.

    A plain mean of unlike embeddings is shorter than any of them; unCLIP's spherical interpolation keeps the length.
    """
    weights = torch.tensor(shares).to(embeddings) / sum(shares)
    mean = (weights[:, None] * embeddings).sum(dim=0)
    length = (weights * embeddings.norm(dim=1)).sum()
    return mean * (length / mean.norm().clamp_min(1e-12))


def embed(context: Context, adapter: ImageAdapterPlan | None) -> Step[PassImages | None]:
    """Look at the Plan's image prompts with the image tower of an adapter; None where there are none."""
    prompts = context.plan.image_prompts
    if adapter is None or not prompts:
        return None
    found: list[Tensor] = []
    for prompt in prompts:
        picture = np.asarray(pixels.flatten(context.pictures.open(prompt.image)))
        call = EmbedImage(adapter.encoder, prompt.image, torch.from_numpy(picture.copy()))
        found.append(cast("Tensor", (yield call)))
    return PassImages(adapter.model, prompts, torch.stack(found), context.plan.image_mix)
