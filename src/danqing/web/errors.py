"""Errors in the page's language, beside the control that caused them."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import DanqingError
from danqing.web.fields import CONTROLS
from danqing.web.form import NAMES, field_of
from danqing.web.i18n import say, words

_BOUNDS = re.compile(r"^[≥≤><=\d\s.,…–x×*pxPX-]+$")


def explain(error: DanqingError, language: str) -> dict[str, Any]:
    """What the page shows of an error.

    Args:
        error: What went wrong.
        language: One of `i18n.LANGUAGES`.

    Returns:
        `field` (name of a control, or None), `text` (a sentence in the language), `original` (the whole message in
        English, for what a translation cannot carry) and `code`.
    """
    control = field_of(error.field)
    return {
        "code": error.code,
        "field": control,
        "text": _text(error, control, language),
        "original": str(error),
    }


def _text(error: DanqingError, control: str | None, language: str) -> str:
    if error.code not in ("invalid_request", "unsupported") or control is None:
        return say(language, f"e.code.{error.code}") if f"e.code.{error.code}" in words(language) else error.message
    if control in ("seed", "variation_seed"):
        return say(language, "e.seed", allowed=str(2**64 - 1))
    if control in ("image", "mask"):
        return say(language, f"e.{control}")
    if error.field == "margins":
        return say(language, "e.margins")
    if error.value is None:
        return say(language, "e.unset")
    shown = str(error.value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    allowed = _allowed(error, control, language)
    if allowed:
        return say(language, "e.value", value=shown, allowed=allowed)
    return say(language, "e.plain", value=shown)


def _allowed(error: DanqingError, control: str, language: str) -> str:
    """What is allowed, where it can be said in any language: bounds, the labels of a choice, "a whole number"."""
    text = (error.allowed or "").replace(" and ", ", ")
    if text and _BOUNDS.match(text):
        return text
    if "integer" in text:
        return say(language, "e.number")
    known = CONTROLS.get(control)
    if known is not None and known.options:
        return "、".join(label for label, _ in known.choices(language)) if language != "en" else ", ".join(
            label for label, _ in known.choices(language)
        )
    return text if language == "en" else ""


def label_of(name: str, language: str) -> str:
    """The name of a control as its label shows it."""
    return say(language, f"f.{name}") if name in NAMES and f"f.{name}" in words(language) else name
