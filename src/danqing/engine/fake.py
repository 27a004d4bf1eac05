"""A shipped fake: answers every Call with cheap, exact arithmetic, counts what it does, and fails when told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danqing.engine.calls import (
    Decode,
    Denoise,
    Describe,
    Description,
    EmbedImage,
    EncodeImage,
    EncodeText,
    Exclusive,
    ModelCall,
    ModelKey,
    Upscale,
    Work,
)
from danqing.engine.costs import Costs, Part
from danqing.enhance.bench import Bench
from danqing.models.preview import to_uint8
from danqing.models.text import TextState
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import OutOfMemoryError
from danqing.spec.model import ModelInfo

CONTEXT_WIDTH = 8
SCALE = 8
UPSCALE = 4


@dataclass
class FakeExecutor:
    """The ideal denoiser of Gaussian data N(μ(context), s²), so that results are known in closed form.

    Attributes:
        spread: s of the data.
        batch_rows: Most rows of a batch.
        fits_rows: Larger batches answer with OutOfMemoryError.
        on_batch: Called with the Calls of each batch that runs, for tests that watch or advance a clock.
        batches: Rows of each batch that ran, by kind of Call.
        bench: What Work Calls are given.
        half_rows: As of `Part`, for Denoise Calls; None where batches are as large as they can be.
        costs: What its batches took by the engine's clock.
    """

    spread: float = 0.5
    batch_rows: int = 64
    fits_rows: int = 10_000
    on_batch: Callable[[Sequence[ModelCall]], None] | None = None
    batches: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    bench: Bench = field(default_factory=Bench)
    half_rows: float | None = None
    costs: Costs = field(default_factory=Costs)
    info: ModelInfo = field(
        default_factory=lambda: ModelInfo(name="fake", family="sd1", path="", sha256="0" * 64, latent_channels=4)
    )

    def group_key(self, call: ModelCall) -> Hashable:
        """Kind, model, shape and ControlNets."""
        if isinstance(call, (Exclusive, Work)):
            return ("exclusive", call.key, id(call))
        if isinstance(call, Upscale):
            return ("Upscale", call.upscaler, tuple(call.tile.shape[1:]))
        if isinstance(call, EmbedImage):
            return ("EmbedImage", call.encoder)
        shape = (tuple(call.x.shape[1:]), call.control_set) if isinstance(call, Denoise) else ()
        return (type(call).__name__, call.model, shape)

    def rows(self, call: ModelCall) -> int:
        """One for each context."""
        return len(call.contexts) if isinstance(call, Denoise) else 1

    def max_rows(self, call: ModelCall) -> int:
        """As set."""
        return 1 if isinstance(call, (Exclusive, Work)) else self.batch_rows

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        """Rows of one shape."""
        if self.half_rows is None or not isinstance(call, Denoise):
            return ()
        return (Part(self.group_key(call), self.rows(call), self.half_rows),)

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        """Answer each Call.

        Raises:
            OutOfMemoryError: More rows than `fits_rows`.
        """
        rows = sum(self.rows(call) for call in calls)
        if rows > self.fits_rows:
            raise OutOfMemoryError("the fake executor is full", value=rows, allowed=f"≤ {self.fits_rows} rows")
        if self.on_batch is not None:
            self.on_batch(calls)
        self.batches.append((type(calls[0]).__name__, rows))
        return [self._answer(call) for call in calls]

    def relieve(self, call: ModelCall) -> bool:
        """Nothing to give up."""
        del call
        return False

    def preview(self, model: ModelKey, denoised: Tensor, *, decode: bool) -> npt.NDArray[np.uint8] | None:
        """The first three channels."""
        del model, decode
        return to_uint8(denoised[0, :3].permute(1, 2, 0))

    def _answer(self, call: ModelCall) -> Any:
        if isinstance(call, Describe):
            return Description(self.info, SigmaTable.scaled_linear())
        if isinstance(call, EncodeText):
            return tuple(TextState(context_of(text)) for text in call.texts)
        if isinstance(call, Denoise):
            shifts = _image_shifts(call)
            rows = zip(call.contexts, shifts, strict=True)
            said = [context + shift for context, shift in rows]
            return torch.cat([self._denoised(call.latent_of(i), call.sigma, one) for i, one in enumerate(said)])
        if isinstance(call, EmbedImage):
            return call.picture.float().mean(dim=(0, 1)) / 255.0
        if isinstance(call, EncodeImage):
            small = torch.nn.functional.avg_pool2d(call.image, SCALE)
            return torch.cat([small, small[:, :1]], dim=1)
        if isinstance(call, Decode):
            return torch.nn.functional.interpolate(call.latent[:, :3], scale_factor=float(SCALE), mode="nearest")
        if isinstance(call, Upscale):
            return torch.nn.functional.interpolate(call.tile, scale_factor=float(UPSCALE), mode="nearest")
        return call.run(self.bench) if isinstance(call, Work) else call.run(self)

    def _denoised(self, x: Tensor, sigma: float, context: Tensor) -> Tensor:
        mean = float(context.mean())
        variance = self.spread**2
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)


def context_of(text: str) -> Tensor:
    """A context [77, 8] that depends on the text alone; its mean is in [−1, 1]."""
    digest = hashlib.sha256(text.encode()).digest()
    value = int.from_bytes(digest[:4], "big") / 2**31 - 1.0
    return torch.full((77, CONTEXT_WIDTH), value)


def _image_shifts(call: Denoise) -> list[float]:
    """How far image prompts move the mean of each row: weight × the mean of their embeddings."""
    images = call.images
    if images is None:
        return [0.0] * len(call.contexts)
    shares = torch.tensor(images.shares)
    mean = float((images.embeddings.mean(dim=1) * shares).sum() / shares.sum())
    return [images.weight * mean if reads else 0.0 for reads in images.rows]
