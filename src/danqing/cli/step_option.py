"""Steps of a retouch, each in one word of the command line: `--detail "face,strength=0.5:a smiling girl"`."""

from __future__ import annotations

import re
from typing import Any

from danqing.spec.errors import InvalidRequestError

SYNTAX = {
    "detail": "WHAT[,NAME=VALUE…][:WORDS[ --no WORDS]]",
    "restore_faces": "[FILE][,NAME=VALUE…]",
    "upscale": "TIMES|WxH[,NAME=VALUE…][,tiled[:WORDS[ --no WORDS]]]",
    "cutout": "[METHOD][,NAME=VALUE…]",
}
STEP_OPTIONS = {
    "detail": "--detail",
    "restore_faces": "--restore-faces",
    "upscale": "--upscale",
    "cutout": "--cutout",
}
DEFAULT_HEADS = {"detail": "face", "restore_faces": "auto", "upscale": "2", "cutout": "auto"}
"""What an option means that is given without a value."""
_PAINTING = {
    "steps": "steps",
    "cfg": "guidance_scale",
    "sampler": "sampler",
    "schedule": "schedule",
    "model": "model",
    "strength": "strength",
}
NAMES: dict[str, dict[str, str]] = {
    "detail": {
        **_PAINTING,
        "confidence": "confidence",
        "dilate": "dilate_px",
        "blur": "blur_px",
        "padding": "padding_px",
        "max": "max_count",
        "keep": "keep",
        "min-area": "min_area",
        "max-area": "max_area",
        "sort": "sort",
        "merge": "merge",
        "outline": "outline",
        "x": "offset_x_px",
        "y": "offset_y_px",
        "width": "width_px",
        "height": "height_px",
        "classes": "classes",
    },
    "restore_faces": {
        "visibility": "visibility",
        "fidelity": "fidelity",
        "confidence": "confidence",
        "max": "max_count",
    },
    "upscale": {**_PAINTING, "by": "upscaler", "mode": "mode", "tile": "tile_px", "overlap": "overlap_px"},
    "cutout": {"grow": "grow_px", "trim": "trim", "background": "background"},
}
_NOT = re.compile(r"\s--no\s", re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,6})\s*[x×]\s*(\d{1,6})", re.IGNORECASE)
_TIMES = re.compile(r"(\d*\.?\d+)\s*[x×]?", re.IGNORECASE)
_WORD = "word:"


def parse_step(kind: str, text: str) -> dict[str, Any]:
    """A step as typed.

    Args:
        kind: Of the step.
        text: What stands behind its option.

    Raises:
        InvalidRequestError: It does not have the form of `SYNTAX`.

    >>> parse_step("detail", "face,strength=.5:a smiling girl --no teeth")["negative_prompt"]
    'teeth'
    >>> parse_step("upscale", "4,by=Lanczos")
    {'kind': 'upscale', 'scale': '4', 'upscaler': 'Lanczos'}
    >>> parse_step("detail", "word:red apple")
    {'kind': 'detail', 'detect': 'word:red apple'}
    """
    place, said = _split(text)
    head, *pairs = (part.strip() for part in place.split(","))
    step: dict[str, Any] = {"kind": kind, **_head(kind, head, text)}
    own: dict[str, Any] = {}
    flags: set[str] = set()
    for pair in filter(None, pairs):
        name, sign, value = pair.partition("=")
        if not sign:
            flags.add(name)
            continue
        field = NAMES[kind].get(name.strip().lower().replace("_", "-"))
        if field is None or not value.strip():
            raise _unreadable(kind, text, f"{', '.join(NAMES[kind])} with =VALUE")
        own[field] = tuple(part.strip() for part in value.split("+")) if field == "classes" else value.strip()
    if said:
        words = _NOT.split(said, maxsplit=1)
        own["prompt"] = words[0].strip()
        if len(words) > 1:
            own["negative_prompt"] = words[1].strip()
    return step | _placed(kind, own, flags, text)


def _split(text: str) -> tuple[str, str]:
    """What stands before the words, and the words."""
    start = len(_WORD) if text.lower().startswith(_WORD) else 0
    colon = text.find(":", start)
    return (text, "") if colon < 0 else (text[:colon], text[colon + 1 :].strip())


def _head(kind: str, head: str, text: str) -> dict[str, Any]:
    if kind == "detail":
        return {"detect": head or DEFAULT_HEADS[kind]}
    if kind == "cutout":
        return {"method": head or DEFAULT_HEADS[kind]}
    if kind == "restore_faces":
        return {} if head in ("", "auto") else {"model": head}
    size, times = _SIZE.fullmatch(head), _TIMES.fullmatch(head or DEFAULT_HEADS[kind])
    if size is not None:
        return {"width_px": size[1], "height_px": size[2]}
    if times is None:
        raise _unreadable(kind, text, "how many times larger, or WIDTHxHEIGHT")
    return {"scale": times[1]}


def _placed(kind: str, own: dict[str, Any], flags: set[str], text: str) -> dict[str, Any]:
    """The values where the step holds them; those of painting an enlarged picture again stand in `tiled`."""
    allowed = {"upscale": {"tiled"}, "cutout": {"trim"}}.get(kind, set())
    if not flags <= allowed or (kind in ("cutout", "restore_faces") and "prompt" in own):
        raise _unreadable(kind, text, "")
    if kind == "cutout" and "trim" in flags:
        own["trim"] = True
    if kind != "upscale":
        return own
    tiled = {name: value for name, value in own.items() if name != "upscaler"}
    found = {"upscaler": own["upscaler"]} if "upscaler" in own else {}
    return found | ({"tiled": tiled} if flags or tiled else {})


def _unreadable(kind: str, text: str, allowed: str) -> InvalidRequestError:
    examples = {
        "detail": '--detail "face,strength=0.5:a smiling girl"',
        "restore_faces": "--restore-faces GFPGANv1.4,visibility=0.8",
        "upscale": "--upscale 4,by=Lanczos,tiled,strength=0.2",
        "cutout": "--cutout plain,trim",
    }
    return InvalidRequestError(
        "the step cannot be read",
        field=STEP_OPTIONS[kind],
        value=text,
        allowed=f"{SYNTAX[kind]}{'; ' if allowed else ''}{allowed}",
        next_step=f"for example {examples[kind]}",
    )
