"""Errors in the page's language, beside the control that caused them."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import DanqingError
from danqing.web.fields import CONTROLS, section_of
from danqing.web.form import field_of
from danqing.web.i18n import say, words

_ABOUT_A_FIELD = frozenset({"invalid_request", "unsupported", "not_found"})
_EDITED = frozenset({"points", "retouch_steps", "finish", "source_prompt", "weights", "local"})
_BOUNDS = re.compile(r"^[≥≤><=\d\s.,…–x×*pxPX-]+$")


def explain(error: DanqingError, language: str) -> dict[str, Any]:
    """What the page shows of an error.

    Args:
        error: What went wrong.
        language: One of `i18n.LANGUAGES`.

    Returns:
        `field` (name of a control, or None), `section` (the fold that holds it, or None), `text` (a sentence in the
        language), `original` (the whole message in English, for what a translation cannot carry) and `code`.
    """
    control = field_of(error.field)
    return {
        "code": error.code,
        "field": control,
        "section": section_of(control) if control else None,
        "text": _text(error, control, language),
        "original": str(error),
    }


def _text(error: DanqingError, control: str | None, language: str) -> str:
    if control is None or error.code not in _ABOUT_A_FIELD:
        if language == "en" and error.code != "error":
            return _sentence(error)
        return say(language, f"e.code.{error.code}") if f"e.code.{error.code}" in words(language) else error.message
    known = _known(error, control, language)
    if known:
        return known
    if language == "en" and not error.message.startswith(f"{error.field}:"):
        return _sentence(error)
    if error.value is None:
        return say(language, "e.unset")
    shown = str(error.value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    allowed = _allowed(error, control, language)
    if allowed:
        return say(language, "e.value", value=shown, allowed=allowed)
    return say(language, "e.plain", value=shown)


def _known(error: DanqingError, control: str, language: str) -> str:
    """The sentence for what goes wrong most often; empty for anything else."""
    if control in ("seed", "variation_seed"):
        return say(language, "e.seed", allowed=str(2**64 - 1))
    if control in ("image", "mask") and error.value is None:
        return say(language, f"e.{control}")
    if control.startswith("controls."):
        return _about_control(error, control.split(".", maxsplit=2)[2:], language)
    if control == "region_engine" or control.startswith("regions."):
        return _about_region(error, control.split(".", maxsplit=2)[2:], language)
    if error.field == "kind" and error.code == "unsupported":
        return say(language, "e.kind")
    if control.partition(".")[0] in _EDITED:
        return _about_edit(error, control, language)
    return say(language, "e.margins") if error.field == "margins" else ""


def _about_control(error: DanqingError, field: list[str], language: str) -> str:
    if not field:  # what is wrong with a unit as a whole: it ends before it begins
        return say(language, "e.control.window")
    if field == ["image"] and not error.value:
        return say(language, "e.control.image")
    if field == ["model"]:
        return say(language, "e.control.fit", value=error.value) if error.value else say(language, "e.control.model")
    return ""


def _about_edit(error: DanqingError, control: str, language: str) -> str:
    if control == "points":
        return say(language, "e.points.outside" if error.value else "e.points")
    about = _about_step if control.startswith(("retouch_steps", "finish")) else _about_words
    return about(error, control, language)


def _about_step(error: DanqingError, control: str, language: str) -> str:
    if control == "retouch_steps":
        return say(language, "e.steps")
    if control.endswith(".background"):
        return say(language, "e.step.colour")
    if control.endswith(".detect") and error.code == "invalid_request":
        return say(language, "e.step.detect", value=error.value)
    return ""


def _about_words(error: DanqingError, control: str, language: str) -> str:
    if control == "source_prompt":
        return say(language, "e.source_prompt") if error.code == "invalid_request" else ""
    if not control.endswith((".word", ".source", ".target")):
        return ""
    if not error.value:
        return say(language, "e.word.empty")
    return say(language, "e.word.source" if control.endswith(".source") else "e.word", value=error.value)


def _about_region(error: DanqingError, field: list[str], language: str) -> str:
    if error.field == "region_engine":
        return say(language, "e.region.engine")
    if not field:
        return say(language, "e.region.place")
    if field[0].startswith("control"):
        return _about_control(error, field[0].split(".")[1:], language)
    if field == ["prompt"] and not error.value:
        return say(language, "e.region.prompt")
    if field == ["prompt"] and error.code == "unsupported":
        return say(language, "e.region.network", value=error.value)
    if field == ["prompt"] and " AND " in str(error.value):
        return say(language, "e.region.and")
    return say(language, "e.region.box") if field == ["box"] else ""


def _sentence(error: DanqingError) -> str:
    """Message and next step, as they are, in English."""
    parts = [text for text in (error.message, error.next_step) if text]
    return " ".join(f"{text[0].upper()}{text[1:]}{'' if text[-1] in '.?!' else '.'}" for text in parts)


def _allowed(error: DanqingError, control: str, language: str) -> str:
    """What is allowed, where it can be said in any language: bounds, the labels of a choice, "a whole number"."""
    text = (error.allowed or "").replace(" and ", ", ")
    if text and _BOUNDS.match(text):
        return text
    if "integer" in text:
        return say(language, "e.number")
    known = CONTROLS.get(control)
    if known is not None and known.options:
        return (", " if language == "en" else "、").join(label for label, _ in known.choices(language))
    return text if language == "en" else ""
