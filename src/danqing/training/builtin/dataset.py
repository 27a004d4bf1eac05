"""Joins art with labels, renders it and keeps the result as arrays."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.config import DataConfig, SourceConfig
from danqing.training.builtin.sources import fetch, read_folder, read_json

LOCALES = ("en", "zh", "zh-hant")


@dataclass(frozen=True)
class Concept:
    """An emoji: its code points and its words in each locale (label first, then tags)."""

    hexcode: str
    subgroup: str
    words: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Picture:
    """One drawing of a concept in one style; `row` is its place in the array of pictures."""

    row: int
    style: str
    concept: Concept


@dataclass(frozen=True)
class Dataset:
    """Pictures and their pixels: `rgba` is uint8 `[n, size, size, 4]`, straight alpha."""

    pictures: tuple[Picture, ...]
    rgba: NDArray[np.uint8]


def normal_hexcode(code: str) -> str:
    """Upper case without the variation selector, so that all packages agree (`2764-fe0f` is `2764`)."""
    return "-".join(part for part in code.upper().split("-") if part != "FE0F")


def join_concepts(
    tables: dict[str, list[dict[str, Any]]], subgroups: dict[str, str], config: DataConfig
) -> list[Concept]:
    """The concepts that the configuration keeps, in the order of the English table.

    Args:
        tables: emojibase's `data.json` for each locale.
        subgroups: emojibase's subgroup number → name.
        config: Which subgroups to keep and which labels to leave out.
    """
    by_locale = {loc: {row["hexcode"]: row for row in rows} for loc, rows in tables.items()}
    exclude = [re.compile(p) for p in config.exclude]
    out: list[Concept] = []
    for row in tables["en"]:
        subgroup = subgroups.get(str(row.get("subgroup")), "")
        if subgroup not in config.subgroups or any(p.search(row["label"]) for p in exclude):
            continue
        words: dict[str, tuple[str, ...]] = {}
        for locale, rows in by_locale.items():
            found = rows.get(row["hexcode"])
            if found is not None:
                words[locale] = tuple(dict.fromkeys([found["label"], *found.get("tags", [])]))
        out.append(Concept(normal_hexcode(row["hexcode"]), subgroup, words))
    return out


def render_svg(body: str, view: tuple[int, int, int, int], size_px: int) -> NDArray[np.uint8]:
    """An icon body drawn on transparency, `[size, size, 4]`."""
    import resvg_py

    left, top, width, height = view
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {names} viewBox="{left} {top} {width} {height}">{body}</svg>'
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA").resize((size_px, size_px)))


def resize_rgba(data: bytes, size_px: int) -> NDArray[np.uint8]:
    """A bitmap reduced to `[size, size, 4]`, alpha premultiplied while filtering so that edges stay clean."""
    image = Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa")
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.LANCZOS).convert("RGBA"))


def _iconify(source: SourceConfig, folder: Path, concepts: list[Concept], size_px: int) -> dict[str, NDArray[np.uint8]]:
    tarball = fetch(source, folder)
    icons, chars = read_json(tarball, "icons.json"), read_json(tarball, "chars.json")
    names = {normal_hexcode(code): name for code, name in chars.items()}
    out: dict[str, NDArray[np.uint8]] = {}
    for concept in concepts:
        icon = icons["icons"].get(names.get(concept.hexcode, ""))
        if icon is not None:
            default = icons.get("width", 16), icons.get("height", 16)
            view = (
                icon.get("left", 0),
                icon.get("top", 0),
                icon.get("width", default[0]),
                icon.get("height", default[1]),
            )
            out[concept.hexcode] = render_svg(icon["body"], view, size_px)
    return out


def _bitmaps(source: SourceConfig, folder: Path, concepts: list[Concept], size_px: int) -> dict[str, NDArray[np.uint8]]:
    files = read_folder(fetch(source, folder), "assets")
    names = {normal_hexcode(name.rsplit(".", 1)[0]): data for name, data in files.items()}
    return {c.hexcode: resize_rgba(names[c.hexcode], size_px) for c in concepts if c.hexcode in names}


def build(config: DataConfig, folder: Path) -> Dataset:
    """Fetches, joins and renders everything that the configuration names.

    Raises:
        InvalidRequestError: No labels package is configured, or nothing is left to draw.
    """
    labels = next((s for s in config.sources if s.kind == "labels"), None)
    if labels is None:
        raise InvalidRequestError("no package of kind 'labels' is configured", field="data.sources")
    tarball = fetch(labels, folder)
    tables = {locale: read_json(tarball, f"{locale}/data.json") for locale in LOCALES}
    subgroups = read_json(tarball, "meta/groups.json")["subgroups"]
    concepts = join_concepts(tables, subgroups, config)
    pictures: list[Picture] = []
    pixels: list[NDArray[np.uint8]] = []
    for source in config.sources:
        if source.kind == "labels":
            continue
        draw = _iconify if source.kind == "iconify" else _bitmaps
        drawn = draw(source, folder, concepts, config.size_px)
        for concept in concepts:
            if concept.hexcode in drawn:
                pictures.append(Picture(len(pictures), source.style, concept))
                pixels.append(drawn[concept.hexcode])
    if not pictures:
        raise InvalidRequestError("the configuration leaves no picture to learn from", field="data.subgroups")
    return Dataset(tuple(pictures), np.stack(pixels))


def save(dataset: Dataset, folder: Path) -> None:
    """Writes `pictures.npy` and `pictures.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pictures.npy", dataset.rgba)
    rows = [dataclasses.asdict(p) for p in dataset.pictures]
    (folder / "pictures.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def load(folder: Path) -> Dataset:
    """Reads what `save` wrote."""
    rows = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    pictures = tuple(
        Picture(
            r["row"],
            r["style"],
            Concept(
                r["concept"]["hexcode"],
                r["concept"]["subgroup"],
                {k: tuple(v) for k, v in r["concept"]["words"].items()},
            ),
        )
        for r in rows
    )
    return Dataset(pictures, np.load(folder / "pictures.npy"))


def composite(rgba: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.float32]:
    """Pictures over one flat colour: `[n, h, w, 4]` uint8 → `[n, 3, h, w]` float32 in [-1, 1]."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    rgb = rgba[..., :3].astype(np.float32) * alpha + np.asarray(color, np.float32) * (1.0 - alpha)
    return np.ascontiguousarray((rgb / 127.5 - 1.0).transpose(0, 3, 1, 2))
