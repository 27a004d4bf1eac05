"""The executor runs one batch of Calls; the engine decides which. An interface, so that back ends can differ."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from danqing.engine.calls import ModelCall, ModelKey


class Executor(Protocol):
    """Runs batches of Calls on a device."""

    def group_key(self, call: ModelCall) -> Hashable:
        """Calls with equal keys may run in one batch."""
        ...

    def rows(self, call: ModelCall) -> int:
        """How many rows of a batch this Call takes."""
        ...

    def max_rows(self, call: ModelCall) -> int:
        """How many rows a batch of such Calls should have at most."""
        ...

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        """Answer Calls of one group as one batch, in order.

        Raises:
            danqing.spec.errors.OutOfMemoryError: The batch did not fit; nothing was answered.
        """
        ...

    def relieve(self, call: ModelCall) -> bool:
        """Make room after a single Call did not fit: offload, then tile. False when nothing more can be done."""
        ...

    def preview(self, model: ModelKey, denoised: torch.Tensor, *, decode: bool) -> npt.NDArray[np.uint8] | None:
        """A small RGB picture uint8 [h, w, 3] of a latent [1, c, h, w], by the linear map or by the VAE."""
        ...
