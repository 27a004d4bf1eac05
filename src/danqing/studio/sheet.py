"""A comparison as one labelled picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from danqing.spec.explore import Exploration
from danqing.store.fonts import sheet_font

PAPER, INK, QUIET, EMPTY = "#FAF8F3", "#1E1B18", "#6B665E", "#EDE9DF"
MAX_SIDE_PX = 16_000
MAX_PIXELS = 120_000_000
_LEAST_CELL_PX = 32
_LABEL_LINES = 3

Place = tuple[int, int, int]


@dataclass(frozen=True)
class SheetLook:
    """How a sheet is drawn.

    Attributes:
        gap_px: Between pictures.
        legend: Whether values stand beside rows and columns.
    """

    gap_px: int = 12
    legend: bool = True


def draw_sheet(found: Exploration, pictures: Mapping[Place, Image.Image], look: SheetLook | None = None) -> Image.Image:
    """The sheet: x from left to right, y from top to bottom, one block for each z.

    Args:
        found: The comparison.
        pictures: By place; what is missing is left as an empty field.
        look: How it is drawn.

    Returns:
        RGB. Pictures are shown at their own size, smaller ones in the middle of their place; all are made smaller
        where the sheet would pass `MAX_SIDE_PX` or `MAX_PIXELS`.
    """
    return _Sheet(found, pictures, look or SheetLook()).draw()


class _Sheet:
    def __init__(self, found: Exploration, pictures: Mapping[Place, Image.Image], look: SheetLook) -> None:
        self.found, self.pictures, self.look = found, pictures, look
        self.across, self.down, self.deep = len(found.columns), max(1, len(found.rows)), max(1, len(found.sheets))
        wide = max((p.width for p in pictures.values()), default=128)
        high = max((p.height for p in pictures.values()), default=128)
        share = min(
            1.0,
            MAX_SIDE_PX / (self.across * wide),
            MAX_SIDE_PX / (self.down * self.deep * high),
            (MAX_PIXELS / (self.across * wide * self.down * self.deep * high)) ** 0.5,
        )
        self.share = share
        self.cell = max(_LEAST_CELL_PX, int(wide * share)), max(_LEAST_CELL_PX, int(high * share))
        self.text_px = min(32, max(13, self.cell[0] // 14))
        self.font, self.chinese = sheet_font(self.text_px)
        self.line_px = round(self.text_px * 1.35)
        named = look.legend and bool(found.rows)
        self.left_px = min(320, max(96, self.cell[0] * 2 // 3)) if named else look.gap_px
        self.head_px = (_LABEL_LINES + 1) * self.line_px if look.legend else look.gap_px
        self.title_px = 2 * self.line_px if look.legend and found.sheets else 0

    def draw(self) -> Image.Image:
        gap, (wide, high) = self.look.gap_px, self.cell
        block_px = self.title_px + self.head_px + self.down * (high + gap)
        size = self.left_px + self.across * (wide + gap), self.deep * block_px + gap
        sheet = Image.new("RGB", size, PAPER)
        pen = ImageDraw.Draw(sheet)
        for z in range(self.deep):
            top = z * block_px + self.title_px
            if self.look.legend:
                self._legend(pen, z, top)
            for y in range(self.down):
                for x in range(self.across):
                    place = self.left_px + x * (wide + gap), top + self.head_px + y * (high + gap)
                    self._cell(sheet, pen, (x, y, z), place)
        return sheet

    def _legend(self, pen: ImageDraw.ImageDraw, z: int, top: int) -> None:
        names, gap, (wide, high) = self.found.names, self.look.gap_px, self.cell
        if self.found.sheets:
            middle = (self.left_px + self.across * (wide + gap)) / 2
            self._say(pen, f"{names[2]}: {self.found.sheets[z]}", (middle, top - self.line_px), wide * self.across, INK)
        axes = names[0] if len(names) == 1 else f"{names[1]} ↓   {names[0]} →"
        pen.text((gap, top + self.line_px / 2), self._known(axes), fill=QUIET, font=self.font, anchor="lm")
        for x, label in enumerate(self.found.columns):
            middle = self.left_px + x * (wide + gap) + wide / 2
            self._say(pen, label, (middle, top + self.head_px - self.line_px * 1.6), wide, INK)
        for y, label in enumerate(self.found.rows):
            middle = top + self.head_px + y * (high + gap) + high / 2
            self._say(pen, label, (self.left_px / 2, middle), self.left_px - gap, INK)

    def _cell(self, sheet: Image.Image, pen: ImageDraw.ImageDraw, place: Place, at: tuple[int, int]) -> None:
        picture, (wide, high) = self.pictures.get(place), self.cell
        if picture is None:
            pen.rectangle((*at, at[0] + wide - 1, at[1] + high - 1), fill=EMPTY)
            return
        size = max(1, round(picture.width * self.share)), max(1, round(picture.height * self.share))
        shown = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
        corner = at[0] + (wide - shown.width) // 2, at[1] + (high - shown.height) // 2
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            sheet.paste(shown, corner, shown)
        else:
            sheet.paste(shown.convert("RGB"), corner)

    def _say(
        self, pen: ImageDraw.ImageDraw, text: str, middle: tuple[float, float], width_px: int, colour: str
    ) -> None:
        lines = self._lines(self._known(text), width_px)
        top = middle[1] - (len(lines) - 1) * self.line_px / 2
        for number, line in enumerate(lines):
            pen.text((middle[0], top + number * self.line_px), line, fill=colour, font=self.font, anchor="mm")

    def _known(self, text: str) -> str:
        """What the font can write."""
        if self.chinese:
            return text
        plain = text.replace("→", ">").replace("↓", "v").replace("–", "-")
        return plain.encode("latin-1", "replace").decode("latin-1")

    def _lines(self, text: str, width_px: int) -> list[str]:
        """Broken at blanks, and where one word is too long inside it; the last line ends in dots if more follows."""
        out = [""]
        for piece in text.replace(" ", " \0").split("\0") if " " in text else text:
            for part in [piece] if self.font.getlength(piece) <= width_px else piece:
                if out[-1] and self.font.getlength(out[-1] + part) > width_px:
                    out.append("")
                out[-1] += part
        if len(out) > _LABEL_LINES:
            out = out[:_LABEL_LINES]
            while out[-1] and self.font.getlength(out[-1] + "…") > width_px:
                out[-1] = out[-1][:-1]
            out[-1] += "…"
        return out
