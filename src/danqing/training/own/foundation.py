"""What the models that are trained from nothing have in common as methods of training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from danqing.models.precision import has_native_bf16
from danqing.spec.errors import UnsupportedError
from danqing.spec.training_methods import FoundationRequest
from danqing.training.own.context import Context
from danqing.training.own.foundation_data import FoundationData, open_data
from danqing.training.own.foundation_figures import Eye, chart, picture_grid, read_curves
from danqing.training.own.methods.base import CardFacts, Method, Sample

_FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Foundation(Method):
    """Pictures in, a painter out. Subclasses bring networks, steps and how pictures are painted.

    Attributes:
        data: What is learnt, and what is held out.
        dtype: In which networks compute; weights are kept in float32.
        grid_pictures: In the grid of samples.
        measured_pictures: Painted for the figures of the end.
        kind: What it is, for the card.
        source: The paper.
    """

    grid_pictures = 64
    measured_pictures = 256
    kind = ""
    source = ""
    request: FoundationRequest
    data: FoundationData

    def begin(self, request: FoundationRequest, context: Context) -> None:
        """Read the pictures.

        Raises:
            DanqingError: There are none, too few, or the machine cannot compute so.
        """
        self.request, self.context = request, context
        self.dtype = _format(request.precision, context.device)
        self.data = open_data(request, context)
        if not len(self.data.held_out):
            context.warn("so few pictures that none are held out: the distance to unseen ones is not measured")

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, convolutions compute in `dtype`."""
        device = self.context.device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            yield

    @cached_property
    def eye(self) -> Eye:
        """What measures; loaded when it is first needed."""
        return Eye(self.data, self.request.seed)

    @abstractmethod
    def paint(self, count: int) -> NDArray[np.uint8]:
        """The first `count` pictures of the run's fixed noise, unpicked: `[count, s, s, 3]`."""

    def sample(self, step: int) -> Sequence[Sample]:
        """The fixed noise's grid, and the curves so far."""
        samples = [Sample(picture_grid(self.paint(self.grid_pictures)), "grid")]
        curves = chart(read_curves(self.context.folder))
        return [*samples, *self.strips(step), *([] if curves is None else [Sample(curves, "loss")])]

    def strips(self, step: int) -> list[Sample]:
        """Further pictures of a method's own."""
        del step
        return []

    def data_digest(self) -> str:
        """Of the pixels that are trained on."""
        return self.data.digest()

    def finish(self, folder: Path) -> tuple[list[Path], dict[str, float]]:
        """An unpicked grid beside the product, real pictures to compare, and the figures."""
        painted = self.paint(self.measured_pictures)
        some = self.data.shown[: self.grid_pictures]
        files = [_save(picture_grid(painted[: self.grid_pictures]), folder / "samples.png")]
        files.append(_save(picture_grid(some), folder / "real.png"))
        eye = self.eye
        return files, {name: round(value, 4) for name, value in eye.figures(eye.vectors(painted)).items()}

    def card(self) -> CardFacts:
        """The card's facts."""
        facts = {
            "pictures": self.data.what,
            "size": f"{self.request.size_px} px",
            "precision": str(self.dtype).removeprefix("torch."),
            "source": self.source,
        }
        return CardFacts(self.kind, facts, self.usage(), self.data.licence_note)

    def usage(self) -> str:
        """How pictures are painted with what was made."""
        return "`danqing train sample RUN -n 64 -o grid.png` paints a grid; RUN is the run's id or folder."


def _save(image: Image.Image, path: Path) -> Path:
    temporary = path.with_suffix(".tmp")
    image.save(temporary, "PNG")
    temporary.replace(path)
    return path


def _format(precision: str, device: torch.device) -> torch.dtype:
    """In which networks compute.

    Raises:
        UnsupportedError: float16, whose range these losses leave.
    """
    if precision == "float16":
        raise UnsupportedError(
            "models from nothing are not trained in float16",
            field="precision",
            value=precision,
            allowed="auto, float32, bfloat16",
        )
    if precision == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    return _FORMATS[precision]
