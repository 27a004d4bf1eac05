"""Aspect buckets: pictures keep their shape, batches have one size, and every batch costs about the same.

The sizes of one bucket list have (nearly) equal area and sides that are multiples of a step, as in NovelAI's
improvement of Stable Diffusion (2022) and kohya's scripts; a picture goes where scaling it to cover loses the least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.training_set import TrainingPicture

STEP_PX = 64
"""Eight for the autoencoder, eight for three halvings in the U-Net."""
MAX_ASPECT = 4.0


@dataclass(frozen=True, order=True)
class Bucket:
    """A size that batches have."""

    width_px: int
    height_px: int

    @property
    def aspect(self) -> float:
        """Width ÷ height."""
        return self.width_px / self.height_px

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width_px * self.height_px

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


@dataclass(frozen=True)
class Placed:
    """Where a picture goes.

    Attributes:
        bucket: Its size in a batch.
        box: The part of the picture that is scaled to exactly this size.
        lost: Share of its area that is outside of the box.
        scale: Factor of the sides; above 1 the picture is enlarged.
    """

    bucket: Bucket
    box: BoxPx
    lost: float
    scale: float


@dataclass(frozen=True)
class BucketRow:
    """A bucket and what goes into it.

    Attributes:
        pictures: Their number.
        shown: The same with repeats.
        lost: Mean share of their area that is cut off.
        worst: The largest such share.
        enlarged: Pictures smaller than the bucket.
        alone: Name of the only picture in it that is shown (repeats above 0); None where there are several or none.
    """

    bucket: Bucket
    pictures: int
    shown: int
    lost: float
    worst: float
    enlarged: int
    alone: str | None = None


def step_of(latent_scale: int, levels: int) -> int:
    """What sides are multiples of, so that every halving comes out even; at most the usual 64 px.

    Args:
        latent_scale: Picture pixels per latent pixel.
        levels: Of the U-Net; 0 where they are not known, or there is none.

    >>> step_of(8, 4), step_of(8, 3), step_of(8, 0)
    (64, 32, 64)
    """
    return min(STEP_PX, latent_scale * 2 ** (levels - 1)) if levels else STEP_PX


def make_buckets(size_px: int, step_px: int = STEP_PX, *, max_aspect: float = MAX_ASPECT) -> tuple[Bucket, ...]:
    """Every size of at most `size_px`² pixels with sides that are multiples of `step_px`, each as large as it can be.

    Args:
        size_px: Side of the square with the buckets' area; rounded down to a multiple of the step.
        step_px: What both sides are multiples of.
        max_aspect: Of the longer to the shorter side.

    Returns:
        From the narrowest to the widest; always with the square.

    Raises:
        InvalidRequestError: The size is less than one step.

    >>> [str(bucket) for bucket in make_buckets(128, 64)]
    ['64x256', '128x128', '256x64']
    """
    if step_px < 1 or size_px < step_px or max_aspect < 1:
        raise InvalidRequestError(
            "there are no buckets of this size",
            field="size_px",
            value=size_px,
            allowed=f"at least one step, {step_px} px",
            next_step="choose the model's own size",
        )
    side = size_px // step_px
    area = side * side
    found = {(side, side)}
    for across in range(1, side):
        down = area // across
        if down <= across * max_aspect:
            found |= {(across, down), (down, across)}
    buckets = [Bucket(across * step_px, down * step_px) for across, down in found]
    return tuple(sorted(buckets, key=lambda bucket: (bucket.aspect, bucket.width_px)))


def place(width_px: int, height_px: int, buckets: Sequence[Bucket]) -> Placed:
    """The bucket in which a picture loses least, and the middle part of it that is shown there.

    Args:
        width_px: Of the picture (or of its crop).
        height_px: Likewise.
        buckets: At least one.

    >>> place(1000, 1000, make_buckets(512)).lost
    0.0
    """
    bucket = max(buckets, key=lambda bucket: (_kept(width_px / height_px, bucket.aspect), bucket.pixels))
    return placed_in(width_px, height_px, bucket)


def placed_in(width_px: int, height_px: int, bucket: Bucket) -> Placed:
    """The middle part of a picture that is shown in this bucket."""
    scale = max(bucket.width_px / width_px, bucket.height_px / height_px)
    across = min(width_px, max(1, round(bucket.width_px / scale)))
    down = min(height_px, max(1, round(bucket.height_px / scale)))
    left, top = (width_px - across) // 2, (height_px - down) // 2
    box = BoxPx(left_px=left, top_px=top, right_px=left + across, bottom_px=top + down)
    return Placed(bucket, box, 1 - across * down / (width_px * height_px), scale)


def place_picture(picture: TrainingPicture, buckets: Sequence[Bucket]) -> Placed:
    """As `place`, for a picture of a set with its crop; the box is in pixels of the whole picture."""
    crop = picture.crop
    if crop is None:
        return place(picture.width_px, picture.height_px, buckets)
    found = place(crop.width_px, crop.height_px, buckets)
    box = BoxPx(
        left_px=found.box.left_px + crop.left_px,
        top_px=found.box.top_px + crop.top_px,
        right_px=found.box.right_px + crop.left_px,
        bottom_px=found.box.bottom_px + crop.top_px,
    )
    return Placed(found.bucket, box, found.lost, found.scale)


def bucket_table(pictures: Sequence[TrainingPicture], buckets: Sequence[Bucket]) -> list[BucketRow]:
    """How pictures fall into buckets; empty ones are left out."""
    groups: dict[Bucket, list[tuple[TrainingPicture, Placed]]] = {}
    for picture in pictures:
        placed = place_picture(picture, buckets)
        groups.setdefault(placed.bucket, []).append((picture, placed))
    return [_row(bucket, groups[bucket]) for bucket in buckets if bucket in groups]


def _row(bucket: Bucket, group: Sequence[tuple[TrainingPicture, Placed]]) -> BucketRow:
    losses = [placed.lost for _, placed in group]
    shown = [picture.file for picture, _ in group if picture.repeats]
    return BucketRow(
        bucket,
        len(group),
        sum(picture.repeats for picture, _ in group),
        math.fsum(losses) / len(losses),
        max(losses),
        sum(placed.scale > 1 for _, placed in group),
        shown[0] if len(shown) == 1 else None,
    )


def _kept(one: float, other: float) -> float:
    """Share of a picture's area that is kept where it is cut to another aspect."""
    return min(one / other, other / one)
