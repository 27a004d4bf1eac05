"""TensorBoard's files, where it is installed (`pip install 'danqing[train]'`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = "logs"


class Board:
    """Writes numbers and pictures for TensorBoard.

    Args:
        writer: TensorBoard's; None writes nothing.
    """

    def __init__(self, writer: Any = None) -> None:
        self._writer = writer

    def number(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """A picture of a step."""
        if self._writer is not None:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Bring everything to the disk."""
        if self._writer is not None:
            self._writer.close()


def open_board(folder: Path, *, quiet: bool = False) -> Board:
    """A run's board; one that writes nothing where TensorBoard is not installed.

    Args:
        folder: The run's.
        quiet: Write nothing in any case.
    """
    if quiet:
        return Board()
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return Board()
    return Board(SummaryWriter(str(folder / FOLDER)))
