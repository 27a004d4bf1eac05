"""Answers of vision-language models → Suggestions. Any text at all gives a result; none raises. No torch.

Two forms are read: the grounding grammar of Qwen2-VL (arXiv 2409.12191, section 2.1),
`<|object_ref_start|>…<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>`, also without its special tokens, which
some servers leave out; and JSON. The text is walked through once from left to right: no pattern in here can take more
than linear time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from danqing.review.loose_json import loose_objects
from danqing.spec.geometry import BoxPx
from danqing.spec.review import Suggestion

Scale = Literal["auto", "pixels", "thousand", "unit"]
"""What a model's coordinates count: pixels of the picture it was shown (Qwen2.5-VL), thousandths of each side
(Qwen2-VL, Qwen3-VL), or shares from 0 to 1. `auto` tells them by the form and by the numbers."""
MAX_ANSWER_CHARS = 200_000
MOST = 24
MAX_PROMPT_CHARS = 500
MAX_REASON_CHARS = 1000
STRENGTH = 0.6
_THOUSAND = 1000.0
_MIN_SIDE_PX = 2
_REF = ("<|object_ref_start|>", "<|object_ref_end|>")
_BOX = ("<|box_start|>", "<|box_end|>")
_CORNERS = re.compile(r"\(\s{0,3}(\d{1,5})\s{0,3},\s{0,3}(\d{1,5})\s{0,3}\)")
_PAIR = re.compile(r"\((\d{1,5}),(\d{1,5})\),\((\d{1,5}),(\d{1,5})\)")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?")
_TOKENS = re.compile(r"<\|[a-z_]{1,24}\|>")
_GRAMMAR_SIGNS = re.compile(r"[<>{}\[\]()|\\]|__+")
_JOIN = re.compile(r"\bAND\b")
_BOX_KEYS = ("bbox_2d", "bbox", "box", "bounding_box", "rect", "region")
_Y_FIRST = "box_2d"  # Gemini's: [y1, x1, y2, x2] in thousandths
_PROMPT_KEYS = ("prompt", "suggestion", "change", "label", "object", "text", "description", "name")
_REASON_KEYS = ("reason", "issue", "problem", "why", "explanation")
_STRENGTH_KEYS = ("strength", "severity", "importance")
Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """The picture that coordinates are of.

    Attributes:
        width_px: Of the picture under review.
        height_px: Of it.
        seen_width_px: Of the copy that the model was shown; as the picture if 0.
        seen_height_px: Of it.
        scale: What the model's coordinates count.
    """

    width_px: int
    height_px: int
    seen_width_px: int = 0
    seen_height_px: int = 0
    scale: Scale = "auto"

    def box(self, corners: Four, scale: Scale) -> BoxPx | None:
        """A model's corners as a box: clamped, corners sorted; None for one that is nearly empty or lies outside."""
        if not all(math.isfinite(x) for x in corners):
            return None
        seen = (self.seen_width_px or self.width_px, self.seen_height_px or self.height_px)
        unit = self._unit(corners, scale, seen)
        over_x, over_y = {"thousand": (_THOUSAND, _THOUSAND), "unit": (1.0, 1.0)}.get(unit, seen)
        xs = sorted(_clamped(x / over_x * self.width_px, self.width_px) for x in corners[0::2])
        ys = sorted(_clamped(y / over_y * self.height_px, self.height_px) for y in corners[1::2])
        left, top, right, bottom = math.floor(xs[0]), math.floor(ys[0]), math.ceil(xs[1]), math.ceil(ys[1])
        if right - left < _MIN_SIDE_PX or bottom - top < _MIN_SIDE_PX:
            return None
        return BoxPx(left_px=left, top_px=top, right_px=right, bottom_px=bottom)

    def _unit(self, corners: Four, scale: Scale, seen: tuple[int, int]) -> Scale:
        chosen = self.scale if self.scale != "auto" else scale
        if chosen != "auto":
            return chosen
        if max(corners) <= 1.0 and any(x != int(x) for x in corners):
            return "unit"
        outside = max(corners[0::2]) > seen[0] * 1.02 or max(corners[1::2]) > seen[1] * 1.02
        return "thousand" if outside and max(corners) <= _THOUSAND else "pixels"


@dataclass(frozen=True)
class Parsed:
    """What an answer says.

    Attributes:
        suggestions: At most `MOST`, in the answer's order, none twice.
        note: What could not be used, in a sentence; empty if all could.
        readable: Whether the answer had either form.
    """

    suggestions: tuple[Suggestion, ...]
    note: str = ""
    readable: bool = True


def parse_answer(text: str, frame: Frame) -> Parsed:
    """Suggestions from a model's answer, whatever it is."""
    cut = len(text) > MAX_ANSWER_CHARS
    text = text[:MAX_ANSWER_CHARS]
    notes = [f"the answer was longer than {MAX_ANSWER_CHARS} characters and was cut"] if cut else []
    found, dropped, readable = _read(text, frame)
    unique = list(dict.fromkeys(found))
    if dropped:
        notes.append(f"{dropped} suggestions without words or with an empty box were left out")
    if len(unique) > MOST:
        notes.append(f"only the first {MOST} of {len(unique)} suggestions were taken")
    if not readable:
        notes.append("the answer holds neither boxes nor JSON: " + (plain(text)[:200] or "it is empty"))
    return Parsed(tuple(unique[:MOST]), "; ".join(notes), readable)


def plain(text: str) -> str:
    """One line of a model's words with nothing in it that the prompt language would act on (networks, weights, …).

    >>> plain("a (red:1.3)  <lora:x:1> apple")
    'a red:1.3 lora:x:1 apple'
    """
    words = _GRAMMAR_SIGNS.sub(" ", _TOKENS.sub(" ", text))
    # Halves of surrogate pairs and control signs cannot be stored or shown.
    words = "".join(sign if sign.isprintable() else " " for sign in words)
    return " ".join(_JOIN.sub("and", words).split())


def _read(text: str, frame: Frame) -> tuple[list[Suggestion], int, bool]:
    if _BOX[0] in text:
        return _collect(_grounded(text, frame), True)
    entries = loose_objects(text)
    if entries.items or entries.readable:
        return _collect((one for entry in entries.items for one in _of_object(entry, frame)), True)
    bare = list(_bare_pairs(text, frame))
    return _collect(iter(bare), bool(bare))


def _collect(found: Iterator[Suggestion | None], readable: bool) -> tuple[list[Suggestion], int, bool]:
    kept: list[Suggestion] = []
    dropped = 0
    for one in found:
        if one is None:
            dropped += 1
        elif len(kept) <= MOST * 4:
            kept.append(one)
    return kept, dropped, readable


def _grounded(text: str, frame: Frame) -> Iterator[Suggestion | None]:
    """One suggestion for each box token; its words are those of the reference before it."""
    words, place = "", 0
    while True:
        box = text.find(_BOX[0], place)
        if box < 0:
            return
        ref = text.rfind(_REF[0], place, box)
        if ref >= 0:
            end = text.find(_REF[1], ref, box)
            words = text[ref + len(_REF[0]) : end if end >= 0 else box]
        end = text.find(_BOX[1], box)
        stop = end if end >= 0 else min(len(text), box + 80)
        corners = _CORNERS.findall(text[box:stop])
        place = stop
        if len(corners) < 2:
            yield None
            continue
        (x1, y1), (x2, y2) = corners[:2]
        four = (float(x1), float(y1), float(x2), float(y2))
        yield _suggestion(words, frame.box(four, _token_scale(frame)))


def _token_scale(frame: Frame) -> Scale:
    return "thousand" if frame.scale == "auto" else frame.scale


def _bare_pairs(text: str, frame: Frame) -> Iterator[Suggestion | None]:
    """`words(x1,y1),(x2,y2)` as it is left where a server drops special tokens."""
    before = 0
    for found in _PAIR.finditer(text):
        words = text[max(before, found.start() - MAX_PROMPT_CHARS) : found.start()].rpartition("\n")[2]
        before = found.end()
        x1, y1, x2, y2 = (float(x) for x in found.groups())
        yield _suggestion(words.strip(" ,;.:-"), frame.box((x1, y1, x2, y2), _token_scale(frame)))


def _of_object(entry: dict[str, Any], frame: Frame) -> Iterator[Suggestion | None]:
    words = _first_text(entry, _PROMPT_KEYS)
    reason = plain(_first_text(entry, _REASON_KEYS))[:MAX_REASON_CHARS]
    strength = _strength(entry)
    boxes = list(_boxes(entry))
    if not boxes:  # of the whole picture
        text = plain(words)[:MAX_PROMPT_CHARS]
        yield Suggestion(prompt=text, reason=reason, strength=strength) if text else None
    for corners, scale in boxes:
        found = None if corners is None else _suggestion(words, frame.box(corners, scale))
        yield None if found is None else found.model_copy(update={"reason": reason, "strength": strength})


def _suggestion(words: str, box: BoxPx | None) -> Suggestion | None:
    text = plain(words[: MAX_PROMPT_CHARS * 4])[:MAX_PROMPT_CHARS].strip()
    return Suggestion(box=box, prompt=text, strength=STRENGTH) if box is not None and text else None


def _boxes(entry: dict[str, Any]) -> Iterator[tuple[Four | None, Scale]]:
    """Corners of every box of an object, None for one that cannot be read; a box that is null is none."""
    for key in (*_BOX_KEYS, _Y_FIRST):
        given = entry.get(key)
        if given is None or given == []:
            continue
        items = cast("list[Any]", given) if isinstance(given, list) else [given]
        nested = isinstance(given, list) and items and isinstance(items[0], list | dict)
        for one in items[:MOST] if nested else [given]:
            four = _four(one)
            if four is not None and key == _Y_FIRST:
                four = (four[1], four[0], four[3], four[2])
            yield four, "thousand" if key == _Y_FIRST else "auto"
        return


def _four(given: Any) -> Four | None:
    """Four finite numbers from a list, a string or an object with named corners."""
    values: list[Any]
    if isinstance(given, str):
        values = _NUMBER.findall(given[:200])
    elif isinstance(given, dict):
        values = _corners_of(cast("dict[str, Any]", given))
    elif isinstance(given, list):
        values = cast("list[Any]", given)
    else:
        return None
    numbers = [_finite(value) for value in values[:5]]
    if len(numbers) != 4 or None in numbers:
        return None
    x1, y1, x2, y2 = (cast("float", number) for number in numbers)
    return (x1, y1, x2, y2)


def _corners_of(given: dict[str, Any]) -> list[Any]:
    for names in (("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax")):
        if all(name in given for name in names):
            return [given[name] for name in names]
    sides = [_finite(given.get(name)) for name in ("x", "y", "width", "height")]
    if None in sides:
        return []
    x, y, width, height = (cast("float", side) for side in sides)
    return [x, y, x + width, y + height]


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) < 1e9 else None


def _strength(entry: dict[str, Any]) -> float:
    for key in _STRENGTH_KEYS:
        number = _finite(entry.get(key))
        if number is not None:
            return min(1.0, max(0.0, number))
    return STRENGTH


def _first_text(entry: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = entry.get(key)
        if isinstance(value, str) and value.strip():
            return value[: MAX_REASON_CHARS * 4]
    return ""


def _clamped(value: float, most: int) -> float:
    return min(max(value, 0.0), float(most))
