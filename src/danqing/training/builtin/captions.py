"""Captions in English, Simplified and Traditional Chinese, drawn from an emoji's label and tags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danqing.training.builtin.config import CaptionConfig
from danqing.training.builtin.dataset import Picture
from danqing.training.builtin.vae import COLORS

# What each style is called in English, Simplified and Traditional Chinese.
STYLE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "flat": {"en": ("flat",), "zh": ("扁平", "flat"), "zh-hant": ("扁平", "flat")},
    "3d": {"en": ("3d",), "zh": ("3d", "立体"), "zh-hant": ("3d", "立體")},
    "noto": {"en": ("noto",), "zh": ("noto",), "zh-hant": ("noto",)},
}
ENGLISH = (
    "{label}, {style}",
    "{label}, {style}",
    "a {label}, {style}",
    "{style} {label}",
    "a {style} {label}",
    "{style} emoji of a {label}",
    "{label}, {tags}, {style}",
    "{style}, {label}, {tags}",
    "sticker of a {label}, {style}",
    "{label} icon, {style} style",
)
CHINESE = (
    "{label}，{style}",
    "{label}，{style}",
    "{label}, {style}",
    "{style}{label}",
    "{style}风格的{label}",
    "一个{label}，{style}",
    "{label}，{tags}，{style}",
    "{label}贴纸，{style}",
)
_HANT = str.maketrans({"风": "風", "个": "個", "贴": "貼", "纸": "紙"})


@dataclass(frozen=True)
class CaptionContext:
    """What the picture's background is: a key of `COLORS`, or None for white."""

    background: str | None = None


def _article(text: str) -> str:
    """`a` becomes `an` before a vowel."""
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][:1].lower() in "aeiou" and words[i + 1] != "unicorn":
            words[i] = "an"
    return " ".join(words)


def _background(locale: str, color: str | None, rng: np.random.Generator) -> str:
    if color is None:
        if rng.random() > 0.2:
            return ""
        return {"en": ", white background", "zh": "，白色背景", "zh-hant": "，白色背景"}[locale]
    simplified, traditional, _ = COLORS[color]
    return {"en": f", {color} background", "zh": f"，{simplified}背景", "zh-hant": f"，{traditional}背景"}[locale]


def draw_caption(picture: Picture, config: CaptionConfig, context: CaptionContext, rng: np.random.Generator) -> str:
    """One caption; empty with probability `config.dropout`. The same generator state gives the same caption."""
    if rng.random() < config.dropout:
        return ""
    chinese = [loc for loc in ("zh", "zh-hant") if loc in picture.concept.words]
    locale = "en"
    if chinese and rng.random() < config.chinese:
        # Simplified twice as often as Traditional: most labels share their characters anyway.
        locale = chinese[0] if len(chinese) == 1 or rng.random() < 0.66 else chinese[1]
    return _fill(picture, locale, rng) + _background(locale, context.background, rng)


def _fill(picture: Picture, locale: str, rng: np.random.Generator) -> str:
    label, *tags = picture.concept.words[locale]
    templates = ENGLISH if locale == "en" else CHINESE
    template = templates[int(rng.integers(len(templates)))]
    if locale == "zh-hant":
        template = template.translate(_HANT)
    if rng.random() < 0.1:
        template = "{label}"
    styles = STYLE_WORDS.get(picture.style, {}).get(locale, (picture.style,))
    style = styles[int(rng.integers(len(styles)))]
    count = min(len(tags), int(rng.integers(1, 4)))
    some = [tags[int(i)] for i in sorted(rng.permutation(len(tags))[:count])] if tags else [label]
    joiner = ", " if locale == "en" else "，"
    text = template.format(label=label, style=style, tags=joiner.join(some))
    return _article(text) if locale == "en" else text
