"""Contact sheets: pictures in rows over their captions, as small WebP files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from danqing.store.fonts import sheet_font
from danqing.training.builtin.captions import Words, say, style_words
from danqing.training.builtin.dataset import Dataset, Picture

GAP_PX = 10
CAPTION_PX = 30
TEXT_PX = 12
MAX_BYTES = 400_000
PAPER, INK = "#FAF8F3", "#1E1B18"
# What the sheets show, in this order; what the data do not have is passed over.
SUBJECTS = (
    "red apple", "grinning face", "red heart", "sun", "cat face", "crescent moon", "birthday cake", "guitar",
    "rose", "snowman", "pizza", "rocket", "panda", "umbrella", "evergreen tree", "alarm clock",
    "sailboat", "hamburger", "penguin", "house", "strawberry", "robot", "butterfly", "light bulb",
    "ghost", "octopus", "bicycle", "camera", "watermelon", "crown", "teapot", "balloon",
)  # fmt: skip
GROUNDS: tuple[tuple[str, ...], ...] = (
    ("white",), ("dark blue",), ("white",), ("light yellow",), ("white",), ("green", "yellow"), ("pink",),
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """One picture `[h, w, 3]` with what stands below it."""

    rgb: NDArray[np.uint8]
    caption: str


def subjects(drawings: Dataset, count: int) -> list[tuple[Picture, tuple[str, ...]]]:
    """The first subjects that were learnt, styles and backgrounds in turn."""
    styles = sorted({p.style for p in drawings.pictures})
    by_label = {(p.concept.words["en"][0], p.style): p for p in drawings.pictures}
    found: list[tuple[Picture, tuple[str, ...]]] = []
    for label in SUBJECTS:
        style = styles[len(found) % len(styles)]
        kin = [by_label[label, s] for s in (style, *styles) if (label, s) in by_label]
        if kin and len(found) < count:
            found.append((replace(kin[0], style=style), GROUNDS[len(found) % len(GROUNDS)]))
    return found


def subject_caption(picture: Picture, ground: tuple[str, ...], locale: str) -> str:
    """The brief of one tile in one language."""
    label = picture.concept.words.get(locale, picture.concept.words["en"])[0]
    return say(Words(label, style_words(picture.style, locale)[0], background=ground), locale)


def _lines(text: str, width_px: int) -> list[str]:
    face, chinese = sheet_font(TEXT_PX)
    if not chinese:
        text = text.encode("ascii", "replace").decode()
    out = [""]
    for piece in text.replace(" ", " \0").split("\0") if text.isascii() else text:
        if face.getlength(out[-1] + piece) > width_px and out[-1]:
            out.append("")
        out[-1] += piece
    return out[:2]


def make_sheet(tiles: list[Tile], columns: int) -> Image.Image:
    """Tiles row by row, each at its own size, over up to two lines of caption."""
    height, width = (max(tile.rgb.shape[axis] for tile in tiles) for axis in (0, 1))
    rows = -(-len(tiles) // columns)
    step_x, step_y = width + GAP_PX, height + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * step_x + GAP_PX, rows * step_y + GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, tile in enumerate(tiles):
        left, top = GAP_PX + i % columns * step_x, GAP_PX + i // columns * step_y
        sheet.paste(Image.fromarray(tile.rgb), (left, top))
        for k, line in enumerate(_lines(tile.caption, width)):
            draw.text((left, top + height + 1 + k * (TEXT_PX + 2)), line, fill=INK, font=sheet_font(TEXT_PX)[0])
    return sheet


def save_sheet(tiles: list[Tile], path: Path, columns: int = 8) -> str:
    """Writes the sheet as WebP, at the best quality that keeps it under 400 KB; returns its file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = make_sheet(tiles, columns)
    for quality in (90, 80, 70, 60, 45, 30):
        sheet.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= MAX_BYTES:
            break
    return path.name
