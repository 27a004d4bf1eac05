"""From what a client says to what a text-to-image model reads: it needs *what is to be seen*, not what is to be done.

Small, fixed rules in English, simplified and traditional Chinese; words that fit no rule are taken as they stand, and
the designer sees the outcome before anything is painted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRIM = " \t\r\n,，.。!！;；、"
_REMOVE = (
    re.compile(
        r"(?:please\s+)?(?:remove|delete|erase|get rid of|take (?:away|out)|no more)\s+"
        r"(?:(?:the|this|that|these|those)\s+)?(?P<what>.+)",
        re.I,
    ),
    re.compile(r"(?:请|請)?(?:把|将|將)?(?P<what>.+?)(?:去掉|拿掉|删掉|刪掉|删除|刪除|移除|擦掉|去除)(?:吧|掉)?"),
    re.compile(
        r"(?:请|請)?(?:去掉|拿掉|删掉|刪掉|删除|刪除|移除|擦掉|去除|不要)(?:这个|這個|那个|那個|这|這)?(?P<what>.+)"
    ),
)
_CHANGE = (
    re.compile(r"(?:please\s+)?(?:replace|swap|exchange)\s+.+?\s+(?:with|by|for)\s+(?P<what>.+)", re.I),
    re.compile(r"(?:please\s+)?(?:change|turn)\s+.+?\s+(?:to|into)\s+(?P<what>.+)", re.I),
    re.compile(r"(?:please\s+)?(?:change|turn)\s+(?:to|into)\s+(?P<what>.+)", re.I),
    re.compile(r"(?:please\s+)?make\s+(?:it|this|that|them)\s+(?:into\s+|look like\s+)?(?P<what>.+)", re.I),
    re.compile(r"(?:please\s+)?add\s+(?P<what>.+?)(?:\s+here|\s+there)?", re.I),
    re.compile(  # without an article they may be no verbs: "paint splashes"
        r"(?:please\s+)?(?:put|paint|draw|show)\s+(?P<what>(?:an?|some|the|more|two|three)\s.+?)(?:\s+here|\s+there)?",
        re.I,
    ),
    re.compile(r"(?:i(?:'d| would) (?:like|prefer)|i want)\s+(?:to see\s+)?(?P<what>.+)", re.I),
    re.compile(
        r"(?:请|請)?(?:(?:把|将|將|这里|這裡|这个|這個|它|此处|此處).*?)?"
        r"(?:换成|換成|改成|变成|變成|改为|改為|换为|換為|做成|画成|畫成)(?P<what>.+?)(?:吧)?"
    ),
    re.compile(
        r"(?:请|請)?(?:在?(?:这里|這裡|此处|此處|这儿|這兒))?(?:加上|添加|增加|加入|画上|畫上|放上|[加画畫](?=[一个個点點]))"
        r"(?:一)?(?:[个個只隻朵棵条條张張点點])?(?P<what>.+?)(?:吧)?"
    ),
)
_MAKE = re.compile(r"(?:please\s+)?make\s+(?:the|this|that|his|her|its)\s+(?P<thing>\S+(?: \S+)?)\s+(?P<how>\S+)", re.I)
_CJK = re.compile(r"[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]")
_SPECIAL = re.compile(r"\bAND\b|\bBREAK\b")
_NETWORK = re.compile(r"<[A-Za-z]+:[^<>]+>")


@dataclass(frozen=True)
class Wish:
    """What a suggestion asks to see.

    Args:
        seen: What should be there; empty where something is only to go.
        gone: What should not be there any more.
    """

    seen: str = ""
    gone: str = ""


def wish_of(said: str) -> Wish:
    """Read a suggestion.

    >>> wish_of("please change the apple to a green pear")
    Wish(seen='a green pear', gone='')
    >>> wish_of("把苹果换成青梨")
    Wish(seen='青梨', gone='')
    >>> wish_of("去掉背景里的樹")
    Wish(seen='', gone='背景里的樹')
    >>> wish_of("Make the hat blue")
    Wish(seen='blue hat', gone='')
    >>> wish_of("a green apple")
    Wish(seen='a green apple', gone='')
    """
    plain = said.strip(_TRIM)
    for pattern in _REMOVE:
        found = pattern.fullmatch(plain)
        if found is not None:
            return Wish(gone=found["what"].strip(_TRIM))
    made = _MAKE.fullmatch(plain)
    if made is not None:
        return Wish(f"{made['how']} {made['thing']}")
    for pattern in _CHANGE:
        found = pattern.fullmatch(plain)
        if found is not None:
            return Wish(found["what"].strip(_TRIM))
    return Wish(plain)


def language_of(text: str) -> str:
    """`zh` for text with Chinese (or Japanese, Korean) letters, else `en`.

    >>> language_of("红苹果"), language_of("red apple")
    ('zh', 'en')
    """
    return "zh" if _CJK.search(text) else "en"


def joined(wish: str, prompt: str, *, whole: bool) -> str:
    """What should be seen, with what the Record's own prompt says of style.

    A part of the picture is painted from the wish and the prompt's further parts (all but the first, which names the
    subject); the whole picture from the wish and all of the prompt. Parts that say the same are left out. A prompt that
    has parts of its own (`AND`, `BREAK`) lends nothing to a part of the picture but its networks.

    >>> joined("green apple", "red apple, 3d, studio light", whole=False)
    'green apple, 3d, studio light'
    >>> joined("more snow", "a red fox, 3d", whole=True)
    'more snow, a red fox, 3d'
    >>> joined("蓝色的狐狸", "狐狸，扁平", whole=True)
    '蓝色的狐狸，扁平'
    >>> joined("", "red apple, 3d", whole=False)
    '3d'
    >>> joined("青苹果", "红苹果，立体", whole=False)
    '青苹果，立体'
    """
    if whole:
        parts = [prompt.strip()] if _SPECIAL.search(prompt) else _parts(prompt)
    else:
        further = [] if _SPECIAL.search(prompt) else _parts(_NETWORK.sub("", prompt))[1:]
        parts = [*further, *_NETWORK.findall(prompt)]
    rest = [part for part in dict.fromkeys(parts) if part.casefold() not in wish.casefold()]
    comma = "，" if language_of(wish or prompt) == "zh" and "," not in prompt else ", "
    return comma.join(part for part in (wish.strip(_TRIM), *rest) if part)


def _parts(prompt: str) -> list[str]:
    """The parts between commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(prompt):
        if letter in "([{<":
            depth += 1
        elif letter in ")]}>":
            depth = max(0, depth - 1)
        elif letter in ",，" and not depth:
            parts.append(prompt[start:place])
            start = place + 1
    return [part for part in (one.strip(_TRIM) for one in (*parts, prompt[start:])) if part]
