"""Changing a picture by changing its words: replace, refine, reweight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from danqing.spec.base import Data, PictureRef
from danqing.spec.painting import PaintRequest, PromptText

MAX_WORD_WEIGHTS = 32
MAX_LOCAL_WORDS = 16
WordText = Annotated[str, Field(min_length=1, max_length=256)]
WordsMethod = Literal["prompt_to_prompt", "ledits"]
Inversion = Literal["direct", "ddim", "null_text", "negative_prompt"]
Alignment = Literal["replace", "refine"]


class WordWeight(Data):
    """How much a word of the new prompt counts."""

    word: WordText = Field(description="a word of the prompt, or several that stand beside each other")
    weight: float = Field(ge=-10, le=10, description="1 as it is, above 1 more, 0 not at all, below 0 away from it")


class LocalWords(Data):
    """Where the picture may change: where it shows these words."""

    source: WordText = Field(description="a word of the source prompt")
    target: WordText = Field(description="the word of the prompt that stands for the same thing")


class WordsPlan(Data):
    """How the words of a picture are changed, with every default filled in."""

    source_prompt: str
    technique: WordsMethod = "prompt_to_prompt"
    inversion: Inversion | None = Field(default=None, description="None paints the source anew from its seed")
    alignment: Alignment = "refine"
    weights: tuple[WordWeight, ...] = ()
    cross_share: float = Field(default=0.4, ge=0, le=1)
    self_share: float = Field(default=0.6, ge=0, le=1)
    local: tuple[LocalWords, ...] = ()
    local_threshold: float = Field(default=0.3, gt=0, lt=1)
    edit_threshold: float = Field(default=0.9, gt=0, lt=1)
    skip: float = Field(default=0.15, ge=0, lt=1)


class WordsRequest(PaintRequest):
    """Change a picture by changing its words.

    Without a picture, what the source prompt paints from the seed is changed. With one that Danqing painted from words
    alone, prompt, model, seed and sampling are taken from its Plan and it is painted anew beside the change; any other
    picture is inverted into noise first.
    """

    kind: Literal["words"] = "words"
    image: PictureRef | None = Field(default=None, description="what the source prompt paints from the seed if unset")
    source_prompt: PromptText = Field(
        default="", description="what the picture shows now; may be left out where the picture's own Plan says it"
    )
    technique: WordsMethod = Field(default="prompt_to_prompt", description="`ledits` is LEDITS++, through diffusers")
    inversion: Inversion | None = Field(
        default=None,
        description="how a picture becomes noise; unset, it is painted anew where its Plan says how, else `direct`",
    )
    alignment: Alignment | None = Field(
        default=None,
        description="`replace` exchanges words one for one, `refine` keeps the common ones; what fits if unset",
    )
    weights: tuple[WordWeight, ...] = Field(
        default=(), max_length=MAX_WORD_WEIGHTS, description="how much words of the prompt count"
    )
    cross_share: float = Field(
        default=0.4, ge=0, le=1, description="share of the steps in which words act where they acted in the source"
    )
    self_share: float = Field(default=0.6, ge=0, le=1, description="share of the steps that keep the source's layout")
    local: tuple[LocalWords, ...] = Field(
        default=(), max_length=MAX_LOCAL_WORDS, description="change the picture only where it shows these words"
    )
    local_threshold: float = Field(
        default=0.3, gt=0, lt=1, description="of the strongest attention; lower changes a larger part"
    )
    edit_threshold: float = Field(
        default=0.9, gt=0, lt=1, description="LEDITS++: share of the picture that each word leaves alone"
    )
    skip: float = Field(default=0.15, ge=0, lt=1, description="LEDITS++: share of the noisiest steps left out")
