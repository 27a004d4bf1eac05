"""The executor runs one batch of Calls; the engine decides which. An interface, so that back ends can differ."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from danqing.engine.calls import ModelCall, ModelKey
from danqing.engine.costs import Costs, Part


class Executor(Protocol):
    """Runs batches of Calls on a device.

    Attributes:
        costs: What its batches took, shared by the engines that it serves one after the other.
    """

    costs: Costs

    def group_key(self, call: ModelCall) -> Hashable:
        """Calls with equal keys may run in one batch."""
        ...

    def rows(self, call: ModelCall) -> int:
        """How many rows of a batch this Call takes."""
        ...

    def max_rows(self, call: ModelCall) -> int:
        """How many rows a batch of such Calls may have at most, for the sake of memory."""
        ...

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        """What the time of a Call depends on; empty where batches are as large as they can be, whatever they cost."""
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
