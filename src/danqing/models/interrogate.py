"""Picture to words: ranked tags, style, measured colours and background, and a caption that is a prompt. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from danqing.models.backdrop import Palette, measure_palette
from danqing.models.vocabulary import Concept
from danqing.models.word_vectors import WordVectors
from danqing.spec.registry.colors import COLORS
from danqing.spec.registry.picture_styles import PICTURE_STYLES, PictureStyle
from danqing.spec.sight import LANGUAGES, LOCALES, ColorShare, Interrogation, Language, Tag, Wording
from danqing.store.vectors import Vectors, unit

DEFAULT_TAGS = 12
_SHORTLIST = 64  # concepts looked at in every language
_TAG_SOURCES = 16  # concepts whose words may be tags
_STYLE_LEAST = 0.4
_COLOR_LEAST = 0.4
_VOWELS = "aeiou"
# Transparent, one colour, two: in the words of the training's captions.
_BACKGROUNDS = {
    "en": ("transparent background", "{0} background", "{0} to {1} gradient background"),
    "zh": ("透明背景", "{0}背景", "{0}到{1}渐变背景"),
    "zh-hant": ("透明背景", "{0}背景", "{0}到{1}漸變背景"),
}


class Eye(Protocol):
    """What is needed of mini-CLIP."""

    @property
    def sha256(self) -> str:
        """Which one it is."""
        ...

    def embed_images(self, pictures: Sequence[Any], /) -> Vectors:
        """Unit vectors `[n, dim]`."""
        ...

    def logits(self, images: Vectors, texts: Vectors, /) -> Vectors:
        """Scale · cosine + bias, `[n, m]`."""
        ...

    def scores(self, images: Vectors, texts: Vectors, /) -> Vectors:
        """Probabilities `[n, m]`: σ of the logits."""
        ...


class Interrogator:
    """Names what a picture shows.

    English labels choose a shortlist of concepts; their labels in all three languages together rank it, so that every
    language names the same thing. A tag counts by its own likeness and by that of the concept it comes from.

    Args:
        eye: mini-CLIP.
        concepts: Its vocabulary.
        words: Embeddings of words under that mini-CLIP.
        styles: The styles it knows.
    """

    def __init__(
        self,
        eye: Eye,
        concepts: Sequence[Concept],
        words: WordVectors,
        styles: Sequence[PictureStyle] = tuple(PICTURE_STYLES.values()),
    ) -> None:
        self._eye = eye
        self._concepts = concepts
        self._words = words
        self._styles = styles

    def look(self, picture: Image.Image, tags: int = DEFAULT_TAGS) -> Interrogation:
        """What this picture shows, with at most so many tags in each language."""
        vector = self._eye.embed_images([picture])
        ranked, cosines = self._rank(vector)
        best = self._concepts[ranked[0]]
        meant = self._meaning([best])
        style, style_score = self._style(vector, best)
        palette = measure_palette(picture)
        likely = style if style_score >= _STYLE_LEAST else None
        words: dict[Language, Wording] = {}
        for language in LANGUAGES:
            found = self._tags(vector, [(self._concepts[i], c) for i, c in zip(ranked, cosines, strict=True)], language)
            words[language] = wording(best, likely, palette, language, tuple(found[:tags]))
        return Interrogation(
            words=words,
            concept=best.hexcode,
            score=float(self._eye.scores(vector, meant)[0, 0]),
            style=likely.key if likely else None,
            style_score=style_score,
            colors=palette.colors,
            background=palette.background,
            model=self._eye.sha256,
        )

    def _rank(self, vector: Vectors) -> tuple[list[int], list[float]]:
        english = self._words.get([concept.label("en") for concept in self._concepts])
        short = np.argsort(-(english @ vector[0]), kind="stable")[:_SHORTLIST]
        cosines = self._meaning([self._concepts[i] for i in short]) @ vector[0]
        order = np.argsort(-cosines, kind="stable")[:_TAG_SOURCES]
        return [int(short[i]) for i in order], [float(cosines[i]) for i in order]

    def _meaning(self, concepts: Sequence[Concept]) -> Vectors:
        """One unit vector for each concept `[n, dim]`: the middle of its labels in every language."""
        total = sum(self._words.get([concept.label(locale) for concept in concepts]) for locale in LOCALES.values())
        return unit(np.asarray(total, np.float32))

    def _style(self, vector: Vectors, concept: Concept) -> tuple[PictureStyle | None, float]:
        """The likeliest style, and its share of all styles' likelihood."""
        if not self._styles:
            return None, 0.0
        by_locale = [
            self._words.get([_joined(locale, [concept.label(locale), style.name(locale)]) for style in self._styles])
            for locale in LOCALES.values()
        ]
        logits = self._eye.logits(vector, unit(np.sum(by_locale, axis=0, dtype=np.float32)))[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        place = int(shares.argmax())
        return self._styles[place], float(min(1.0, shares[place]))

    def _tags(self, vector: Vectors, sources: list[tuple[Concept, float]], language: Language) -> list[Tag]:
        """The words of these concepts (with their cosines), best first, without the first one's label."""
        locale = LOCALES[language]
        support: dict[str, float] = {}
        for concept, cosine in sources:
            for word in concept.words[locale]:
                support.setdefault(word, cosine)
        support.pop(sources[0][0].label(locale))
        if not support:
            return []
        texts = list(support)
        own = self._words.get(texts)
        # The mean of the two cosines, as a vector's, so that `scores` can say it as a probability.
        mixed = (own @ vector[0] + np.array([support[text] for text in texts], np.float32)) / 2.0
        chances = self._eye.scores(vector, mixed[:, None] * vector)[0]
        return [Tag(text=texts[i], score=float(chances[i])) for i in np.argsort(-mixed, kind="stable")]


def wording(
    concept: Concept, style: PictureStyle | None, palette: Palette, language: Language, tags: tuple[Tag, ...] = ()
) -> Wording:
    """One language's words for what was found."""
    locale = LOCALES[language]
    label = concept.label(locale)
    background = background_words(palette, locale)
    style_word = style.name(locale) if style else ""
    if locale == "en":
        ground = f"on {_article(background)}" if palette.background.kind == "plain" else background
    else:
        ground = background
    parts = [subject_words(label, palette.colors, locale), style_word, ground]
    return Wording(
        caption=_joined(locale, [part for part in parts if part]),
        label=label,
        tags=tags,
        style=style_word,
        colors=tuple(COLORS[color.key].name(locale) for color in palette.colors),
        background=background,
    )


def subject_words(label: str, colors: Sequence[ColorShare], locale: str) -> str:
    """The label, with its main colour where one prevails and the label does not say it.

    >>> subject_words("apple", [ColorShare(key="red", share=0.7)], "en")
    'a red apple'
    >>> subject_words("蘋果", [ColorShare(key="red", share=0.7)], "zh-hant")
    '紅色的蘋果'
    """
    main = colors[0].key if colors and colors[0].share >= _COLOR_LEAST else None
    if locale == "en":
        named = main is None or main in label.lower().split()
        return _article(label if named else f"{main} {label}")
    name = "" if main is None else COLORS[main].name(locale)
    return label if not name or name.removesuffix("色") in label else f"{name}的{label}"


def background_words(palette: Palette, locale: str) -> str:
    """What the background is called; "" for a busy one."""
    names = [COLORS[color].name(locale) for color in palette.background.colors]
    if palette.background.kind == "transparent":
        return _BACKGROUNDS[locale][0]
    return _BACKGROUNDS[locale][len(names)].format(*names) if names else ""


def _article(words: str) -> str:
    return f"{'an' if words[:1].lower() in _VOWELS else 'a'} {words}"


def _joined(locale: str, parts: Sequence[str]) -> str:
    return (", " if locale == "en" else "，").join(parts)
