"""Where bodies, faces and palms are: MediaPipe's single-shot detectors, over the whole picture and over parts of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from danqing.annotators.people.lite import open_model, sigmoid
from danqing.annotators.people.regions import Region, overlap
from danqing.annotators.sheet import Bytes, Floats

_SAME = 0.3  # two boxes that overlap so much show the same thing
_TILE_SHARE = 0.6  # side of a part, of the shorter side
_TILES_FROM_PX = 256  # smaller pictures are looked at as a whole only


@dataclass(frozen=True)
class Finder:
    """A detector.

    Attributes:
        file: Its network.
        strides: Of its maps of answers, each with the number of anchors in a place.
        low: What black is to it: −1 or 0; white is 1.
        in_parts: Whether parts of a picture are looked at too. The detector of bodies is sure of people in parts that
            show none.
    """

    file: str
    strides: tuple[tuple[int, int], ...]
    low: float
    in_parts: bool = True


BODIES = Finder("pose_detection.tflite", ((8, 2), (16, 2), (32, 6)), -1.0, in_parts=False)
FACES = Finder("face_detection_full_range_sparse.tflite", ((4, 1),), -1.0)
PALMS = Finder("palm_detection_full.tflite", ((8, 2), (16, 6)), 0.0)


@dataclass(frozen=True)
class Found:
    """Something that was detected.

    Attributes:
        score: How sure, 0 to 1.
        box: x, y, x, y in pixels.
        points: The detector's own points `[n, 2]` in pixels.
    """

    score: float
    box: Floats
    points: Floats


def find(finder: Finder, rgb: Bytes, folder: Path, least_score: float, extra: tuple[Region, ...] = ()) -> list[Found]:
    """Everything of a kind, surest first.

    Args:
        finder: The kind.
        rgb: `[h, w, 3]`.
        folder: Where the networks lie.
        least_score: 0 to 1.
        extra: Squares to look at besides the picture and, if the kind is looked for in parts, its parts.
    """
    squares = views(*rgb.shape[:2]) if finder.in_parts else [whole(*rgb.shape[:2])]
    found = [hit for region in (*squares, *extra) for hit in look(finder, rgb, folder, region)]
    return merged([hit for hit in found if hit.score >= least_score])


def whole(height_px: int, width_px: int) -> Region:
    """The square around a picture."""
    return Region(width_px / 2, height_px / 2, float(max(height_px, width_px)))


def views(height_px: int, width_px: int) -> list[Region]:
    """The squares that are looked at: all of the picture, and overlapping parts of it for what is small."""
    short = min(height_px, width_px)
    if short < _TILES_FROM_PX:
        return [whole(height_px, width_px)]
    side = short * _TILE_SHARE
    rows, columns = (_middles(length, side) for length in (height_px, width_px))
    return [whole(height_px, width_px), *(Region(x, y, side) for y in rows for x in columns)]


def _middles(length_px: int, side: float) -> list[float]:
    count = max(2, int(np.ceil((length_px - side) / (side * 0.6))) + 1)
    return [float(middle) for middle in np.linspace(side / 2, length_px - side / 2, count)]


def look(finder: Finder, rgb: Bytes, folder: Path, region: Region) -> list[Found]:
    """What a detector finds in one square, however unsure above 0.05, with repetitions."""
    model = open_model(folder, finder.file)
    side = model.side_px
    view = region.cut(rgb, side) / 255 * (1 - finder.low) + finder.low
    answers = model(view)
    boxes, scores = sorted(answers, key=lambda answer: -answer.shape[-1])
    chances = sigmoid(scores[:, 0])
    kept = np.flatnonzero(chances > 0.05)
    kept = kept[np.argsort(-chances[kept], kind="stable")][:200]
    anchors = _anchors(finder, side)[kept]
    raw = boxes[kept].reshape(len(kept), boxes.shape[-1] // 2, 2) / side
    middles, sizes, points = raw[:, 0] + anchors, raw[:, 1], raw[:, 2:] + anchors[:, None]
    corners = np.stack([middles - sizes / 2, middles + sizes / 2], axis=1)
    found: list[Found] = []
    for chance, corner, own in zip(chances[kept], corners, points, strict=True):
        box = region.to_picture(corner).reshape(4)
        found.append(Found(float(chance), box, region.to_picture(own)))
    return found


def merged(found: list[Found]) -> list[Found]:
    """Boxes that overlap as one: their mean, weighted by how sure they are (MediaPipe's non-maximum suppression)."""
    rest = sorted(found, key=lambda hit: -hit.score)
    result: list[Found] = []
    while rest:
        best = rest[0]
        same = [hit for hit in rest if overlap(hit.box, best.box) > _SAME]
        rest = [hit for hit in rest if hit is not best and overlap(hit.box, best.box) <= _SAME]
        weights = np.array([hit.score for hit in same or [best]], np.float32)
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([hit.box for hit in same or [best]]), 1)
        points = np.tensordot(weights, np.stack([hit.points for hit in same or [best]]), 1)
        result.append(Found(best.score, np.asarray(box, np.float32), np.asarray(points, np.float32)))
    return result


@lru_cache(maxsize=4)
def _anchors(finder: Finder, side_px: int) -> Floats:
    """The middle of each answer's place `[n, 2]`, 0 to 1; several answers share a place."""
    found: list[Floats] = []
    for stride, count in finder.strides:
        places = side_px // stride
        axis = (np.arange(places, dtype=np.float32) + 0.5) / places
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        found.append(np.repeat(grid, count, axis=0))
    return np.concatenate(found)
