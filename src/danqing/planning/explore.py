"""A comparison to the Requests of its cells. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any, cast

from danqing.spec.errors import InvalidRequestError
from danqing.spec.explore import MAX_CELLS, Axis, ExploreRequest
from danqing.spec.registry.axes import AxisInfo, find_axis
from danqing.spec.request import Request, parse_request

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_STEPPED = re.compile(rf"^\s*({_NUMBER})\s*-\s*({_NUMBER})(?:\s*\(\s*({_NUMBER})\s*\))?\s*$")
_COUNTED = re.compile(rf"^\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\[\s*(\d+)\s*\]\s*$")
_SIZE = re.compile(r"^(\d{1,5})\s*[x×]\s*(\d{1,5})$", re.IGNORECASE)
_MAX_ORDERED = 5
_EPSILON = 1e-9

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Line:
    """An axis with its values read.

    Attributes:
        info: What is tried out.
        values: What stands in the Requests; for a replacement (looked for, put there), for an order the parts.
        labels: The same as a person reads it.
    """

    info: AxisInfo
    values: Values
    labels: tuple[str, ...]


@dataclass(frozen=True)
class CellPlan:
    """A cell: its place along each axis, its labels, and its Request."""

    place: tuple[int, int, int]
    labels: tuple[str, ...]
    request: Request


def lines_of(asked: ExploreRequest) -> tuple[Line, ...]:
    """The axes with their values read, x first.

    Raises:
        InvalidRequestError: An axis or a value that makes no sense, or too many cells.
    """
    given = [(name, axis) for name, axis in (("x", asked.x), ("y", asked.y), ("z", asked.z)) if axis is not None]
    if asked.z is not None and asked.y is None:
        raise InvalidRequestError("a third axis needs a second one", field="z", next_step="give it as y")
    lines = tuple(read_axis(axis, name) for name, axis in given)
    count = 1
    for line in lines:
        count *= len(line.values)
    if count > MAX_CELLS:
        raise InvalidRequestError(
            "that would be too many pictures",
            field=given[-1][0],
            value=count,
            allowed=f"at most {MAX_CELLS}",
            next_step="take fewer values on an axis",
        )
    return lines


def cells_of(asked: ExploreRequest, lines: tuple[Line, ...], seed: int) -> tuple[CellPlan, ...]:
    """The cells, those that share a model one after the other.

    Args:
        asked: The comparison.
        lines: Its axes.
        seed: What a Request without one gets, so that only the axes differ between the pictures.

    Raises:
        InvalidRequestError: A value that the Request does not allow; its `field` is the axis.
    """
    if asked.request.count != 1:
        raise InvalidRequestError(
            "every place of a comparison is one picture",
            field="request.count",
            value=asked.request.count,
            allowed="1",
            next_step="compare several seeds with the axis Seed",
        )
    found = [_cell(asked, lines, place, seed) for place in product(*(range(len(line.values)) for line in lines))]
    slow = [-line.info.slow for line in lines]
    order = sorted(range(len(lines)), key=lambda i: slow[i])
    return tuple(sorted(found, key=lambda cell: [cell.place[i] for i in order]))


def _cell(asked: ExploreRequest, lines: tuple[Line, ...], place: tuple[int, ...], seed: int) -> CellPlan:
    data: dict[str, Any] = asked.request.model_dump(mode="json")
    if data.get("seed") is None and not asked.vary_seeds:
        data["seed"] = seed
    labels: list[str] = []
    for name, line, at in zip("xyz", lines, place, strict=False):
        labels.append(line.labels[at])
        try:
            _put_value(data, line.info, line.values[at])
            parse_request(data)
        except InvalidRequestError as error:
            raise InvalidRequestError(
                f"{line.info.name} {line.labels[at]!r}: {error.message}",
                field=name,
                value=error.value,
                allowed=error.allowed,
                next_step=error.next_step,
            ) from error
    x, y, z = (*place, 0, 0)[:3]
    return CellPlan((x, y, z), tuple(labels), parse_request(data))


def read_axis(axis: Axis, field: str) -> Line:
    """One axis with its values read.

    Args:
        axis: As asked for.
        field: x, y or z, for errors.

    Raises:
        InvalidRequestError: There is no such axis, or a value cannot be read.
    """
    info = find_axis(axis.axis, f"{field}.axis")
    where = f"{field}.values"
    if info.values == "network":
        return _network_line(info, axis.values, where)
    parts = split_values(axis.values)
    if not parts:
        raise _unread(info, axis.values, where)
    if info.values in ("integer", "number"):
        numbers = [number for part in parts for number in read_numbers(part, info, where)]
        return Line(info, tuple(numbers), tuple(f"{number:g}" for number in numbers))
    if info.values == "size":
        sizes = [_size(part, info, where) for part in parts]
        return Line(info, tuple(sizes), tuple(f"{width}×{height}" for width, height in sizes))
    if info.values == "replace":
        return Line(info, tuple((parts[0], part) for part in parts), tuple(parts))
    if info.values == "order":
        if not 2 <= len(parts) <= _MAX_ORDERED:
            raise InvalidRequestError(
                "an order needs some parts", field=where, value=len(parts), allowed=f"2 to {_MAX_ORDERED} parts"
            )
        return Line(info, tuple(permutations(parts)), tuple(", ".join(one) for one in permutations(parts)))
    values = [None if info.empty and part.casefold() == info.empty else part for part in parts]
    return Line(info, tuple(values), tuple("–" if value is None else value for value in values))


def split_values(text: str) -> list[str]:
    """Values between commas; double quotes keep a comma inside, a doubled one is itself.

    >>> split_values('cat, "a dog, sleeping", fox')
    ['cat', 'a dog, sleeping', 'fox']
    """
    rows = csv.reader([text.replace("\r", " ").replace("\n", " ")], skipinitialspace=True)
    return [part.strip() for row in rows for part in row if part.strip()]


def read_numbers(text: str, info: AxisInfo, field: str) -> list[float]:
    """A number or a range: `1-5`, `1-9 (+2)`, `10-1 (-3)`, `0-1 [5]`.

    Raises:
        InvalidRequestError: It is neither, or a range without end.
    """
    whole = info.values == "integer"
    counted = _COUNTED.match(text)
    if counted:
        low, high, count = float(counted[1]), float(counted[2]), int(counted[3])
        if not 1 <= count <= MAX_CELLS:
            raise _unread(info, text, field)
        found = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
        return [round(one) if whole else round(one, 6) for one in found]
    stepped = _STEPPED.match(text)
    if stepped:
        low, high = float(stepped[1]), float(stepped[2])
        step = float(stepped[3]) if stepped[3] else (1.0 if high >= low else -1.0)
        count = (high - low) / step if step else -1.0
        if not 0 <= count < MAX_CELLS:
            raise _unread(info, text, field)
        found = [low + step * i for i in range(int(count + _EPSILON) + 1)]
        return [round(one) if whole else round(one, 6) for one in found]
    try:
        return [int(text) if whole else float(text)]
    except ValueError:
        raise _unread(info, text, field) from None


def _size(text: str, info: AxisInfo, field: str) -> tuple[int, int]:
    found = _SIZE.match(text)
    if found is None:
        raise _unread(info, text, field)
    return int(found[1]), int(found[2])


def _network_line(info: AxisInfo, text: str, field: str) -> Line:
    name, _, rest = text.partition(":")
    numbers = [n for part in split_values(rest) for n in read_numbers(part, info, field)] if name.strip() else []
    if not numbers:
        raise _unread(info, text, field)
    return Line(info, tuple((name.strip(), n) for n in numbers), tuple(f"{name.strip()} {n:g}" for n in numbers))


def _unread(info: AxisInfo, text: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the values of {info.name} cannot be read",
        field=field,
        value=text,
        allowed="numbers, or ranges like 1-5, 1-9 (+2), 0-1 [5]" if info.values in ("integer", "number") else None,
        next_step=f"for example {info.example}",
    )


def _put_value(data: dict[str, Any], info: AxisInfo, value: Any) -> None:
    if info.values == "replace":
        _replace(data, *value)
    elif info.values == "order":
        _reorder(data, value)
    elif info.values == "network":
        _weigh(data, *value)
    elif info.values == "size":
        data["width_px"], data["height_px"] = value
    elif info.key == "style":
        data["styles"] = [*data["styles"], *([] if value is None else [value])]
    elif info.key == "strength" and data["kind"] == "txt2img":
        _put(data, "hires.strength", value, info)
    elif info.key == "refiner" and value is None:
        data["refiner"] = None
    else:
        _put(data, info.path, value, info)


def _put(data: dict[str, Any], path: str, value: Any, info: AxisInfo) -> None:
    """Sets one field; a part of the Request that is not there is begun if that makes sense by itself."""
    *parents, last = path.split(".")
    place: Any = data
    for parent in parents:
        if isinstance(place, list):
            items = cast("list[Any]", place)
            if len(items) <= int(parent):
                raise _absent(info)
            place = items[int(parent)]
            continue
        if place.get(parent) is None:
            begun: dict[str, dict[str, Any]] = {"variation": {"strength": 0.3}, "refiner": {}}
            if parent not in begun:
                raise _absent(info)
            place[parent] = begun[parent]
        place = place[parent]
    place[last] = value


def _absent(info: AxisInfo) -> InvalidRequestError:
    what = {"hires": "a second, larger pass", "controls": "a control", "image_prompts": "an image prompt"}
    return InvalidRequestError(
        f"{info.name} needs {what.get(info.path.partition('.')[0], 'something')} in the request",
        value=info.path,
        next_step="add it to the request, or take another axis",
    )


def _replace(data: dict[str, Any], wanted: str, given: str) -> None:
    fields = ("prompt", "negative_prompt")
    if not any(wanted in data[field] for field in fields):
        raise InvalidRequestError(
            "the first value does not stand in the prompt",
            value=wanted,
            allowed="a word or phrase of the prompt or the negative prompt",
            next_step="write first what is to be replaced",
        )
    for field in fields:
        data[field] = data[field].replace(wanted, given)


def _reorder(data: dict[str, Any], order: tuple[str, ...]) -> None:
    prompt: str = data["prompt"]
    spans = sorted(_spans(prompt, order))
    out, at = "", 0
    for (start, end), part in zip(spans, order, strict=True):
        out += prompt[at:start] + part
        at = end
    data["prompt"] = out + prompt[at:]


def _spans(prompt: str, parts: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for part in parts:
        start = prompt.find(part)
        if start < 0:
            raise InvalidRequestError(
                "this part does not stand in the prompt", value=part, next_step="write parts as they stand there"
            )
        yield start, start + len(part)


def _weigh(data: dict[str, Any], name: str, weight: float) -> None:
    """Gives a LoRA's tag this strength, or adds the tag."""
    tag = re.compile(rf"<lora:{re.escape(name)}(?::[^>]*)?>", re.IGNORECASE)
    new = f"<lora:{name}:{weight:g}>"
    prompt, count = tag.subn(lambda _: new, data["prompt"])
    data["prompt"] = prompt if count else f"{data['prompt']} {new}"
