"""Danbooru taggers in ONNX: WD (v1.4, v3) and DeepDanbooru. onnxruntime runs them; no torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.models.hashes import HashCache
from danqing.models.interrogators.files import TaggerFiles
from danqing.models.interrogators.wording import interrogation, spoken
from danqing.models.onnx_files import open_onnx
from danqing.spec.errors import BadFileError
from danqing.spec.registry.interrogators import find_interrogator
from danqing.spec.sight import Interrogation, Tag

Floats = NDArray[np.float32]
_KINDS = {"0": "general", "4": "character", "9": "rating"}
_RATING = "rating:"
_MOST_TAGS = 100_000
_MOST_SIDE_PX = 2048


@dataclass(frozen=True)
class Look:
    """How a picture is to be looked at.

    Attributes:
        tags: At most so many.
        threshold: Tags less likely are left out; None for the interrogator's own.
        character_threshold: The same for characters.
    """

    tags: int
    threshold: float | None = None
    character_threshold: float | None = None


class Tagger:
    """A tagger, loaded.

    Args:
        key: `wd14` or `deepdanbooru`.
        files: Where it lies.

    Raises:
        BadFileError: Network or list cannot be read, or do not belong together.
    """

    def __init__(self, key: str, files: TaggerFiles) -> None:
        self._info = find_interrogator(key)
        self._files = files
        self._tags = read_wd_tags(files.tags) if key == "wd14" else read_tag_lines(files.tags)
        self._session = open_onnx(
            files.network,
            what="this ONNX file",
            field="interrogator",
            allowed="a tagger's network as its authors publish it",
            next_step="fetch it again",
        )
        into, out = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._into = str(into.name)
        self._side_px = self._side(into.shape)
        if isinstance(out.shape[-1], int) and out.shape[-1] != len(self._tags):
            raise self._bad(f"{out.shape[-1]} answers, {len(self._tags)} tags in {files.tags.name}", "as many of both")
        self._sha256 = HashCache(None).file(files.network)

    def look(self, picture: Image.Image, how: Look) -> Interrogation:
        """Tags above the thresholds: characters first, then what else is seen, each surest first."""
        chances = self._chances(picture)
        least = {"character": _or(how.character_threshold, self._info.character_threshold)}
        general = _or(how.threshold, self._info.threshold)
        order = np.argsort(-chances, kind="stable")
        named = [(self._tags[i][1], self._tags[i][0], float(chances[i])) for i in order]
        rating = next((tag for kind, tag, _ in named if kind == "rating"), None)
        kept = [
            Tag(text=spoken(tag), score=chance, kind=kind)
            for kind, tag, chance in named
            if kind != "rating" and chance >= least.get(kind, general)
        ]
        kept.sort(key=lambda tag: tag.kind != "character")
        kept = kept[: how.tags]
        caption = ", ".join(tag.text for tag in kept)
        return interrogation(self._info.key, picture, caption, kept, self._sha256, rating)

    def _chances(self, picture: Image.Image) -> Floats:
        pixels = framed(picture, self._side_px)
        # WD taggers were trained with OpenCV's order and 0 to 255, DeepDanbooru with RGB and 0 to 1
        values = pixels[..., ::-1] if self._info.key == "wd14" else pixels / 255
        given = np.ascontiguousarray(values[None], np.float32)
        found = np.asarray(self._session.run(None, {self._into: given})[0], np.float32).reshape(-1)
        if len(found) != len(self._tags):
            raise self._bad(f"{len(found)} answers, {len(self._tags)} tags", "as many of both")
        if not np.isfinite(found).all() or found.min() < -1e-3 or found.max() > 1 + 1e-3:
            raise self._bad(f"answers from {found.min():g} to {found.max():g}", "probabilities")
        return np.clip(found, 0, 1)

    def _side(self, shape: Any) -> int:
        sides = list(shape)
        square = len(sides) == 4 and sides[3] == 3 and sides[1] == sides[2]
        if not square or not isinstance(sides[1], int) or not 1 <= sides[1] <= _MOST_SIDE_PX:
            raise self._bad(f"it takes {sides}", "[n, side, side, 3], as the published files do")
        return sides[1]

    def _bad(self, value: str, allowed: str) -> BadFileError:
        return BadFileError(
            f"this is not the network of a {self._info.name} with this list of tags",
            field="interrogator",
            value=f"{self._files.network.name}: {value}",
            allowed=allowed,
            next_step="take both files from the same place",
        )


def framed(picture: Image.Image, side_px: int) -> Floats:
    """The whole picture in a white square `[side, side, 3]`, RGB, 0 to 255; transparency is white."""
    image = picture
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (255, 255, 255, 255)), over)
    image = image.convert("RGB")
    side = max(image.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.resize((side_px, side_px), Image.Resampling.BICUBIC), np.float32)


def read_wd_tags(path: Path) -> list[tuple[str, str]]:
    """(tag, kind) of each answer, from `selected_tags.csv`: tag_id, name, category, count.

    Raises:
        BadFileError: It is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["name"], _KINDS.get(row["category"], "general")) for row in csv.DictReader(file)]
    except (OSError, UnicodeError, KeyError, TypeError, csv.Error) as error:
        found = f"{type(error).__name__}: {error}"
        raise _unlisted(path, found, "a table with the columns name and category") from error
    return _checked(path, rows)


def read_tag_lines(path: Path) -> list[tuple[str, str]]:
    """(tag, kind) of each answer, one tag a line, as DeepDanbooru has them; `rating:safe` and its like are ratings.

    Raises:
        BadFileError: It is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise _unlisted(path, str(error), "a tag a line") from error
    names = [line.strip() for line in lines if line.strip()]
    rated = [(name.removeprefix(_RATING), "rating" if name.startswith(_RATING) else "general") for name in names]
    return _checked(path, rated)


def _checked(path: Path, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not 0 < len(rows) <= _MOST_TAGS:
        raise _unlisted(path, f"{len(rows)} tags", f"1 to {_MOST_TAGS}")
    return rows


def _unlisted(path: Path, value: str, allowed: str) -> BadFileError:
    return BadFileError(
        "this list of tags cannot be read",
        field="interrogator",
        value=f"{path.name}: {value}"[:300],
        allowed=allowed,
        next_step="fetch it again from where the network comes from",
    )


def _or(value: float | None, default: float | None) -> float:
    return value if value is not None else default or 0.0
