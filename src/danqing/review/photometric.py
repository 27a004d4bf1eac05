"""Faults that can be measured in pixels alone: banding, clipping, blur, seams, low contrast. Pure NumPy, no torch.

Each check takes brightness or colour as float32 from 0 to 255 and gives a number that grows with the fault; `FAULTS`
says from where on it counts. The numbers were set so that real drawings and clean gradients stay quiet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from danqing.review.asking import shrunk
from danqing.spec.geometry import BoxPx

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
MEASURED_PX = 512
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601
_STEP = (3.0, 24.0)  # levels between two bands
_BAND_PX = 5
_BANDS = 4
_SEAM = (3.0, 28.0)  # levels across a seam: more is an edge of the drawing, less cannot be seen
_SEAM_CLEAR_PX = 8
_SEAM_AROUND_PX = 4
_LEAST_SIDE_PX = 32
_LARGEST = 8
_SLOPE_START = 16.0  # levels from the end of the scale, 2 px outside a burnt area
_SLOPE = (3.0, 60.0)  # levels more, 6 px further


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        key: Of `FAULTS`.
        amount: What was measured.
        limit: From where on it counts.
        box: Where, in pixels of the picture; None for all of it.
        words: What is wrong, for a person.
    """

    key: str
    amount: float
    limit: float
    box: BoxPx | None
    words: str

    @property
    def severity(self) -> float:
        """From 0.25 at the limit to 1 at twice the limit."""
        return float(np.clip(0.25 + 0.75 * (self.amount / self.limit - 1.0), 0.25, 1.0))


def luma(picture: Image.Image, most_px: int = MEASURED_PX) -> Grey:
    """Brightness `[h, w]`, 0 to 255, transparency on white, shrunk to this side at most."""
    return rgb_of(picture, most_px) @ _LUMA


def rgb_of(picture: Image.Image, most_px: int = MEASURED_PX) -> NDArray[np.float32]:
    """Colours `[h, w, 3]`, 0 to 255, transparency on white, shrunk to this side at most."""
    return np.asarray(shrunk(picture, most_px), np.float32)


def banding(grey: Grey) -> float:
    """Share of rows or columns that are stairs: four steps or more in one direction, each after a level run.

    Steps are of 3 to 24 levels, runs of 5 px or more: a clean gradient has steps of 1, a drawing's edges larger ones.
    """
    return max(_stairs(np.round(grey)), _stairs(np.round(grey.T)))


def _stairs(grey: Grey) -> float:
    if min(grey.shape) < _LEAST_SIDE_PX:
        return 0.0
    lines = [_longest_stair(line) >= _BANDS for line in grey[:: max(1, grey.shape[0] // 128)]]
    return float(np.mean(lines))


def _longest_stair(line: Grey) -> int:
    """How many steps follow each other in one direction."""
    turns = np.flatnonzero(np.abs(np.diff(line)) > 1.0) + 1
    bounds = np.concatenate([[0], turns, [len(line)]])
    best = current = 0
    direction = 0.0
    for i in range(1, len(bounds) - 1):
        level = bounds[i] - bounds[i - 1] >= _BAND_PX and bounds[i + 1] - bounds[i] >= _BAND_PX
        step = float(line[bounds[i]] - line[bounds[i] - 1])
        small = _STEP[0] <= abs(step) <= _STEP[1]
        if level and small:
            current = current + 1 if np.sign(step) == direction else 1
            direction = float(np.sign(step))
        else:
            current, direction = 0, 0.0
        best = max(best, current)
    return best


def clipping(grey: Grey) -> float:
    """Share of the picture in burnt or drowned areas: at 254 or more (1 or less) and reached by a slope.

    An area that touches three or more sides is a background, and one with hard edges is drawn so: neither counts.
    """
    return max(_burnt(255.0 - grey), _burnt(grey))


def _burnt(above: Grey) -> float:
    """The same for one end of the scale; `above` is how far each pixel is from it."""
    labels, count = ndimage.label(above <= 1.0)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = np.argsort(-sizes, kind="stable")[:_LARGEST]
    parts = [labels == label for label in largest if sizes[label] >= max(16, above.size // 500)]
    return sum(int(part.sum()) for part in parts if _is_burnt(part, above)) / above.size


def _is_burnt(part: Mask, above: Grey) -> bool:
    """Whether brightness falls off slowly around an area, instead of at once or not at all."""
    if sum(bool(side.any()) for side in (part[0], part[-1], part[:, 0], part[:, -1])) >= 3:
        return False
    away = ndimage.distance_transform_edt(~part)
    near, far = (above[(away > low) & (away <= high)] for low, high in ((1.0, 3.0), (6.0, 9.0)))
    if not near.size or not far.size:
        return False
    start, slope = float(np.median(near)), float(np.median(far)) - float(np.median(near))
    return start <= _SLOPE_START and _SLOPE[0] <= slope <= _SLOPE[1]


def blur(grey: Grey) -> float:
    """How wide the sharpest edges are, in pixels: the height of an edge over its steepest step. 0 without edges.

    An ideal edge has 1 to 2, a Gaussian blur of radius s about 2.5·s.
    """
    if min(grey.shape) < _LEAST_SIDE_PX:
        return 0.0
    widths = [found for one in (grey, grey.T) if (found := _edge_widths(one)).size]
    if not widths:
        return 0.0
    found = np.concatenate(widths)
    return float(np.percentile(found, 10))


def _edge_widths(grey: Grey) -> Grey:
    steepest = np.abs(np.diff(grey, axis=1))
    high, wide = _range(grey, 17), _range(grey, 33)
    local = ndimage.maximum_filter1d(steepest, 17, axis=1)
    # A slope goes on outside the window, an edge ends in it.
    strong = (high >= 40.0) & (steepest == local) & (high >= 0.8 * wide)
    return (high[strong] / np.maximum(local[strong], 1.0)).astype(np.float32)


def _range(grey: Grey, size: int) -> Grey:
    """Highest less lowest brightness in a window along each row, `[h, w - 1]`."""
    most, least = ndimage.maximum_filter1d(grey, size, axis=1), ndimage.minimum_filter1d(grey, size, axis=1)
    return np.asarray(most - least, np.float32)[:, :-1]


def low_contrast(rgb: NDArray[np.float32]) -> float:
    """255 over the range (1st to 99th percentile) of the liveliest channel: 1 is full, 5 is a fifth of it."""
    low, high = np.percentile(rgb.reshape(-1, rgb.shape[-1]), (1.0, 99.0), axis=0)
    return float(255.0 / max(1.0, float((high - low).max())))


@dataclass(frozen=True)
class Seam:
    """A straight step through the whole picture.

    Attributes:
        place: Column (or row) after which it comes.
        across: Whether it runs from left to right.
        share: Of its length on which it can be seen.
    """

    place: int
    across: bool
    share: float


def seams(grey: Grey) -> tuple[Seam, ...]:
    """Steps of 3 to 28 levels, in one direction, through the whole picture, where everything around them is smooth.

    Fewer than a border's distance from the edge they are frames, not seams.
    """
    found = [Seam(place, False, share) for place, share in _steps(grey)]
    return tuple(found + [Seam(place, True, share) for place, share in _steps(grey.T)])


def _steps(grey: Grey) -> list[tuple[int, float]]:
    if min(grey.shape) < _LEAST_SIDE_PX:
        return []
    jump = np.diff(grey, axis=1)
    size = np.abs(jump)
    found: list[tuple[int, float]] = []
    for x in range(_SEAM_CLEAR_PX, grey.shape[1] - 1 - _SEAM_CLEAR_PX):
        middle = float(np.median(jump[:, x]))
        if not _SEAM[0] <= abs(middle) <= _SEAM[1]:
            continue
        around = np.concatenate(
            [size[:, x - _SEAM_AROUND_PX : x], size[:, x + 1 : x + 1 + _SEAM_AROUND_PX]], axis=1
        ).mean(axis=1)
        seen = (size[:, x] > 2.0 * around + 1.0) & (np.sign(jump[:, x]) == np.sign(middle))
        found.append((x, float(seen.mean())))
    return found


def seam(grey: Grey) -> float:
    """The greatest share of its length on which a seam can be seen; 0 without one."""
    return max((one.share for one in seams(grey)), default=0.0)


@dataclass(frozen=True)
class _Check:
    measure: Callable[[Image.Image], float]
    limit: float
    words: str


FAULTS: dict[str, _Check] = {
    "banding": _Check(lambda picture: banding(luma(picture)), 0.15, "gradients fall into visible bands"),
    "clipping": _Check(lambda picture: clipping(luma(picture)), 0.04, "lights are burnt out or shadows drowned"),
    "blur": _Check(lambda picture: blur(luma(picture)), 5.0, "nothing in the picture is sharp"),
    "seam": _Check(lambda picture: seam(luma(picture)), 0.8, "a straight seam runs through the picture"),
    "low_contrast": _Check(lambda picture: low_contrast(rgb_of(picture)), 5.0, "there is hardly any contrast"),
}


def find_faults(picture: Image.Image) -> tuple[Fault, ...]:
    """Every fault from its limit on, the gravest first. Bands are not also called seams."""
    amounts = {key: check.measure(picture) for key, check in FAULTS.items()}
    if amounts["banding"] >= FAULTS["banding"].limit:
        amounts["seam"] = 0.0
    found = [
        Fault(key, round(amounts[key], 4), check.limit, _place(key, picture), check.words)
        for key, check in FAULTS.items()
        if amounts[key] >= check.limit
    ]
    return tuple(sorted(found, key=lambda fault: -fault.severity))


def _place(key: str, picture: Image.Image) -> BoxPx | None:
    """Where a seam is: a strip of a sixteenth of the side around it. The other faults are of the whole."""
    if key != "seam":
        return None
    grey = luma(picture)
    worst = max(seams(grey), key=lambda one: one.share)
    width, height = picture.size
    across = height if worst.across else width
    middle = (worst.place + 1) * across / (grey.shape[0] if worst.across else grey.shape[1])
    half = max(8.0, across / 32)
    low, high = int(max(0.0, middle - half)), int(min(float(across), middle + half))
    if worst.across:
        return BoxPx(left_px=0, top_px=low, right_px=width, bottom_px=high)
    return BoxPx(left_px=low, top_px=0, right_px=high, bottom_px=height)
