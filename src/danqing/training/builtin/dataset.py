"""Joins art with labels, renders it and keeps the result as arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.spec.errors import InvalidRequestError, NotFoundError
from danqing.training.builtin.config import DataConfig, SourceConfig
from danqing.training.builtin.sources import fetch, read_chars, read_folder, read_json

LOCALES = ("en", "zh", "zh-hant")
Drawing = Callable[[int], NDArray[np.uint8]]
"""Draws one picture at a size in pixels: RGBA uint8 `[size, size, 4]`."""


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
        if not subgroup or subgroup in config.exclude_subgroups:
            continue
        if config.subgroups and subgroup not in config.subgroups:
            continue
        if any(p.search(row["label"]) for p in exclude):
            continue
        words: dict[str, tuple[str, ...]] = {}
        for locale, rows in by_locale.items():
            found = rows.get(row["hexcode"])
            if found is not None:
                # some rows hold all their tags as one text
                tags = [part.strip() for tag in found.get("tags", []) for part in re.split("[,，、]", tag)]
                words[locale] = tuple(dict.fromkeys([found["label"], *(tag for tag in tags if tag)]))
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


def name_slug(text: str) -> str:
    """A label as icon packages name files: `Woman’s Hat` is `woman-s-hat`; compared without hyphens."""
    return re.sub(r"[^a-z0-9]+", "", text.lower().replace("’", "'"))


def _iconify(
    source: SourceConfig, folder: Path, concepts: list[Concept], names: dict[str, str]
) -> Iterator[tuple[Concept, Drawing]]:
    """The package's icons, joined by its own table of code points or by `names` (slug → code points)."""
    icons, chars = read_json(fetch(source, folder), "icons.json"), read_chars(source, folder)
    by_code = {names.get(name_slug(name), ""): name for name in icons["icons"]}
    by_code |= {normal_hexcode(code): name for code, name in chars.items()}
    for concept in concepts:
        icon = icons["icons"].get(by_code.get(concept.hexcode, ""))
        if icon is None:
            continue
        width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
        view = (icon.get("left", 0), icon.get("top", 0), width, height)
        yield concept, partial(render_svg, icon["body"], view)


def _bitmaps(
    source: SourceConfig, folder: Path, concepts: list[Concept], names: dict[str, str]
) -> Iterator[tuple[Concept, Drawing]]:
    del names
    files = read_folder(fetch(source, folder), "assets")
    by_code = {normal_hexcode(name.rsplit(".", 1)[0]): data for name, data in files.items()}
    for concept in concepts:
        if concept.hexcode in by_code:
            yield concept, partial(resize_rgba, by_code[concept.hexcode])


def _named(
    source: SourceConfig, folder: Path, concepts: list[Concept], names: dict[str, str]
) -> Iterator[tuple[Concept, Drawing]]:
    """Icons that are no emoji: the file's name is the English label, and there is no Chinese one."""
    known = {c.hexcode for c in concepts}
    icons = read_json(fetch(source, folder), "icons.json")
    size = icons.get("width", 16), icons.get("height", 16)
    for name, icon in icons["icons"].items():
        if names.get(name_slug(name), "") in known:
            continue
        concept = Concept(f"name:{name}", "icon", {"en": (name.replace("-", " "),)})
        yield concept, partial(render_svg, icon["body"], (0, 0, *size))


KINDS = {"iconify": _iconify, "bitmap": _bitmaps, "named": _named}


def read_labels(config: DataConfig, folder: Path) -> tuple[list[Concept], dict[str, str]]:
    """The concepts that the configuration keeps, and slug → code points for packages without a table of their own.

    Raises:
        InvalidRequestError: No labels package is configured.
    """
    labels = next((s for s in config.sources if s.kind == "labels"), None)
    if labels is None:
        raise InvalidRequestError("no package of kind 'labels' is configured", field="data.sources")
    tarball = fetch(labels, folder)
    tables = {locale: read_json(tarball, f"{locale}/data.json") for locale in LOCALES}
    subgroups = read_json(tarball, "meta/groups.json")["subgroups"]
    names = {name_slug(row["label"]): normal_hexcode(row["hexcode"]) for row in tables["en"]}
    for source in config.sources:
        if source.kind == "iconify":
            for code, name in read_chars(source, folder).items():
                names.setdefault(name_slug(name), normal_hexcode(code))
    return join_concepts(tables, subgroups, config), names


def list_drawings(config: DataConfig, folder: Path) -> list[tuple[Picture, Drawing]]:
    """Every picture that the configuration names, with the function that draws it; nothing is drawn yet.

    Raises:
        InvalidRequestError: Nothing is left to draw.
    """
    concepts, names = read_labels(config, folder)
    out: list[tuple[Picture, Drawing]] = []
    for source in config.sources:
        if source.kind != "labels":
            for concept, draw in KINDS[source.kind](source, folder, concepts, names):
                out.append((Picture(len(out), source.style, concept), draw))
    if not out:
        raise InvalidRequestError("the configuration leaves no picture to learn from", field="data.subgroups")
    return out


def build(config: DataConfig, folder: Path) -> Dataset:
    """Fetches, joins and renders everything that the configuration names, in memory, at `config.size_px`."""
    drawings = list_drawings(config, folder)
    return Dataset(tuple(p for p, _ in drawings), np.stack([draw(config.size_px) for _, draw in drawings]))


def pictures_json(pictures: tuple[Picture, ...]) -> str:
    """The pictures' labels as one JSON text."""
    return json.dumps([dataclasses.asdict(p) for p in pictures], ensure_ascii=False)


def save(dataset: Dataset, folder: Path) -> None:
    """Writes `pictures-<size>.npy` and `pictures.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"pictures-{dataset.rgba.shape[1]}.npy", dataset.rgba)
    (folder / "pictures.json").write_text(pictures_json(dataset.pictures), encoding="utf-8")


def load(folder: Path, size_px: int) -> Dataset:
    """Reads what `save` or `danqing dataset builtin` wrote; the pixels stay on disk (memory-mapped).

    Raises:
        NotFoundError: The folder holds no pictures of this size.
    """
    file = folder / f"pictures-{size_px}.npy"
    if not file.is_file() or not (folder / "pictures.json").is_file():
        raise NotFoundError(
            "no training pictures of this size",
            field="data",
            value=str(file),
            next_step="make them with `danqing dataset builtin --out FOLDER`",
        )
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
    return Dataset(pictures, np.load(file, mmap_mode="r"))


def is_held_out(hexcode: str, share: float = 0.05) -> bool:
    """Whether a concept, in all its styles, is kept from training: fixed by the hash of its code points."""
    number = int.from_bytes(hashlib.sha256(f"danqing-held-out:{hexcode}".encode()).digest()[:8], "big")
    return number / 2**64 < share


def split(dataset: Dataset, *, held_out: bool, styles: tuple[str, ...] = (), labels: tuple[str, ...] = ()) -> Dataset:
    """One side of the split, of these styles and English labels (all when none are given); rows are numbered anew."""
    wanted = set(labels)
    keep = [
        p
        for p in dataset.pictures
        if is_held_out(p.concept.hexcode) == held_out
        and (not styles or p.style in styles)
        and (not wanted or p.concept.words["en"][0] in wanted)
    ]
    rows = [p.row for p in keep]
    return Dataset(tuple(dataclasses.replace(p, row=i) for i, p in enumerate(keep)), dataset.rgba[rows])


def composite(rgba: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.float32]:
    """Pictures over one flat colour: `[n, h, w, 4]` uint8 → `[n, 3, h, w]` float32 in [-1, 1]."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    rgb = rgba[..., :3].astype(np.float32) * alpha + np.asarray(color, np.float32) * (1.0 - alpha)
    return np.ascontiguousarray((rgb / 127.5 - 1.0).transpose(0, 3, 1, 2))
