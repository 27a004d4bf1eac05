"""`--shortcuts`: what a pass leaves out, number by number, in one word of the command line."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import InvalidRequestError

SYNTAX = "interval=3,branch=1,window=0:0.8,merge=0.5"
_WHOLE = {"interval": "cache_interval", "branch": "cache_branch"}
_SHARE = r"\d*\.?\d+"


def parse_shortcuts(text: str) -> dict[str, Any]:
    """Shortcuts as typed, each at most once.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_shortcuts("interval=3, window=0:0.8")
    {'cache_interval': 3, 'guidance_window': (0.0, 0.8)}
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = (piece.strip().lower() for piece in part.partition("="))
        if name in _WHOLE and value.isdecimal() and len(value) < 4:
            key, number = _WHOLE[name], int(value)
        elif name == "merge" and re.fullmatch(_SHARE, value):
            key, number = "token_merging", float(value)
        elif name == "window" and (ends := re.fullmatch(f"({_SHARE}):({_SHARE})", value)):
            key, number = "guidance_window", (float(ends[1]), float(ends[2]))
        else:
            key, number = "", None
        if not key or key in found:
            raise InvalidRequestError(
                "the shortcuts cannot be read",
                field="--shortcuts",
                value=text,
                allowed="interval, branch, window, merge, each once: " + SYNTAX,
            )
        found[key] = number
    return found
