"""What the ×4 upscaler learns from: crops of drawings over random backgrounds, and the same crops degraded."""

from __future__ import annotations

import io

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danqing.training.builtin.upscaler_config import UpscalerConfig

SCALE = 4
_FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
_EMPTY_TRIES = 4
Rgb = NDArray[np.uint8]
"""`[h, w, 3]`"""


def split_rows(count: int, held_out: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows to measure on, the latter evenly spaced; each has at least one where there are two.

    >>> [rows.tolist() for rows in split_rows(5, 0.2)]
    [[0, 1, 3, 4], [2]]
    """
    wanted = min(max(1, round(count * held_out)), count // 2)
    held = ((np.arange(wanted) + 0.5) * count / max(wanted, 1)).astype(np.int64)
    return np.setdiff1d(np.arange(count), held), held


def background(rng: np.random.Generator, size_px: int) -> NDArray[np.float32]:
    """White, a flat colour or a linear gradient: float32 `[size, size, 3]` in 0…255."""
    kind = rng.random()
    first, second = rng.integers(0, 256, (2, 3)).astype(np.float32)
    if kind < 0.35:
        first = np.full(3, 255, np.float32)
    if kind < 0.75:
        return np.broadcast_to(first, (size_px, size_px, 3))
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    ramp = np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]
    share = ((ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6))[..., None]
    return first * (1 - share) + second * share


def over(rgba: Rgb, below: NDArray[np.float32]) -> Rgb:
    """A drawing `[h, w, 4]` over a background `[h, w, 3]` in 0…255."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    return np.rint(rgba[..., :3] * alpha + below * (1.0 - alpha)).astype(np.uint8)


def sharp_crop(rgba: Rgb, rng: np.random.Generator, crop_px: int) -> Rgb:
    """A random crop over a random background, turned and mirrored: `[crop, crop, 3]`.

    One crop in three comes from twice the area, reduced, so that fine lines are learnt too.
    """
    size = rgba.shape[0]
    side = min(2 * crop_px, size) if rng.random() < 0.33 else crop_px
    patch = rgba[:side, :side]
    for _ in range(_EMPTY_TRIES):
        top, left = (int(v) for v in rng.integers(0, size - side + 1, 2))
        patch = rgba[top : top + side, left : left + side]
        if patch[..., 3].any():
            break
    picture = over(patch, background(rng, side))
    if side != crop_px:
        picture = cv2.resize(picture, (crop_px, crop_px), interpolation=cv2.INTER_AREA)
    picture = np.rot90(picture, int(rng.integers(4)))
    return np.ascontiguousarray(picture[:, ::-1] if rng.random() < 0.5 else picture)


def degrade(sharp: Rgb, rng: np.random.Generator, config: UpscalerConfig) -> Rgb:
    """The crop as it would be met: `[crop/4, crop/4, 3]`: blurred, reduced, noisy, compressed."""
    clean = rng.random() < config.clean
    picture = sharp
    if not clean and rng.random() < config.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 2.0)))
    side = (sharp.shape[1] // SCALE, sharp.shape[0] // SCALE)
    small = np.asarray(Image.fromarray(picture).resize(side, _FILTERS[int(rng.integers(len(_FILTERS)))]))
    if clean:
        return small
    if rng.random() < config.noise:
        noisy = small + rng.normal(0.0, rng.uniform(0.5, 4.0), small.shape)
        small = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if rng.random() < config.jpeg:
        buffer = io.BytesIO()
        Image.fromarray(small).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        small = np.asarray(Image.open(buffer).convert("RGB"))
    return small


def batch_of(
    rgba: Rgb, rows: NDArray[np.int64], rng: np.random.Generator, config: UpscalerConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Low `[n, 3, crop/4, crop/4]` and high resolution `[n, 3, crop, crop]`, float32 in [0, 1].

    Args:
        rgba: Every drawing, uint8 `[n, size, size, 4]`, straight alpha; may be memory-mapped.
        rows: Those to learn from.
        rng: This step's.
        config: Crops and degradations.
    """
    chosen = rng.choice(rows, config.stage.batch)
    high = [sharp_crop(np.asarray(rgba[row]), rng, config.crop_px) for row in chosen]
    low = [degrade(picture, rng, config) for picture in high]
    return as_tensor(np.stack(low)), as_tensor(np.stack(high))


def as_tensor(pictures: Rgb) -> torch.Tensor:
    """uint8 `[n, h, w, 3]` → float32 `[n, 3, h, w]` in [0, 1], channels last."""
    return torch.from_numpy(pictures.astype(np.float32)).permute(0, 3, 1, 2).div_(255.0)
