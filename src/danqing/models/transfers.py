"""Numbers between main memory and a GPU: few copies, through page-locked buffers, and what was sent is kept there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

KEPT = 256
"""Tensors that stay on the device: the texts of all pictures in work, with room to spare."""


class Transfers:
    """Copies to a device and back; not from several threads at once. On a CPU nothing is copied.

    Args:
        device: Where the numbers are computed with.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._locked: dict[tuple[str, torch.dtype], Tensor] = {}
        self._kept: OrderedDict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = OrderedDict()

    @property
    def pinned(self) -> bool:
        """Whether page-locked memory is used."""
        return self._device.type == "cuda"

    def send(self, rows: Sequence[Tensor]) -> Tensor:
        """Rows [1, …] in main memory side by side on the device [b, …]. Rows that are there already stay there."""
        if not self.pinned or any(one.device.type != "cpu" for one in rows):
            return torch.cat([one.to(self._device) for one in rows])
        buffer = self._buffer("out", (sum(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
        start = 0
        for one in rows:
            buffer[start : start + len(one)].copy_(one)
            start += len(one)
        # The answer of a batch is waited for before the buffer is written again.
        return buffer.to(self._device, non_blocking=True)

    def fetch(self, answer: Tensor) -> Tensor:
        """An answer [b, …] in main memory, in one copy; it holds until the next is fetched."""
        if not self.pinned or answer.device.type == "cpu":
            return answer.to("cpu")
        buffer = self._buffer("in", tuple(answer.shape), answer.dtype)
        buffer.copy_(answer, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return buffer

    def keep(self, one: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor on the device in a number format, sent once and found again for as long as it is in use.

        Args:
            one: Never written to.
            dtype: Number format there.
        """
        key = (id(one), dtype)
        if key not in self._kept:
            # The tensor is kept too, so that no other one takes its identity.
            self._kept[key] = (one, one.to(self._device, dtype))
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key][1]

    def _buffer(self, way: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Page-locked memory, made anew only for more numbers than ever before."""
        count = 1
        for side in shape:
            count *= side
        found = self._locked.get((way, dtype))
        if found is None or found.numel() < count:
            found = self._locked[way, dtype] = torch.empty(count, dtype=dtype, pin_memory=self.pinned)
        return found[:count].view(shape)
