"""`--region`: a place in the picture and its words, in one word of the command line."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from danqing.spec.errors import InvalidRequestError

SYNTAX = "LEFT,TOP,RIGHT,BOTTOM|MASK[@WEIGHT][~FEATHER]:WORDS[ --no WORDS]"
_BOX = re.compile(r"\s*(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})\s*")
_SIDES = ("left_px", "top_px", "right_px", "bottom_px")
_PLACE = re.compile(r"(?P<place>.+?)(?:@(?P<weight>\d*\.?\d+))?(?:~(?P<feather>\d{1,4}))?", re.DOTALL)
_NOT = re.compile(r"\s--no\s", re.IGNORECASE)


def parse_region(text: str) -> dict[str, Any]:
    """A region as typed; a mask is still a file name, which may hold no colon but `record:`.

    Raises:
        InvalidRequestError: It does not have this form.

    >>> parse_region("0,0,64,128@0.8:a red heart, 3d --no leaves")["negative_prompt"]
    'leaves'
    >>> parse_region("sky.png~24:clouds")
    {'mask': 'sky.png', 'feather_px': 24, 'prompt': 'clouds'}

    As JSON it is what the API takes, with file names for pictures; so it may have a ControlNet of its own:

    >>> parse_region('{"prompt": "a house", "mask": "left.png", "control": {"model": "line", "image": "house.png"}}')
    {'prompt': 'a house', 'mask': 'left.png', 'control': {'model': 'line', 'image': 'house.png'}}
    """
    if text.lstrip().startswith("{"):
        return _from_json(text)
    start = len("record:") if text.startswith("record:") else 0
    colon = text.find(":", start)
    place = _PLACE.fullmatch(text[:colon].strip()) if colon > 0 else None
    said = _NOT.split(text[colon + 1 :].strip(), maxsplit=1)
    if place is None or not said[0].strip():
        raise _unreadable(text)
    box = _BOX.fullmatch(place["place"])
    found: dict[str, Any] = {"mask": place["place"].strip()}
    if box is not None:
        found = {"box": dict(zip(_SIDES, map(int, box.groups()), strict=True))}
    if place["weight"] is not None:
        found["weight"] = float(place["weight"])
    if place["feather"] is not None:
        found["feather_px"] = int(place["feather"])
    found["prompt"] = said[0].strip()
    if len(said) > 1:
        found["negative_prompt"] = said[1].strip()
    return found


def _from_json(text: str) -> dict[str, Any]:
    try:
        region = cast("dict[str, Any]", json.loads(text))
    except json.JSONDecodeError as error:
        raise _unreadable(text, f"no JSON: {error.msg} at character {error.pos + 1}") from error
    control = region.get("control")
    pictures = [region.get("mask"), *(control.get(name) for name in ("image", "mask") if isinstance(control, dict))]
    if any(one is not None and not isinstance(one, str) for one in pictures):
        raise _unreadable(text, "pictures are named by their files, or by record:ID")
    return region


def _unreadable(text: str, why: str = "") -> InvalidRequestError:
    return InvalidRequestError(
        f"the region cannot be read{': ' if why else ''}{why}",
        field="--region",
        value=text,
        allowed=f"{SYNTAX}, or one region as JSON",
        next_step='for example --region "0,0,64,128:a red heart, 3d"',
    )
