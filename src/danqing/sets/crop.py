"""Where to cut a picture, without any network: the middle, or where something stands out.

What stands out: the spectral residual of the picture's luminance (Hou and Zhang 2007) and of its two colour axes, times
a gentle pull to the middle.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from danqing.spec.geometry import BoxPx

CropWay = Literal["centre", "subject", "tight"]
"""The middle; the largest part of this shape around what stands out most; or just that, with a margin."""
_SIDE_PX = 128
_TIGHT_SHARE = 0.85
_MARGIN = 0.08
Saliency = npt.NDArray[np.float32]


def suggest_crop(image: Image.Image, aspect: float, way: CropWay = "subject") -> BoxPx:
    """A part of this shape.

    Args:
        image: RGB.
        aspect: Width ÷ height of the part.
        way: How it is found.

    Returns:
        Inside the picture; the nearest shape that whole pixels allow.
    """
    across, down = _largest(image.width, image.height, aspect)
    if way == "centre":
        return _box((image.width - across) // 2, (image.height - down) // 2, across, down)
    seen = saliency(image)
    if way == "tight":
        across, down = _tight(seen, image.size, aspect, (across, down))
    return _best_window(seen, image.size, (across, down))


def saliency(image: Image.Image) -> Saliency:
    """How much each place stands out, [h ≤ 128, w ≤ 128], summing to 1."""
    small = image.convert("RGB")
    small.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    lab = cv2.cvtColor(np.asarray(small), cv2.COLOR_RGB2LAB).astype(np.float32)
    found = sum((_residual(lab[:, :, channel]) for channel in range(3)), np.zeros(lab.shape[:2], np.float32))
    down, across = (np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in found.shape)
    pull = np.exp(-0.5 * (down[:, None] ** 2 + across[None, :] ** 2))
    found = found * pull
    total = float(found.sum())
    return (found / total).astype(np.float32) if total > 0 else np.full(found.shape, 1 / found.size, np.float32)


def _residual(channel: Saliency) -> Saliency:
    spread = float(channel.std())
    if spread < 1.0:
        return np.zeros_like(channel)
    spectrum = np.fft.fft2(channel)
    log_size = np.log(np.abs(spectrum) + 1e-6).astype(np.float32)
    residual = log_size - cv2.blur(log_size, (3, 3))
    back = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    smooth = cv2.GaussianBlur(back.astype(np.float32), (0, 0), 3.0)
    top = float(smooth.max())
    return smooth * np.float32(spread / top) if top > 0 else np.zeros_like(channel)


def _largest(width: int, height: int, aspect: float) -> tuple[int, int]:
    """The largest size of this shape inside a picture."""
    across = min(width, max(1, round(height * aspect)))
    return across, min(height, max(1, round(across / aspect)))


def _tight(seen: Saliency, size: tuple[int, int], aspect: float, largest: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of this shape that holds most of what stands out, with a margin."""
    rows, columns = seen.sum(axis=1), seen.sum(axis=0)
    down = _core(rows) / len(rows) * size[1] * (1 + 2 * _MARGIN)
    across = _core(columns) / len(columns) * size[0] * (1 + 2 * _MARGIN)
    across = max(across, down * aspect)
    return min(largest[0], max(1, round(across))), min(largest[1], max(1, round(across / aspect)))


def _core(profile: Saliency) -> int:
    """Length of the shortest run that holds `_TIGHT_SHARE` of a profile."""
    sums = np.concatenate([[0.0], np.cumsum(profile, dtype=np.float64)])
    ends = np.asarray(np.searchsorted(sums, sums + _TIGHT_SHARE * sums[-1]), dtype=np.int64)
    lengths = (ends - np.arange(len(ends)))[ends < len(sums)]
    return max(1, int(lengths.min(initial=len(profile))))


def _best_window(seen: Saliency, size: tuple[int, int], window: tuple[int, int]) -> BoxPx:
    """The place where a window of this size sees most; near the middle where several see as much."""
    high, wide = seen.shape
    down = min(high, max(1, round(window[1] / size[1] * high)))
    across = min(wide, max(1, round(window[0] / size[0] * wide)))
    sums = np.zeros((high + 1, wide + 1), np.float64)
    sums[1:, 1:] = seen.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    held = sums[down:, across:] - sums[:-down, across:] - sums[down:, :-across] + sums[:-down, :-across]
    rows, columns = np.nonzero(held >= held.max() - 1e-6)
    middle = np.hypot(rows - (high - down) / 2, columns - (wide - across) / 2)
    row, column = int(rows[middle.argmin()]), int(columns[middle.argmin()])
    left = min(size[0] - window[0], round(column / wide * size[0]))
    top = min(size[1] - window[1], round(row / high * size[1]))
    return _box(left, top, *window)


def _box(left: int, top: int, across: int, down: int) -> BoxPx:
    return BoxPx(left_px=left, top_px=top, right_px=left + across, bottom_px=top + down)
