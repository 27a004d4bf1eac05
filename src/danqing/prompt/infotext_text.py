"""The text form of A1111's infotext: prompt, negative prompt, and one line of `Key: value` pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_INFOTEXT: Final = 500_000
NEGATIVE: Final = "Negative prompt:"
EXACT_PROMPT: Final = "Exact prompt"
EXACT_NEGATIVE: Final = "Exact negative prompt"
"""Our own keys, for prompts whose whitespace or lines the form would lose; other readers ignore them."""

_KEY = re.compile(r"\s*(\w[\w \-/]{1,63}):\s*")
_AFTER_VALUE = re.compile(r"\s*(?:,|\Z)")
_TEMPLATES = ("Template:", "Negative Template:")
_MIN_PAIRS = 3
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Infotext:
    """An infotext taken apart.

    Attributes:
        prompt: The prompt.
        negative_prompt: The negative prompt.
        fields: Every pair of the last line, in order, values unquoted; a JSON object stays JSON text.
    """

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])


def quote(value: str) -> str:
    """A value as it stands in the pairs: JSON if it has a comma, colon, newline, or whitespace to lose.

    >>> quote("a, b"), quote("Euler a")
    ('"a, b"', 'Euler a')
    """
    plain = value and value == value.strip() and value.isprintable() and not any(char in value for char in ',:"')
    return value if plain and value[0] not in "{[" else json.dumps(value, ensure_ascii=False)


def format_text(infotext: Infotext) -> str:
    """The text of an infotext; `parse_text` gives it back."""
    fields = dict(infotext.fields)
    text = _join(infotext.prompt, infotext.negative_prompt, fields)
    read = parse_text(text)
    if read.prompt != infotext.prompt:
        fields[EXACT_PROMPT] = infotext.prompt
    if read.negative_prompt != infotext.negative_prompt:
        fields[EXACT_NEGATIVE] = infotext.negative_prompt
    return _join(infotext.prompt, infotext.negative_prompt, fields)


def parse_text(text: str) -> Infotext:
    """Takes an infotext apart as A1111 does; never fails, and what is no pair belongs to the prompt.

    Text beyond 500000 characters is dropped from the middle of the prompt: the pairs at the end stay.
    """
    if len(text) > MAX_INFOTEXT:
        text = text[: MAX_INFOTEXT // 2] + text[-MAX_INFOTEXT // 2 :]
    lines = text.replace("\x00", "").strip().split("\n")
    templates: dict[str, str] = {}
    while len(lines) > 1 and lines[-1].startswith(_TEMPLATES):
        key, _, value = lines.pop().partition(":")
        templates[key] = value.strip()
    fields = parse_pairs(lines[-1])
    if len(fields) >= _MIN_PAIRS:
        lines.pop()
    else:
        fields = {}
    prompt, negative = _prompts(lines)
    exact, exact_negative = fields.pop(EXACT_PROMPT, prompt), fields.pop(EXACT_NEGATIVE, negative)
    return Infotext(exact, exact_negative, {**fields, **templates})


def parse_pairs(line: str) -> dict[str, str]:
    """The `Key: value` pairs of one line; what is none is skipped up to the next comma."""
    fields: dict[str, str] = {}
    position = 0
    while position < len(line):
        found = _KEY.match(line, position)
        if found is None:
            comma = line.find(",", position)
            position = comma + 1 if comma >= 0 else len(line)
            continue
        value, position = _value(line, found.end())
        if value is not None:
            fields[found[1]] = value
    return fields


def _value(line: str, start: int) -> tuple[str | None, int]:
    """The value at `start` and the position after its comma; None for an empty one."""
    if line[start : start + 1] in {'"', "{", "["}:
        try:
            decoded, end = _decode(line, start)
        except (ValueError, RecursionError):
            decoded, end = None, start
        after = _AFTER_VALUE.match(line, end)
        if decoded is not None and after:
            return decoded, after.end()
    comma = line.find(",", start)
    end = comma if comma >= 0 else len(line)
    return line[start:end].strip() or None, end + 1


def _decode(line: str, start: int) -> tuple[str, int]:
    decoded: Any
    decoded, end = _DECODER.raw_decode(line, start)
    return (decoded if isinstance(decoded, str) else line[start:end]), end


def _prompts(lines: list[str]) -> tuple[str, str]:
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for written in lines:
        line = written.strip()
        if line.startswith(NEGATIVE):
            target, line = negative, line[len(NEGATIVE) :].strip()
        # A1111 drops leading empty lines of each prompt.
        if target or line:
            target.append(line)
    return "\n".join(prompt), "\n".join(negative)


def _join(prompt: str, negative: str, fields: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{key}: {quote(value)}" for key, value in fields.items())
    return f"{prompt}{f'{chr(10)}{NEGATIVE} {negative}' if negative else ''}\n{pairs}".strip()
