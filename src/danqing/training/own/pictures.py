"""Pictures of a set as tensors: cropped, brought to their bucket's size, mirrored; masks and maps alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from danqing.sets.buckets import Placed
from danqing.sets.folder import conditioning_path, mask_path, picture_path
from danqing.sets.pictures import flat_rgb, open_file
from danqing.spec.training_set import TrainingPicture


@dataclass(frozen=True)
class Example:
    """A picture of the set, ready to be shown.

    Attributes:
        index: Its number among the examples.
        picture: What the set says of it.
        caption: As the trainer reads it, before it is varied.
        placed: Its bucket, and the part of it that is scaled to that.
    """

    index: int
    picture: TrainingPicture
    caption: str
    placed: Placed

    @property
    def bucket(self) -> tuple[int, int]:
        """Width and height as it is trained."""
        return self.placed.bucket.width_px, self.placed.bucket.height_px

    @property
    def sizes(self) -> tuple[int, ...]:
        """What SDXL is told: shown height and width, top and left of the crop, target height and width, a score."""
        own, box = self.picture.crop, self.placed.box
        left, top = (0, 0) if own is None else (own.left_px, own.top_px)
        wide, high = (self.picture.width_px, self.picture.height_px) if own is None else (own.width_px, own.height_px)
        scale, across = self.placed.scale, self.bucket
        cut = round((box.top_px - top) * scale), round((box.left_px - left) * scale)
        return (high, wide, *cut, across[1], across[0], 6)


class PictureReader:
    """Reads a set's files.

    Args:
        folder: The set's.
        elsewhere: File → folder of pictures that lie in another set's.
    """

    def __init__(self, folder: Path, elsewhere: Mapping[str, Path] | None = None) -> None:
        self.folder = folder
        self.elsewhere = elsewhere or {}

    def picture(self, example: Example, *, mirrored: bool = False) -> Tensor:
        """The picture float32 [3, H, W] in [−1, 1].

        Raises:
            BadFileError: It cannot be read.
        """
        return to_tensor(self._shown(self._path(example), example, mirrored=mirrored))

    def conditioning(self, example: Example, *, mirrored: bool = False) -> Tensor | None:
        """Its control map, or the picture before it, alike [3, H, W]; None where the set brings none.

        Raises:
            BadFileError: It cannot be read.
        """
        path = conditioning_path(self.folder, example.picture)
        return None if path is None else to_tensor(self._shown(path, example, mirrored=mirrored))

    def mask(self, example: Example, *, mirrored: bool = False) -> Tensor | None:
        """Where it counts, float32 [1, H, W] from 0 to 1; None for everywhere.

        Raises:
            BadFileError: It cannot be read.
        """
        path = mask_path(self.folder, example.picture)
        if path is None:
            return None
        shown = self._shown(path, example, mirrored=mirrored).convert("L")
        return torch.from_numpy(np.array(shown, np.float32)[None] / 255.0)

    def _path(self, example: Example) -> Path:
        return picture_path(self.elsewhere.get(example.picture.file, self.folder), example.picture)

    def _shown(self, path: Path, example: Example, *, mirrored: bool) -> Image.Image:
        """The part of a file that is trained, in RGB at its bucket's size."""
        own = example.picture
        image = flat_rgb(open_file(path))
        if image.size != (own.width_px, own.height_px):
            image = image.resize((own.width_px, own.height_px), Image.Resampling.BILINEAR)
        box = example.placed.box.as_tuple()
        cut = image.resize(example.bucket, Image.Resampling.LANCZOS, box=box)
        return ImageOps.mirror(cut) if mirrored else cut


def to_tensor(image: Image.Image) -> Tensor:
    """Float32 [3, H, W] in [−1, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"), np.float32) / 127.5 - 1.0).permute(2, 0, 1).contiguous()
