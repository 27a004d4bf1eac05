"""What is seen in pictures: tags, colours and a caption in three languages, and what a search finds."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from danqing.spec.base import Data
from danqing.spec.record import Record

Language = Literal["en", "zh-Hans", "zh-Hant"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
LOCALES: dict[Language, str] = {"en": "en", "zh-Hans": "zh", "zh-Hant": "zh-hant"}
"""The keys of vocabulary.json and of `spec.registry.colors` for each language."""

Probability = Field(ge=0, le=1, description="that these words belong to this picture, as mini-CLIP was trained to say")


class Tag(Data):
    """A word for what is in a picture."""

    text: str
    score: float = Probability
    kind: str = Field(default="", description="`general` or `character` in a tagger's list; empty for others")


class ColorShare(Data):
    """A colour and how much of the picture (or of its subject) has it, measured from the pixels."""

    key: str = Field(description="the English name, a key of spec.registry.colors")
    share: float = Field(ge=0, le=1)


class Background(Data):
    """What lies around the subject, measured from a frame at the picture's edge.

    Attributes:
        kind: `plain` (one colour), `gradient` (from one to another), `transparent`, or `busy` (anything else; it is
            not named in the caption).
        colors: The colour of a plain one; of a gradient the two, from the top or the left.
    """

    kind: Literal["plain", "gradient", "transparent", "busy"]
    colors: tuple[str, ...] = Field(default=(), max_length=2, description="keys of spec.registry.colors")


class Wording(Data):
    """One language's words for a picture.

    Attributes:
        caption: Label, style, colour and background as one line that can be used as a prompt.
        label: The best name of the subject.
        tags: Words for it, best first; the label is not repeated.
        style: The style word, or "" where no style is likely.
        colors: The names of `Interrogation.colors`.
        background: The background's words, or "".
    """

    caption: str
    label: str
    tags: tuple[Tag, ...] = ()
    style: str = ""
    colors: tuple[str, ...] = ()
    background: str = ""


class Interrogation(Data):
    """What a picture shows."""

    words: dict[Language, Wording]
    concept: str = Field(
        default="", description="hexcode of the built-in's best vocabulary entry: the same in every language"
    )
    score: float = Probability
    style: str | None = Field(default=None, description="a key of spec.registry.picture_styles")
    style_score: float = Field(default=0.0, ge=0, le=1, description="share of this style among all known ones")
    colors: tuple[ColorShare, ...] = Field(default=(), description="of the subject, largest first")
    background: Background
    model: str = Field(description="content hash of the network that looked")
    interrogator: str = Field(default="builtin", description="who looked: a key of spec.registry.interrogators")
    rating: str | None = Field(default=None, description="how fit for whom a WD tagger holds it: general … explicit")

    def wording(self, language: Language) -> Wording:
        """The words in one language."""
        return self.words[language]


class Found(Data):
    """A Record that a search by look found."""

    record: Record
    score: float = Field(ge=-1, le=1, description="cosine between the query and the picture; 1 is the same direction")
