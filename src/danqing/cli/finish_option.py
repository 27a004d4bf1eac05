"""`--finish`: a step of retouching that is done after the last pass, in one word of the command line."""

from __future__ import annotations

import json
from typing import Any, cast

from danqing.cli.step_option import DEFAULT_HEADS, STEP_OPTIONS, SYNTAX, parse_step
from danqing.spec.errors import InvalidRequestError

FINISH_SYNTAX = "STEP[ HOW]"
_ALLOWED = "detail, restore-faces, upscale or cutout, then what `danqing retouch` takes behind the option of that name"
_EXAMPLE = {
    "detail": '--finish "detail face,strength=0.5:a smiling girl"',
    "restore_faces": '--finish "restore-faces GFPGANv1.4,visibility=0.8"',
    "upscale": '--finish "upscale 2,by=Lanczos"',
    "cutout": '--finish "cutout plain,trim"',
}


def parse_finish(text: str) -> dict[str, Any]:
    """A step as typed: its kind and how it is done, as behind the options of `danqing retouch`; or as JSON.

    Raises:
        InvalidRequestError: It has neither form.

    >>> parse_finish("detail face,strength=.5:a smile")
    {'kind': 'detail', 'detect': 'face', 'strength': '.5', 'prompt': 'a smile'}
    >>> parse_finish("cutout"), parse_finish('{"kind": "upscale", "scale": 2}')
    ({'kind': 'cutout', 'method': 'auto'}, {'kind': 'upscale', 'scale': 2})
    """
    if text.lstrip().startswith("{"):
        return _from_json(text)
    said, _, how = text.strip().partition(" ")
    kind = said.lower().replace("-", "_")
    if kind not in STEP_OPTIONS:
        raise InvalidRequestError(
            "there is no such step", field="--finish", value=text, allowed=_ALLOWED, next_step=_for_example("detail")
        )
    try:
        return parse_step(kind, how.strip() or DEFAULT_HEADS[kind])
    except InvalidRequestError as error:
        more = (error.allowed or "").removeprefix(SYNTAX[kind])
        raise InvalidRequestError(
            error.message,
            field="--finish",
            value=text,
            allowed=f"{kind.replace('_', '-')} {SYNTAX[kind]}{more}",
            next_step=_for_example(kind),
        ) from error


def _from_json(text: str) -> dict[str, Any]:
    """One step as the API takes it."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            f"this is no JSON: {error.msg} at character {error.pos + 1}",
            field="--finish",
            value=text,
            allowed='an object such as {"kind": "upscale", "scale": 2}',
            next_step=f"correct it, or write the step in short: {_EXAMPLE['upscale']}",
        ) from error
    step = cast("dict[str, Any]", found)
    if step.get("kind") not in STEP_OPTIONS:
        raise InvalidRequestError(
            "the step does not say what it is",
            field="--finish",
            value=text,
            allowed=f"kind: {', '.join(STEP_OPTIONS)}",
            next_step='for example --finish \'{"kind": "upscale", "scale": 2}\'',
        )
    return step


def _for_example(kind: str) -> str:
    return f"for example {_EXAMPLE[kind]}"
