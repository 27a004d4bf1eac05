"""`--control`: a ControlNet unit in one word of the command line."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import InvalidRequestError

SYNTAX = "MODEL:PICTURE[:ANNOTATOR][@WEIGHT][,START-END][,KEY=VALUE…]"
KEYS = {
    "mode": "mode",
    "resize": "resize_mode",
    "mask": "mask",
    "type": "control_type",
    "resolution": "resolution_px",
    "passes": "passes",
}
_WINDOW = re.compile(r"(\d*\.?\d+)-(\d*\.?\d+)")
_WEIGHT = re.compile(r"^(.*)@([^@/\\]*)$", re.DOTALL)
_ANNOTATOR = re.compile(r"^(.*):([a-z][a-z0-9_]*)$", re.DOTALL)


def parse_control(text: str) -> dict[str, Any]:
    """A unit as typed, its pictures still file names.

    It is read from its end: settings after commas, then `@WEIGHT`, then `:ANNOTATOR`, so that a picture's path may
    hold any of these signs before them. Without a picture (`MODEL:`, `MODEL::canny`) the unit follows the init picture.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_control("line:cat.png:canny@0.8,0-0.5,mode=prompt,low_threshold=50")["params"]
    {'low_threshold': '50'}
    >>> parse_control("line:record:01J8")
    {'model': 'line', 'image': 'record:01J8'}
    """
    head, settings = _settings(text)
    model, colon, rest = head.partition(":")
    if not colon or not model.strip():
        raise _unreadable(text)
    unit: dict[str, Any] = {"model": model.strip()}
    weight = _WEIGHT.match(rest)
    if weight is not None and (weight[2] == "" or _number(weight[2]) is not None):
        if weight[2] == "":
            raise _unreadable(text)
        unit["weight"], rest = _number(weight[2]), weight[1]
    annotator = _ANNOTATOR.match(rest)
    if annotator is not None and annotator[1] != "record":
        rest, unit["annotator"] = annotator[1], annotator[2]
    if rest:
        unit["image"] = rest
    return unit | settings


def _settings(text: str) -> tuple[str, dict[str, Any]]:
    """The part before the settings, and the settings."""
    parts = text.split(",")
    found: dict[str, Any] = {}
    params: dict[str, str] = {}
    while len(parts) > 1:
        window = _WINDOW.fullmatch(parts[-1].strip())
        key, equals, value = parts[-1].strip().partition("=")
        if window is not None:
            found |= {"start": float(window[1]), "end": float(window[2])}
        elif equals and key.isidentifier():
            _keep(text, key, value, found, params)
        else:
            break
        parts.pop()
    return ",".join(parts), found | ({"params": params} if params else {})


def _keep(text: str, key: str, value: str, found: dict[str, Any], params: dict[str, str]) -> None:
    if key not in KEYS:
        params[key] = value
    elif key == "resolution":
        if not value.isdecimal() or len(value) > 6:
            raise _unreadable(text)
        found[KEYS[key]] = int(value)
    else:
        found[KEYS[key]] = value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _unreadable(text: str) -> InvalidRequestError:
    return InvalidRequestError(
        "the control cannot be read",
        field="--control",
        value=text,
        allowed=f"{SYNTAX}, with {', '.join(KEYS)} or a setting of the annotator as KEY",
        next_step="for example --control danqing-mini-line:cat.png:canny@0.8,0-0.6",
    )
