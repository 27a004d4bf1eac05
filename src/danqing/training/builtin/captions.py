"""Captions in English, Simplified and Traditional Chinese: label, tags, style, colours, count and background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danqing.spec.registry.colors import COLORS
from danqing.training.builtin.config import CaptionConfig
from danqing.training.builtin.dataset import Picture
from danqing.training.builtin.scenes import Scene, names_color

# What each style is called in English, Simplified and Traditional Chinese.
STYLE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "flat": {"en": ("flat",), "zh": ("扁平",), "zh-hant": ("扁平",)},
    "3d": {"en": ("3d",), "zh": ("3d", "立体"), "zh-hant": ("3d", "立體")},
    "line": {"en": ("line art",), "zh": ("线稿",), "zh-hant": ("線稿",)},
    "gradient": {"en": ("gradient style",), "zh": ("渐变风格",), "zh-hant": ("漸變風格",)},
    "cartoon": {"en": ("cartoon",), "zh": ("卡通",), "zh-hant": ("卡通",)},
    "icon": {"en": ("icon",), "zh": ("图标",), "zh-hant": ("圖示",)},
}
ENGLISH = (
    "{subject}{style}{back}",
    "{subject}{style}{back}",
    "{a_subject}{style}{back}",
    "{a_subject}{back}{style}",
    "{subject}{tags}{style}{back}",
    "{a_subject}{tags}{style}{back}",
)
CHINESE = ("{subject}{style}{back}", "{subject}{style}{back}", "{subject}{back}{style}", "{subject}{tags}{style}{back}")
COUNTS = {
    "en": {2: "two", 3: "three", 4: "four"},
    "zh": {1: "一个", 2: "两个", 3: "三个", 4: "四个"},
    "zh-hant": {1: "一個", 2: "兩個", 3: "三個", 4: "四個"},
}
_BACK = {
    "en": {"flat": (", {0} background", ", on {a_0} background"), "two": (", {0} to {1} gradient background",)},
    "zh": {"flat": ("，{0}背景",), "two": ("，{0}到{1}渐变背景",)},
    "zh-hant": {"flat": ("，{0}背景",), "two": ("，{0}到{1}漸變背景",)},
}
_TRANSPARENT = {"en": ", transparent background", "zh": "，透明背景", "zh-hant": "，透明背景"}


@dataclass(frozen=True)
class Words:
    """The parts of one caption, all in one locale; each but the subject may be empty.

    Attributes:
        label: What is drawn.
        style: The style's word.
        color: The drawing's colour.
        count: How many.
        tags: Further words.
        background: As in `Scene.background`.
    """

    label: str
    style: str = ""
    color: str = ""
    count: int = 1
    tags: tuple[str, ...] = ()
    background: tuple[str, ...] = ("white",)


def article(text: str) -> str:
    """`a` or `an` before the text."""
    vowel = text[:1].lower() in "aeiou" and not text.lower().startswith(("unicorn", "uni", "europe", "eu"))
    return ("an " if vowel else "a ") + text


def plural(noun: str) -> str:
    """The plain English plural, enough for labels."""
    if noun.endswith("s"):
        return noun
    if noun.endswith(("ch", "sh", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def background_words(background: tuple[str, ...], locale: str, variant: int = 0, *, say_white: bool = True) -> str:
    """The caption's ending for a background, with its comma; empty for an unsaid white one."""
    if background == ("transparent",):
        return _TRANSPARENT[locale]
    if background == ("white",) and not say_white:
        return ""
    kinds = _BACK[locale]["two" if len(background) == 2 else "flat"]
    names = [COLORS[key].name(locale) for key in background]
    return kinds[variant % len(kinds)].format(*names, a_0=article(names[0]))


def english(words: Words, template: str, back: str) -> str:
    """One English caption."""
    noun = plural(words.label) if words.count > 1 else words.label
    subject = " ".join(part for part in (COUNTS["en"].get(words.count, ""), words.color, noun) if part)
    return template.format(
        subject=subject,
        a_subject=subject if words.count > 1 else article(subject),
        style=f", {words.style}" if words.style else "",
        tags="".join(f", {tag}" for tag in words.tags),
        back=back,
    )


def chinese(words: Words, template: str, back: str, locale: str) -> str:
    """One Chinese caption, in the script of `locale` (`zh` or `zh-hant`)."""
    colored = f"{words.color}的{words.label}" if words.color else words.label
    subject = (COUNTS[locale][words.count] if words.count > 1 else "") + colored
    return template.format(
        subject=subject,
        style=f"，{words.style}" if words.style else "",
        tags="".join(f"，{tag}" for tag in words.tags),
        back=back,
    )


def say(words: Words, locale: str, template: int = 0, variant: int = 0) -> str:
    """A plain caption of these parts: what the evaluation's prompts and the demo briefs are made of."""
    back = background_words(words.background, locale, variant, say_white=False)
    if locale == "en":
        return english(words, ENGLISH[template], back)
    return chinese(words, CHINESE[template], back, locale)


def style_words(style: str, locale: str) -> tuple[str, ...]:
    """What a style may be called; a style without a translation keeps its name."""
    return STYLE_WORDS.get(style, {}).get(locale, (style,))


def _color_word(picture: Picture, scene: Scene, own: str | None, locale: str, rng: np.random.Generator) -> str:
    """The drawing's colour: always said when it was changed, now and then when it is its own."""
    if scene.hue is not None:
        return COLORS[scene.hue].name(locale)
    if own is None or picture.style == "line" or names_color(picture) or rng.random() > 0.2:
        return ""
    return COLORS[own].name(locale)


def draw_caption(
    picture: Picture,
    config: CaptionConfig,
    scene: Scene,
    rng: np.random.Generator,
    own_color: str | None = None,
) -> str:
    """One caption; empty with probability `config.dropout`. The same generator state gives the same caption.

    Args:
        picture: What is drawn.
        config: Shares of Chinese and of empty captions.
        scene: How it is painted.
        rng: Decides.
        own_color: The drawing's commonest colour, a key of `COLORS`, where it is clear.
    """
    if rng.random() < config.dropout:
        return ""
    scripts = [loc for loc in ("zh", "zh-hant") if loc in picture.concept.words]
    locale = "en"
    if scripts and rng.random() < config.chinese:
        # Simplified twice as often as Traditional: most labels share their characters anyway.
        locale = scripts[0] if len(scripts) == 1 or rng.random() < 0.66 else scripts[1]
    label, *tags = picture.concept.words[locale]
    if tags and rng.random() < config.tag_as_label:
        label = tags[int(rng.integers(len(tags)))]
    styles = style_words(picture.style, locale)
    some = sorted(rng.permutation(len(tags))[: int(rng.integers(1, 4))]) if tags else []
    words = Words(
        label,
        "" if rng.random() < 0.1 else styles[int(rng.integers(len(styles)))],
        _color_word(picture, scene, own_color, locale, rng),
        scene.count,
        tuple(tags[int(i)] for i in some),
        scene.background,
    )
    back = background_words(scene.background, locale, int(rng.integers(2)), say_white=bool(rng.random() < 0.2))
    if locale == "en":
        return english(words, ENGLISH[int(rng.integers(len(ENGLISH)))], back)
    return chinese(words, CHINESE[int(rng.integers(len(CHINESE)))], back, locale)
