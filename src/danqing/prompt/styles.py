"""Styles: named pieces of prompt, in A1111's `styles.csv`.

A style's text either holds the placeholder `{prompt}`, which the prompt replaces, or follows the prompt after ", ".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from danqing.spec.errors import BadFileError, NotFoundError

PLACEHOLDER: Final = "{prompt}"
MAX_STYLE_FILE_BYTES: Final = 16 * 2**20
_COLUMNS = ("name", "prompt", "negative_prompt")
_SPACES = re.compile("  +")


@dataclass(frozen=True, slots=True)
class Style:
    """One row of styles.csv."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def merge(style_text: str, prompt: str) -> str:
    """The prompt with one style's text.

    >>> merge("oil painting of {prompt}", "a cat")
    'oil painting of a cat'
    >>> merge("oil painting", "a cat")
    'a cat, oil painting'
    """
    if PLACEHOLDER in style_text:
        return style_text.replace(PLACEHOLDER, prompt)
    return ", ".join(text for text in (prompt.strip(), style_text.strip()) if text)


def apply_styles(
    prompt: str, negative_prompt: str, names: Sequence[str], styles: Mapping[str, Style]
) -> tuple[str, str]:
    """Prompt and negative prompt with the named styles, in order.

    Raises:
        NotFoundError: A name that is not among the styles.
    """
    for name in names:
        style = styles.get(name)
        if style is None:
            raise NotFoundError(
                "there is no style of this name",
                field="styles",
                value=name,
                allowed=", ".join(list(styles)[:12]) or "none are installed",
                next_step="choose an existing style, or add it to styles.csv",
            )
        prompt = merge(style.prompt, prompt)
        negative_prompt = merge(style.negative_prompt, negative_prompt)
    return prompt, negative_prompt


def extract_styles(prompt: str, negative_prompt: str, styles: Mapping[str, Style]) -> tuple[tuple[str, ...], str, str]:
    """The styles that were applied to a prompt, in order, and the prompts without them.

    Runs of spaces count as one. A style is found only where putting it back gives the prompt again.
    """
    found: list[str] = []
    candidates = [style for style in styles.values() if style.prompt or style.negative_prompt]
    while True:
        for style in candidates:
            rest = _without(style.prompt, prompt)
            negative_rest = _without(style.negative_prompt, negative_prompt)
            if rest is not None and negative_rest is not None:
                break
        else:
            return tuple(reversed(found)), prompt, negative_prompt
        candidates.remove(style)
        found.append(style.name)
        prompt, negative_prompt = rest, negative_rest


def parse_styles(text: str) -> dict[str, Style]:
    """Styles by name from the text of a styles.csv; old files call the prompt column `text`.

    Raises:
        BadFileError: It is not a CSV file with a `name` column.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True))
    except csv.Error as error:
        raise BadFileError("styles.csv is damaged", value=str(error), allowed="a CSV file") from error
    if not text.strip().removeprefix("\ufeff"):
        return {}
    if rows and "name" not in rows[0]:
        raise BadFileError("styles.csv has no name column", allowed=",".join(_COLUMNS))
    styles: dict[str, Style] = {}
    for row in rows:
        name = row.get("name") or ""
        if name:
            prompt = row.get("prompt") or row.get("text") or ""
            styles[name] = Style(name, prompt, row.get("negative_prompt") or "")
    return styles


def format_styles(styles: Iterable[Style]) -> str:
    """The text of a styles.csv; the inverse of `parse_styles`."""
    target = io.StringIO(newline="")
    writer = csv.writer(target)
    writer.writerow(_COLUMNS)
    writer.writerows((style.name, style.prompt, style.negative_prompt) for style in styles)
    return target.getvalue()


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file; none if there is no such file.

    Raises:
        BadFileError: The file is too large or no CSV text.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_STYLE_FILE_BYTES:
        raise BadFileError("styles.csv is too large", value=str(path), allowed="16 MiB")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError("styles.csv is not UTF-8 text", value=str(path), next_step="save it as UTF-8") from error
    return parse_styles(text)


def write_styles(path: Path, styles: Iterable[Style]) -> None:
    """Writes a styles.csv that A1111 reads; the file before it stays as `styles.csv.bak`."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(format_styles(styles).encode("utf-8-sig"))
    if path.is_file():
        path.replace(path.with_name(path.name + ".bak"))
    temporary.replace(path)


def _without(style_text: str, prompt: str) -> str | None:
    """The prompt without a style's text, or None if the style is not in it."""
    squeezed, style_text = _SPACES.sub(" ", prompt.strip()), _SPACES.sub(" ", style_text.strip())
    if not style_text:
        return prompt
    before, placeholder, _ = style_text.partition(PLACEHOLDER)
    if placeholder:
        fixed = len(style_text.replace(PLACEHOLDER, ""))
        length = max(len(squeezed) - fixed, 0) // style_text.count(PLACEHOLDER)
        rest = squeezed[len(before) : len(before) + length]
    else:
        rest = squeezed.removesuffix(style_text).removesuffix(", ")
    return rest if merge(style_text, rest) == squeezed else None
