"""What may be wrong with the pictures of a set: copies, blur, size, no caption, unreadable files.

Copies: two perceptual hashes of 64 bits, dHash (signs of horizontal differences at 9×8 px, Krawetz 2013) and pHash
(signs of the 8×8 lowest cosine terms at 32×32 px against their median, Zauner 2010). Blur: the Laplacian's variance
(Pech-Pacheco et al. 2000), of the sharpest part of the picture, so that a plain background is no blur.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from danqing.sets.folder import picture_path
from danqing.sets.pictures import flat_rgb, open_file
from danqing.spec.errors import BadFileError
from danqing.spec.training_set import Complaint, TrainingPicture, TrainingSet

BLUR_BELOW = 120.0
"""Measured: see docs/training-sets.md."""
SHARPNESS_SIDE_PX = 512
NEAR_BITS = 10
"""Copies differ in at most so many of the 64 bits of each hash."""
DEFAULT_SIZE_PX = 512
_PARTS = 4
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Looked:
    """What was measured of one picture.

    Attributes:
        sharpness: See `sharpness_of`.
        hashes: dHash and pHash; None for a plain picture, of which every other plain one would be a copy.
    """

    sha256: str
    width_px: int
    height_px: int
    sharpness: float
    hashes: tuple[int, int] | None


Tell = Callable[[int, int], None]


def check_set(
    folder: Path, training_set: TrainingSet, *, size_px: int = DEFAULT_SIZE_PX, tell: Tell | None = None
) -> TrainingSet:
    """The set with the complaints of a fresh look at every picture.

    Args:
        folder: Where it lies.
        training_set: As it was read.
        size_px: The area that pictures are trained at is its square; smaller ones would be enlarged.
        tell: Told how many of how many were looked at; may raise to stop.
    """
    looked: list[Looked | None] = []
    for number, picture in enumerate(training_set.pictures):
        looked.append(look(picture_path(folder, picture)))
        if tell is not None:
            tell(number + 1, len(training_set.pictures))
    copies = find_copies(looked)
    pictures = tuple(
        _judged(picture, seen, training_set.pictures[copies[n]].file if n in copies else None, size_px)
        for n, (picture, seen) in enumerate(zip(training_set.pictures, looked, strict=True))
    )
    return training_set.model_copy(update={"pictures": pictures})


def look(path: Path) -> Looked | None:
    """Measure a picture; None if it cannot be read."""
    try:
        image = flat_rgb(open_file(path))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except (BadFileError, OSError):
        return None
    return Looked(sha256, image.width, image.height, sharpness_of(image), hashes_of(image))


def sharpness_of(image: Image.Image) -> float:
    """Variance of the Laplacian of the sharpest of 4×4 parts, at a longer side of 512 px, greys stretched to 0…255.

    Smaller pictures are not enlarged, for that blurs them; stretching makes pale ink no less sharp than black.
    """
    grey = image.convert("L")
    grey.thumbnail((SHARPNESS_SIDE_PX, SHARPNESS_SIDE_PX), Image.Resampling.BOX)
    values = np.asarray(grey, dtype=np.float32)
    low, high = np.percentile(values, (1, 99))
    if high - low < 1:
        return 0.0
    stretched = np.clip((values - np.float32(low)) * np.float32(255 / (high - low)), 0, 255).astype(np.float32)
    edges = np.asarray(cv2.Laplacian(stretched, cv2.CV_32F), dtype=np.float32)
    rows, columns = ([side * n // _PARTS for n in range(_PARTS + 1)] for side in edges.shape)
    parts = [edges[a:b, c:d] for a, b in pairwise(rows) for c, d in pairwise(columns)]
    return round(max(float(part.var()) for part in parts if part.size), 1)


def hashes_of(image: Image.Image) -> tuple[int, int] | None:
    """Two perceptual hashes, dHash and pHash; None for a picture of (nearly) one colour."""
    grey = image.convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    if int(small.max()) - int(small.min()) < 4:
        return None
    difference = small[:, 1:] > small[:, :-1]
    fine = np.asarray(grey.resize((32, 32), Image.Resampling.BOX), dtype=np.float32)
    low = cv2.dct(fine)[:8, :8].flatten()
    return _bits(difference.flatten()), _bits(low > np.median(low))


def find_copies(looked: Sequence[Looked | None]) -> dict[int, int]:
    """For each copy the number of the picture that is kept: the largest, and of equally large ones the first."""
    copies: dict[int, int] = {}
    seen = [(n, one) for n, one in enumerate(looked) if one is not None]
    order = sorted(seen, key=lambda one: (-one[1].width_px * one[1].height_px, one[0]))
    first: dict[str, int] = {}
    for number, one in order:
        if one.sha256 in first:
            copies[number] = first[one.sha256]
        first.setdefault(one.sha256, number)
    rest = [(n, one.hashes) for n, one in order if one.hashes is not None and n not in copies]
    numbers = [n for n, _ in rest]
    words = np.array([hashes for _, hashes in rest], dtype=np.uint64).reshape(-1, 2)
    for place in range(1, len(numbers)):
        near = np.bitwise_count(words[:place] ^ words[place]).max(axis=1)
        best = int(near.argmin())
        if near[best] <= NEAR_BITS:
            copies[numbers[place]] = copies.get(numbers[best], numbers[best])
    return copies


def _judged(picture: TrainingPicture, seen: Looked | None, like: str | None, size_px: int) -> TrainingPicture:
    found: list[Complaint] = []
    if seen is None:
        found.append("unreadable")
    else:
        width = picture.crop.width_px if picture.crop else seen.width_px
        height = picture.crop.height_px if picture.crop else seen.height_px
        if width * height < size_px * size_px:
            found.append("small")
        if seen.sharpness < BLUR_BELOW:
            found.append("blurred")
        if like is not None:
            found.append("duplicate")
    if not picture.caption.strip():
        found.append("no_caption")
    update: dict[str, object] = {"complaints": tuple(found), "like": like, "sharpness": seen and seen.sharpness}
    if seen is not None and (seen.sha256, seen.width_px, seen.height_px) != (
        picture.sha256,
        picture.width_px,
        picture.height_px,
    ):  # exchanged by hand
        update |= {"sha256": seen.sha256, "width_px": seen.width_px, "height_px": seen.height_px}
        update |= {} if _fits(picture, seen) else {"crop": None}
    return picture.model_copy(update=update)


def _fits(picture: TrainingPicture, seen: Looked) -> bool:
    crop = picture.crop
    return crop is None or (crop.right_px <= seen.width_px and crop.bottom_px <= seen.height_px)


def _bits(signs: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(signs).tobytes(), "big")
