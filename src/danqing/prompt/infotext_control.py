"""ControlNet units in an infotext: one pair for each, as A1111's ControlNet extension writes them, and back.

`ControlNet 0: "Module: canny, Model: line [0123456789], Weight: 0.8, …"`. What the extension does not write (pictures,
masks, settings by name) stands in further pairs of our own, which it ignores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from danqing.prompt.infotext_fields import number
from danqing.prompt.infotext_text import parse_pairs, quote
from danqing.spec.control import MAX_CONTROLS, ControlUnit
from danqing.spec.registry.annotators import ANNOTATORS
from danqing.spec.registry.lookup import match

KEY = re.compile(r"ControlNet (\d{1,2})")
_OWN: Final = "Params"
"""Stands in every text of ours and in none of the extension's."""
_HASH = re.compile(r" \[[0-9a-f]{8,10}\]$")
_RESIZE: Final = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill"}
_MODES: Final = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}
_PASSES: Final = {"both": "Both", "base": "Low res only", "hires": "High res only"}
_THRESHOLDS: Final = {"Threshold A": "threshold_a", "Threshold B": "threshold_b"}


def control_fields(units: Sequence[ControlUnit], hashes: Sequence[str] = ()) -> dict[str, str]:
    """The pairs of some units.

    Args:
        units: Of a Request.
        hashes: The first ten digits of each ControlNet's hash, where they are known.
    """
    return {
        f"ControlNet {index}": _written(unit, hashes[index] if index < len(hashes) else None)
        for index, unit in enumerate(units)
    }


def units_from(fields: Mapping[str, str], *, has_init: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The units that an infotext tells of, as data of a Request, and notes on what was left out.

    Args:
        fields: The pairs of an infotext.
        has_init: Whether the Request starts from a picture, which a unit without one follows.
    """
    units: list[dict[str, Any]] = []
    notes: list[str] = []
    for key, text in fields.items():
        if KEY.fullmatch(key) is None or len(units) == MAX_CONTROLS:
            continue
        try:
            unit = _read(parse_pairs(text))
        except (ValueError, TypeError, RecursionError):
            notes.append(f"{key}: {text[:60]!r} is not readable and was left out")
            continue
        if "image" not in unit and not has_init:
            notes.append(f"{key} ({unit['model']}) was left out: the text does not hold its control picture")
            continue
        units.append(unit)
    return units, notes


def _written(unit: ControlUnit, short_hash: str | None) -> str:
    pairs = {
        "Module": unit.annotator,
        "Model": unit.model if short_hash is None else f"{unit.model} [{short_hash}]",
        "Weight": number(unit.weight),
        "Resize Mode": _RESIZE[unit.resize_mode],
        "Processor Res": str(unit.resolution_px or ""),
        **_thresholds(unit),
        "Guidance Start": number(unit.start),
        "Guidance End": number(unit.end),
        "Pixel Perfect": str(unit.pixel_perfect),
        "Control Mode": _MODES[unit.mode],
        "Hr Option": _PASSES[unit.passes],
        "Image": unit.image or "",
        "Mask": unit.mask or "",
        "Union Type": unit.control_type or "",
        _OWN: json.dumps(unit.params, ensure_ascii=False),
    }
    return ", ".join(f"{key}: {quote(value)}" for key, value in pairs.items() if value)


def _thresholds(unit: ControlUnit) -> dict[str, str]:
    """The extension's two nameless settings, where the annotator has them."""
    info = match(ANNOTATORS, unit.annotator)
    found: dict[str, str] = {}
    for parameter in info.parameters if info is not None else ():
        for key, alias in _THRESHOLDS.items():
            if alias in parameter.aliases:
                names = (parameter.key, *parameter.aliases)
                given = [unit.params[name] for name in names if name in unit.params]
                found[key] = str(given[0] if given else parameter.default)
    return found


def _read(pairs: Mapping[str, str]) -> dict[str, Any]:
    unit: dict[str, Any] = {
        "model": _HASH.sub("", pairs["Model"]) if pairs.get("Model") else _missing("Model"),
        "annotator": pairs.get("Module", "none"),
    }
    for key, name, choices in (
        ("Resize Mode", "resize_mode", _RESIZE),
        ("Control Mode", "mode", _MODES),
        ("Hr Option", "passes", _PASSES),
    ):
        if key in pairs:
            unit[name] = next((value for value, label in choices.items() if label == pairs[key]), None) or _missing(key)
    for key, name in (("Weight", "weight"), ("Guidance Start", "start"), ("Guidance End", "end")):
        if key in pairs:
            unit[name] = float(pairs[key])
    if "Pixel Perfect" in pairs:
        unit["pixel_perfect"] = pairs["Pixel Perfect"].casefold() == "true"
    # The extension writes its resolution also where pixel-perfect wins over it.
    if "Processor Res" in pairs and (_OWN in pairs or not unit.get("pixel_perfect")):
        unit["resolution_px"] = int(pairs["Processor Res"])
    for key, name in (("Image", "image"), ("Mask", "mask"), ("Union Type", "control_type")):
        if key in pairs:
            unit[name] = pairs[key]
    params = _params(unit["annotator"], pairs)
    return unit | ({"params": params} if params else {})


def _params(annotator: str, pairs: Mapping[str, str]) -> dict[str, Any]:
    if _OWN in pairs:
        # The thresholds repeat what stands here, or are the defaults.
        return cast("dict[str, Any]", json.loads(pairs[_OWN]))
    info = match(ANNOTATORS, annotator)
    known = {alias for parameter in info.parameters for alias in parameter.aliases} if info is not None else set[str]()
    return {alias: float(pairs[key]) for key, alias in _THRESHOLDS.items() if key in pairs and alias in known}


def _missing(key: str) -> str:
    raise ValueError(key)
