"""Which named colours a picture has, measured from its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from danqing.spec.registry.colors import COLORS

MEASURED = tuple(key for key, color in COLORS.items() if color.measured)
_INDEX = {key: i for i, key in enumerate(MEASURED)}
# Upper ends of the hue ranges in degrees; red begins again at 345.
_HUES = ((14.0, "red"), (40.0, "orange"), (68.0, "yellow"), (164.0, "green"), (196.0, "cyan"), (254.0, "blue"))
_HUES_LATE = ((296.0, "purple"), (345.0, "pink"), (360.1, "red"))


def hue_saturation_value(
    rgb: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """HSV of pixels `[..., 3]`: hue in degrees 0 to 360, saturation and value 0 to 1, each `[...]`."""
    x = rgb.astype(np.float32) / 255.0
    high, low = x.max(-1), x.min(-1)
    spread = high - low
    safe = np.where(spread > 0, spread, 1.0)
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    hue = np.where(
        high == red,
        (green - blue) / safe % 6.0,
        np.where(high == green, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    saturation = spread / np.where(high > 0, high, 1.0)
    return (hue * 60.0 * (spread > 0)).astype(np.float32), saturation, high


def color_indices(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour name of every pixel `[..., 3]` as an index into `MEASURED`, `[...]`.

    Hue decides, but for grey, black and white (little saturation or value), brown (dark orange) and pink (pale red).
    """
    hue, saturation, value = hue_saturation_value(rgb)
    out = np.full(hue.shape, _INDEX["red"], np.uint8)
    low = 14.0
    for high, name in (*_HUES[1:], *_HUES_LATE):
        out[(hue >= low) & (hue < high)] = _INDEX[name]
        low = high
    warm = (hue < 48.0) | (hue >= 345.0)
    out[warm & (hue >= 8.0) & (hue < 48.0) & (value < 0.66) & (saturation > 0.25)] = _INDEX["brown"]
    out[((hue < 14.0) | (hue >= 330.0)) & (saturation < 0.5) & (value > 0.75)] = _INDEX["pink"]
    gray = saturation < 0.14
    out[gray] = _INDEX["gray"]
    out[gray & (value > 0.86)] = _INDEX["white"]
    out[(value < 0.22) | ((value < 0.32) & (saturation < 0.35))] = _INDEX["black"]
    return out


def measure_colors(rgba: NDArray[np.uint8]) -> list[tuple[str, float]]:
    """Colour names with their shares of the visible area, largest first.

    Args:
        rgba: Pixels `[h, w, 3]` or, straight alpha, `[h, w, 4]`.

    Returns:
        Pairs (a key of `COLORS`, share 0 to 1); empty for a wholly transparent picture.
    """
    alpha = rgba[..., 3].astype(np.float64) if rgba.shape[-1] == 4 else np.ones(rgba.shape[:2])
    total = float(alpha.sum())
    if total <= 0:
        return []
    shares = np.bincount(color_indices(rgba[..., :3]).ravel(), alpha.ravel(), minlength=len(MEASURED)) / total
    order = np.argsort(-shares, kind="stable")
    return [(MEASURED[i], float(shares[i])) for i in order if shares[i] > 0]


def border_color(rgb: NDArray[np.uint8], share: float = 0.06) -> str:
    """The commonest colour name in a frame of this share of the picture's sides: what the background is."""
    h, w = rgb.shape[:2]
    edge_y, edge_x = max(1, round(h * share)), max(1, round(w * share))
    frame = np.ones((h, w), bool)
    frame[edge_y : h - edge_y, edge_x : w - edge_x] = False
    counts = np.bincount(color_indices(rgb[frame][None, :, :3]).ravel(), minlength=len(MEASURED))
    return MEASURED[int(counts.argmax())]


def shift_hue(rgba: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Turns every pixel's hue; grey, black, white and alpha `[h, w, 4]` stay."""
    hue, saturation, value = hue_saturation_value(rgba[..., :3])
    sector = ((hue + degrees) % 360.0) / 60.0
    chroma = value * saturation
    offsets = (np.array([5.0, 3.0, 1.0], np.float32) + sector[..., None]) % 6.0
    rgb = value[..., None] - chroma[..., None] * np.clip(np.minimum(offsets, 4.0 - offsets), 0.0, 1.0)
    out = rgba.copy()
    out[..., :3] = np.rint(rgb * 255.0).astype(np.uint8)
    return out
