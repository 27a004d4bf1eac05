"""How a picture's caption varies from step to step: left-out and shuffled tags, steps without words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danqing.sets.captions import join_tags, tags_of
from danqing.spec.training_methods import DiffusionRequest


@dataclass(frozen=True)
class CaptionRules:
    """How captions vary from step to step; the fields are the Request's.

    Attributes:
        dropped: What stands in the place of a caption that is left out: the word that is learnt, where there is one.
    """

    caption_dropout: float = 0.0
    tag_dropout: float = 0.0
    shuffle_tags: bool = False
    keep_tags: int = 1
    dropped: str = ""

    @classmethod
    def of(cls, request: DiffusionRequest) -> CaptionRules:
        """The Request's."""
        return cls(request.caption_dropout, request.tag_dropout, request.shuffle_tags, request.keep_tags)


def varied(caption: str, rules: CaptionRules, rng: np.random.Generator) -> str:
    """The caption of one showing."""
    if rules.caption_dropout > 0 and rng.random() < rules.caption_dropout:
        return rules.dropped
    if rules.tag_dropout <= 0 and not rules.shuffle_tags:
        return caption
    tags = tags_of(caption)
    kept, loose = tags[: rules.keep_tags], tags[rules.keep_tags :]
    if rules.tag_dropout > 0:
        loose = [tag for tag in loose if rng.random() >= rules.tag_dropout]
    if rules.shuffle_tags:
        loose = [loose[int(i)] for i in rng.permutation(len(loose))]
    return join_tags([*kept, *loose])
