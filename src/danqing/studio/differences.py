"""In what two versions differ: their Requests field by field, their pictures pixel by pixel."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
from PIL import Image

from danqing.spec.errors import DanqingError
from danqing.spec.project import Change, Comparison, Side
from danqing.spec.record import Record
from danqing.spec.request import Request

_NOT_TOLD = frozenset({"parent"})  # it is what the tree itself shows
_VISIBLE = 8
_ABSENT = object()


def request_of(record: Record) -> Request | None:
    """The Request of a Record's Plan, with every number given; None if this version of Danqing cannot tell."""
    from danqing.studio.reproduction import request_of_plan

    try:
        return request_of_plan(record.plan)
    except (DanqingError, ValueError):
        return None


def request_changes(old: Request | None, new: Request | None, picture: str | None = None) -> tuple[Change, ...]:
    """Where two Requests differ; fields that only one kind has count where they are not at their default.

    Args:
        old: Of the parent.
        new: Of the version.
        picture: Hash of the parent's picture: that the version starts from it goes without saying.
    """
    if old is None or new is None:
        return ()
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    said = [*_flat(new.model_dump(mode="json", exclude_defaults=True)), "kind"]
    said += _flat(old.model_dump(mode="json", exclude_defaults=True))
    paths = [path for path in dict.fromkeys(["kind", *said]) if path.split(".")[0] not in _NOT_TOLD]
    found = [(path, before.get(path, _ABSENT), after.get(path, _ABSENT)) for path in paths]
    return tuple(
        Change(field=path, old=_told(was), new=_told(becomes))
        for path, was, becomes in found
        if was != becomes and not (path == "image" and becomes == f"sha256:{picture}")
    )


def compare(a: tuple[Record, bytes], b: tuple[Record, bytes]) -> Comparison:
    """Two Records and the bytes of their pictures, measured."""
    first, second = _pixels(a[1], None), _pixels(b[1], None)
    same_size = first.shape == second.shape
    if not same_size:
        second = _pixels(b[1], (first.shape[1], first.shape[0]))
    difference = np.abs(first - second).max(axis=2)
    changed = difference > _VISIBLE
    return Comparison(
        a=_side(a[0]),
        b=_side(b[0]),
        same_size=same_size,
        identical=same_size and not bool(difference.any()),
        mean_difference=float(np.abs(first - second).mean() / 255.0),
        max_difference=float(difference.max() / 255.0),
        changed_share=float(changed.mean()),
        changed_box=_bounds(changed),
        changes=request_changes(request_of(a[0]), request_of(b[0]), a[0].picture),
    )


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _told(value: Any) -> Any:
    return None if value is _ABSENT else value


def _side(record: Record) -> Side:
    return Side(record=record.id, picture=record.picture, width_px=record.width_px, height_px=record.height_px)


def _pixels(data: bytes, size: tuple[int, int] | None) -> np.ndarray[Any, np.dtype[np.int16]]:
    """RGB [h, w, 3]; transparent parts on white."""
    with Image.open(io.BytesIO(data)) as image:
        plain = image.convert("RGBA")
    paper = Image.new("RGBA", plain.size, "white")
    paper.alpha_composite(plain)
    rgb = paper.convert("RGB")
    if size is not None:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(rgb, dtype=np.int16)


def _bounds(changed: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not len(rows):
        return None
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
