"""What is seen and measured of a model that learns from nothing: grids, strips, curves, distances, collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from danqing.models.clip import load as load_clip
from danqing.spec.training_run import StepEvent
from danqing.store.fonts import sheet_font
from danqing.training.evaluation.distances import Vectors, frechet, mean_pairwise, nearest
from danqing.training.own.events import read_events
from danqing.training.own.foundation_data import FoundationData
from danqing.training.own.seeds import rng_of

GAP_PX = 4
WORD_GAP_PX = 8
"""At least, between the words of neighbouring columns."""
SMALL_PX = 64
PAPER, INK, LINE = "#FAF8F3", "#1E1B18", "#D8D2C4"
COLOURS = ("#C8372D", "#2A6F97", "#5B8C5A", "#8A5A83")
CHART_PX = (560, 240)
MARGIN_PX = 44
TEXT_PX = 12
CLUSTERS = 20
MOST = 256
_ROUNDS = 25
_PROBABILITIES = frozenset({"D(x)", "D(G(z))"})
_POINTS = 400


def picture_grid(pixels: NDArray[np.uint8], columns: int | None = None) -> Image.Image:
    """Pictures `[n, s, s, 3]` in rows on paper, every one as it is; small ones with each pixel as a square of four."""
    pixels = _enlarged(pixels)
    count, side = len(pixels), pixels.shape[1]
    across = columns or max(1, round(count**0.5))
    down, step = -(-count // across), side + GAP_PX
    sheet = Image.new("RGB", (across * step + GAP_PX, down * step + GAP_PX), PAPER)
    for i, one in enumerate(pixels):
        sheet.paste(Image.fromarray(one), (GAP_PX + i % across * step, GAP_PX + i // across * step))
    return sheet


def strip(rows: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> Image.Image:
    """Rows of pictures, each `[len(labels), s, s, 3]`, with words over the columns; enlarged until these have room."""
    font = sheet_font(TEXT_PX)[0]
    pixels = _enlarged(np.concatenate(rows))
    room = max(font.getlength(label) for label in labels) + WORD_GAP_PX - GAP_PX
    times = max(1, ceil(room / pixels.shape[1]))
    grid = picture_grid(pixels.repeat(times, 1).repeat(times, 2), len(labels))
    head = TEXT_PX + 6
    sheet = Image.new("RGB", (grid.width, grid.height + head), PAPER)
    sheet.paste(grid, (0, head))
    draw, step = ImageDraw.Draw(sheet), (grid.width - GAP_PX) // len(labels)
    for i, label in enumerate(labels):
        draw.text((GAP_PX + i * step, 3), label, fill=INK, font=font)
    return sheet


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.repeat(2, 1).repeat(2, 2) if pixels.shape[1] < SMALL_PX else pixels


@dataclass(frozen=True)
class Curve:
    """Figures by step under a name."""

    name: str
    steps: list[int]
    values: list[float]


def read_curves(folder: Path) -> list[Curve]:
    """The loss and every part of it, as the run's events have told them."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for event in read_events(folder):
        if isinstance(event, StepEvent):
            parts = dict(event.parts) or ({} if event.loss is None else {"loss": event.loss})
            for name, value in parts.items():
                steps, values = found.setdefault(name, ([], []))
                steps.append(event.step)
                values.append(value)
    return [Curve(name, steps, values) for name, (steps, values) in found.items()]


def chart(curves: Sequence[Curve]) -> Image.Image | None:
    """Losses, and below them what the discriminator believes; None where there are not two points yet."""
    told = [one for one in curves if len(one.steps) > 1]
    panels = [[one for one in told if (one.name in _PROBABILITIES) == wanted] for wanted in (False, True)]
    drawn = [_panel(panel) for panel in panels if panel]
    if not drawn:
        return None
    sheet = Image.new("RGB", (CHART_PX[0], CHART_PX[1] * len(drawn)), PAPER)
    for i, panel in enumerate(drawn):
        sheet.paste(panel, (0, i * CHART_PX[1]))
    return sheet


def _panel(curves: Sequence[Curve]) -> Image.Image:
    wide, high = CHART_PX
    sheet = Image.new("RGB", CHART_PX, PAPER)
    draw, font = ImageDraw.Draw(sheet), sheet_font(TEXT_PX)[0]
    values = np.concatenate([_smooth(one.values) for one in curves])
    low, top = float(values.min()), float(values.max())
    top = top if top > low else low + 1.0
    last = max(one.steps[-1] for one in curves)
    left, right, upper, lower = MARGIN_PX, wide - 12, 30, high - 26
    for share in (0.0, 0.5, 1.0):
        y = lower - share * (lower - upper)
        draw.line((left, y, right, y), fill=LINE)
        draw.text((4, y - TEXT_PX / 2 - 1), f"{low + share * (top - low):.3g}", fill=INK, font=font)
    draw.text((left, lower + 6), "step 0", fill=INK, font=font)
    draw.text((right - font.getlength(str(last)), lower + 6), str(last), fill=INK, font=font)
    x = float(left)
    for colour, one in zip(COLOURS, curves, strict=False):
        draw.text((x, 8), one.name, fill=colour, font=font)
        x += font.getlength(one.name) + 18
        ys = lower - (_smooth(one.values) - low) / (top - low) * (lower - upper)
        xs = left + np.asarray(one.steps) / max(1, last) * (right - left)
        each = max(1, len(xs) // _POINTS)
        draw.line(list(zip(xs[::each].tolist(), ys[::each].tolist(), strict=True)), fill=colour, width=2)
    return sheet


def _smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """Means over a window of a fiftieth of the run, so that the curve can be read."""
    array = np.asarray(values, np.float64)
    half = max(0, len(array) // 100)
    sums = np.concatenate([[0.0], np.cumsum(array)])
    first = np.maximum(np.arange(len(array)) - half, 0)
    last = np.minimum(np.arange(len(array)) + half + 1, len(array))
    return (sums[last] - sums[first]) / (last - first)


class Eye:
    """mini-CLIP looking at training pictures once, and at what is painted again and again.

    Args:
        data: What is learnt.
        seed: Of what is chosen at random.
    """

    def __init__(self, data: FoundationData, seed: int) -> None:
        self._clip = load_clip()
        rows = rng_of(seed, "eye", 0).permutation(len(data.shown))
        self.shown: Vectors = self._clip.embed_images(data.shown[rows])
        held = [data.held_out, data.held_out[:, :, ::-1]] if data.mirror else [data.held_out]
        self.held_out: Vectors = self._clip.embed_images(np.concatenate(held))
        self.centres = cluster(self.shown, min(CLUSTERS, max(2, len(self.shown) // 8)), seed)

    def vectors(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Unit vectors of pictures `[n, s, s, 3]`."""
        return self._clip.embed_images(pixels)

    def distance(self, painted: Vectors) -> float | None:
        """Fréchet distance to the held-out pictures, in sets of equal size; None where too few are held out."""
        count = min(len(painted), len(self.held_out))
        return frechet(painted[:count], self.held_out[:count]) if count > 1 else None

    def figures(self, painted: Vectors) -> dict[str, float]:
        """All that is measured of what was painted, each beside the same of real pictures."""
        count = min(len(painted), len(self.shown), MOST)
        real = self.shown[:count]
        told = {
            "pictures_measured": float(len(painted)),
            "nearest_distinct_share": distinct_share(painted[:count], self.shown),
            "mean_pairwise": mean_pairwise(painted),
            "mean_pairwise_real": mean_pairwise(real),
            "clusters_covered": float(covered(painted[:count], self.centres)),
            "clusters_covered_real": float(covered(real, self.centres)),
            "clusters": float(len(self.centres)),
        }
        distance, floor = self.distance(painted), self.distance(self.shown)
        if distance is not None and floor is not None:
            among = min(len(painted), len(self.held_out))
            told |= {"frechet": distance, "frechet_real": floor, "frechet_pictures": float(among)}
            told["nearest_distinct_share_real"] = distinct_share(self.held_out[:count], self.shown)
        return told


def distinct_share(painted: Vectors, shown: Vectors) -> float:
    """Share of painted pictures whose nearest training picture is nobody else's: low when a few are painted anew."""
    return len(set(nearest(painted, shown).index.tolist())) / max(1, len(painted))


def covered(vectors: Vectors, centres: NDArray[np.float64]) -> int:
    """How many clusters at least one of the vectors `[n, d]` falls into."""
    return len(set(_closest(vectors.astype(np.float64), centres).tolist()))


def cluster(vectors: Vectors, count: int, seed: int) -> NDArray[np.float64]:
    """Centres `[count, d]` by k-means (Lloyd 1982), begun with k-means++ (Arthur and Vassilvitskii 2007)."""
    rng, points = rng_of(seed, "clusters", 0), vectors.astype(np.float64)
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < min(count, len(points)):
        far = ((points[:, None] - centres[None]) ** 2).sum(2).min(1)
        if far.sum() <= 0:
            break
        centres = np.concatenate([centres, points[[int(rng.choice(len(points), p=far / far.sum()))]]])
    for _ in range(_ROUNDS):
        own = _closest(points, centres)
        centres = np.stack([points[own == i].mean(0) if (own == i).any() else one for i, one in enumerate(centres)])
    return centres


def _closest(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    return ((points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)[None]).argmin(1)
