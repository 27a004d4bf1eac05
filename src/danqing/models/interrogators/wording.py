"""From tags to a prompt, and both to an `Interrogation`. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from danqing.models.backdrop import measure_palette
from danqing.spec.registry.colors import COLORS
from danqing.spec.sight import LANGUAGES, LOCALES, Interrogation, Tag, Wording

# Faces made of characters, whose _ is no space.
_FACES = frozenset(
    {
        *("0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o"),
        *("@_@", "^_^", "o_o", "u_u", "x_x", "|_|", "||_||"),
    }
)


def spoken(tag: str) -> str:
    r"""A tag of Danbooru's as a person writes it in a prompt: spaces, and brackets that do not weigh.

    >>> spoken("hatsune_miku_(append)"), spoken("^_^")
    ('hatsune miku \\(append\\)', '^_^')
    """
    words = tag if tag in _FACES else tag.replace("_", " ")
    for bracket in "()[]":
        words = words.replace(bracket, "\\" + bracket)
    return words


def interrogation(
    key: str, picture: Image.Image, caption: str, tags: Sequence[Tag], model: str, rating: str | None = None
) -> Interrogation:
    """What an English-speaking network said; every language gets its words, and the colours are measured.

    Args:
        key: The interrogator's.
        picture: What it looked at.
        caption: The prompt.
        tags: Best first.
        model: Content hash of its weights.
        rating: Of a WD tagger.
    """
    palette = measure_palette(picture)
    label = tags[0].text if tags else caption
    words = {
        language: Wording(
            caption=caption,
            label=label,
            tags=tuple(tags),
            colors=tuple(COLORS[color.key].name(LOCALES[language]) for color in palette.colors),
        )
        for language in LANGUAGES
    }
    return Interrogation(
        words=words,
        score=tags[0].score if tags else 0.0,
        colors=palette.colors,
        background=palette.background,
        model=model,
        interrogator=key,
        rating=rating,
    )
