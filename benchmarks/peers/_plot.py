"""The result as a drawing (SVG, written by hand): bars of seconds for each case, lines for what grows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 960
LABEL = 300
BAR_H, GAP = 15, 4
HEAD = 46
PANEL_H = 250
COLOURS = {
    "danqing": "#b3402a",
    "danqing-float32": "#d98a77",
    "danqing-int8": "#e6b3a6",
    "diffusers": "#6b7280",
    "diffusers-best": "#374151",
    "diffusers-compiled": "#111827",
    "optimum": "#1d6fa5",
    "optimum-int8": "#78b0d6",
    "sdcpp-f16": "#3f7d4e",
    "sdcpp-q8_0": "#8dbb98",
    "comfyui": "#8a6fb5",
    "a1111": "#c29a3a",
}
Lines = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class _Row:
    """A bar."""

    name: str
    seconds: float
    note: str


def draw(details: dict[str, Any]) -> str:
    """The whole drawing from a result's `details`."""
    parts: list[str] = []
    top = 16.0
    for name, case in details["cases"].items():
        if case["axis"]:
            lines = _lines(case["points"])
            if lines:
                parts += _panel(f"{name}: {case['about']}", case["axis"], lines, top)
                top += PANEL_H
            continue
        for point in case["points"]:
            rows = _rows(point)
            if rows:
                parts += _bars(f"{name}: {point['label']}", rows, top)
                top += HEAD + len(rows) * (BAR_H + GAP) + 10
    if not parts:
        parts, top = [_text(16, 40, "Nothing was measured.", 14)], 60
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 10:.0f}" '
        f'width="{WIDTH}" height="{top + 10:.0f}" font-family="system-ui, sans-serif">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>", ""])


def _rows(point: dict[str, Any]) -> list[_Row]:
    found: list[_Row] = []
    for name, told in point["sides"].items():
        if "seconds" in told:
            kind = told["precision_class"]
            ratio = f" · × {told['ratio']:.2f}" if "ratio" in told else ""
            found.append(_Row(name, told["seconds"], f"{_number(told['seconds'])} s{ratio} · {kind}"))
    return found


def _bars(title: str, rows: list[_Row], top: float) -> list[str]:
    longest = max(row.seconds for row in rows)
    parts = [_text(16, top + 20, title, 15, weight=600)]
    for at, row in enumerate(rows):
        y = top + HEAD - 14 + at * (BAR_H + GAP)
        width = max(1.0, row.seconds / longest * (WIDTH - LABEL - 190))
        parts.append(_text(LABEL - 130, y + 12, row.name, 13, anchor="end"))
        parts.append(
            f'<rect x="{LABEL - 120}" y="{y:.1f}" width="{width:.1f}" height="{BAR_H}" fill="{_colour(row.name)}"/>'
        )
        parts.append(_text(LABEL - 112 + width, y + 12, row.note, 12, colour="#374151"))
    return parts


def _lines(points: Iterable[dict[str, Any]]) -> Lines:
    found: Lines = {}
    for point in points:
        for name, told in point["sides"].items():
            if "seconds" in told:
                found.setdefault(name, []).append((point["x"], told["seconds"]))
    return found


def _panel(title: str, axis: str, lines: Lines, top: float) -> list[str]:
    """Seconds over what grows, both axes logarithmic."""
    left, right, low, high = 70.0, WIDTH - 210.0, top + PANEL_H - 46, top + 36
    xs = sorted({x for line in lines.values() for x, _ in line})
    ys = [y for line in lines.values() for _, y in line]
    bottom, ceiling = min(ys) / 1.2, max(ys) * 1.2

    def place(x: float, y: float) -> tuple[float, float]:
        along = _share(x, xs[0], xs[-1]) if len(xs) > 1 else 0.5
        return left + along * (right - left), low - _share(y, bottom, ceiling) * (low - high)

    parts = [_text(16, top + 20, title, 15, weight=600)]
    parts.append(f'<path d="M{left} {high}V{low}H{right}" fill="none" stroke="#9ca3af"/>')
    parts += [_text(place(x, bottom)[0], low + 16, f"{x:g}", 12, anchor="middle") for x in xs]
    parts.append(_text((left + right) / 2, low + 34, axis, 12, anchor="middle", colour="#374151"))
    for y in _ticks(bottom, ceiling):
        at = place(xs[0], y)[1]
        parts.append(f'<path d="M{left} {at:.1f}H{right}" stroke="#e5e7eb"/>')
        parts.append(_text(left - 6, at + 4, f"{y:g} s", 12, anchor="end"))
    for row, (name, line) in enumerate(lines.items()):
        spots = [place(x, y) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        colour = _colour(name)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in spots]
        y = high + 6 + 17 * row
        parts.append(f'<rect x="{right + 24}" y="{y:.1f}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(right + 42, y + 11, name, 13))
    return parts


def _share(value: float, low: float, high: float) -> float:
    return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    found = [value for value in found if low <= value <= high]
    most = 6
    return found if len(found) <= most else [value for value in found if f"{value:e}".startswith("1")]


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def _colour(name: str) -> str:
    return COLOURS.get(name, "#9ca3af")


def _text(x: float, y: float, words: str, size: int, **style: Any) -> str:
    anchor, weight, colour = style.get("anchor", "start"), style.get("weight", 400), style.get("colour", "#111827")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{colour}">{escape(words)}</text>'
    )
