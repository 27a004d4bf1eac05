"""What an annotator works on: a checked picture, its settings and a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from danqing.spec.base import MAX_SIDE_PX
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.annotator_types import ParameterValue

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sheet:
    """One picture to annotate.

    Attributes:
        rgb: `[h, w, 3]`; transparency lies over white, as A1111 has it.
        alpha: `[h, w]`, or None where the picture has no transparency.
        params: Every setting of the annotator, checked.
        seed: For those that draw at random.
    """

    rgb: Bytes
    alpha: Bytes | None
    params: dict[str, ParameterValue]
    seed: int

    def number(self, key: str) -> float:
        """A setting that is a number."""
        return float(self.params[key])

    @property
    def short_px(self) -> int:
        """The shorter side."""
        return min(self.rgb.shape[:2])

    @property
    def grey(self) -> Floats:
        """Brightness (BT.601) `[h, w]`, 0 to 255."""
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        return (self.rgb.astype(np.float32) @ weights).astype(np.float32)


def split_alpha(picture: Bytes) -> tuple[Bytes, Bytes | None]:
    """A person's picture as colours over white and, where there is any transparency, alpha.

    Args:
        picture: uint8 `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]` (straight alpha).

    Returns:
        uint8 `[h, w, 3]` and `[h, w]` or None.

    Raises:
        InvalidRequestError: It is no such array, empty, or larger than 4096 a side.
    """
    array = np.asarray(picture)
    sizes = array.shape
    good = array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and sizes[2] in {1, 3, 4}))
    if not good or not all(1 <= side <= MAX_SIDE_PX for side in sizes[:2]):
        raise InvalidRequestError(
            "this is no picture that can be annotated",
            field="picture",
            value=f"{array.dtype} {list(sizes)}",
            allowed=f"bytes [height, width], with 1, 3 or 4 channels, sides from 1 to {MAX_SIDE_PX} px",
            next_step="convert it to 8-bit grey, RGB or RGBA, or make it smaller",
        )
    if array.ndim == 2 or sizes[2] == 1:
        grey = array.reshape(sizes[0], sizes[1], 1)
        return np.ascontiguousarray(np.repeat(grey, 3, axis=2)), None
    if sizes[2] == 3:
        return np.ascontiguousarray(array), None
    alpha = np.ascontiguousarray(array[..., 3])
    if int(alpha.min()) == 255:
        return np.ascontiguousarray(array[..., :3]), None
    part = alpha[..., None].astype(np.uint16)
    over = (array[..., :3] * part + 255 * (255 - part) + 127) // 255
    return over.astype(np.uint8), alpha
