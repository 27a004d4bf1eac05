"""`--image-prompt`: a picture to paint like, in one word of the command line."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import InvalidRequestError

SYNTAX = "PICTURE[@WEIGHT][,START-END]"
_WINDOW = re.compile(r"^(.*),\s*(\d*\.?\d+)-(\d*\.?\d+)$", re.DOTALL)
_WEIGHT = re.compile(r"^(.*)@([^@/\\]*)$", re.DOTALL)


def parse_image_prompt(text: str, option: str = "--image-prompt") -> dict[str, Any]:
    """An image prompt as typed, its picture still a file name; read from its end, so that a path may hold these signs.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_image_prompt("cat.png@0.8,0-0.5")
    {'start': 0.0, 'end': 0.5, 'weight': 0.8, 'image': 'cat.png'}
    >>> parse_image_prompt("cat@2x.png")
    {'image': 'cat@2x.png'}
    """
    prompt: dict[str, Any] = {}
    rest = text.strip()
    window = _WINDOW.match(rest)
    if window is not None:
        rest = window[1].strip()
        prompt |= {"start": float(window[2]), "end": float(window[3])}
    weight = _WEIGHT.match(rest)
    if weight is not None and (number := _number(weight[2])) is not None:
        rest, prompt["weight"] = weight[1].strip(), number
    elif rest.endswith("@"):
        rest = ""
    if not rest:
        raise InvalidRequestError(
            "the image prompt cannot be read",
            field=option,
            value=text,
            allowed=f"{SYNTAX}, weight from 0 to 2",
            next_step="for example --image-prompt cat.png@0.8",
        )
    return prompt | {"image": rest}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
