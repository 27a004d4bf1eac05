"""What memory there is on a device, within what a person allows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from danqing.models.offloading import free_bytes, host_bytes
from danqing.models.residency import GIB
from danqing.spec.errors import OutOfMemoryError

CONTEXT_BYTES = GIB // 2
"""What a CUDA driver keeps for a process besides what PyTorch asks it for."""
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Limits:
    """What a person allows; None is what the machine has.

    Attributes:
        host_bytes: Of main memory, for the whole process with its libraries.
        device_bytes: Of a GPU's memory, with what its driver keeps.
    """

    host_bytes: int | None = None
    device_bytes: int | None = None

    @classmethod
    def of(cls, memory_gib: float | None, vram_gib: float | None) -> Limits:
        """Limits from numbers of GiB."""
        return cls(*(None if one is None else int(one * GIB) for one in (memory_gib, vram_gib)))


class Memory:
    """A device's memory.

    Args:
        device: Where models compute.
        limits: What a person allows. On a GPU PyTorch is told, so that it never asks for more.

    Attributes:
        limits: The same.
    """

    def __init__(self, device: torch.device, limits: Limits | None = None) -> None:
        self.device = device
        self.limits = limits or Limits()
        if device.type == "cuda" and self.limits.device_bytes is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            share = (self.limits.device_bytes - CONTEXT_BYTES) / total
            torch.cuda.set_per_process_memory_fraction(min(max(share, 0.0), 1.0), device)

    @property
    def allowed(self) -> int | None:
        """Bytes that a person allows on the device; None where nothing was said."""
        return self.limits.device_bytes if self.device.type == "cuda" else self.limits.host_bytes

    def free(self) -> int:
        """Bytes that can be had on the device now."""
        if self.device.type != "cuda":
            return self.host()
        # What PyTorch keeps for later is free to it.
        spare = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        found = free_bytes(self.device) + spare
        if self.allowed is None:
            return found
        return max(min(found, self.allowed - CONTEXT_BYTES - torch.cuda.memory_allocated(self.device)), 0)

    def host(self) -> int:
        """Bytes of main memory that can be had now."""
        if self.limits.host_bytes is None:
            return host_bytes()
        return max(min(host_bytes(), self.limits.host_bytes - used_bytes()), 0)

    def explain(self) -> tuple[str, ...]:
        """The limits in sentences for `danqing doctor`; none where a person set none."""
        said = (("main memory", self.limits.host_bytes), ("the GPU's memory", self.limits.device_bytes))
        lines = [f"a worker takes at most {one / GIB:.1f} GiB of {what}, as asked for" for what, one in said if one]
        if self.allowed is None or self.device.type == "cuda":
            return tuple(lines)
        return (*lines, f"its libraries hold {used_bytes() / GIB:.1f} GiB of that already")

    def allows(self, count: int) -> bool:
        """Whether there is room for something that could be done without; always where a person set no limit."""
        return self.allowed is None or count <= self.free()


def too_little(what: str, needed: int, memory: Memory) -> OutOfMemoryError:
    """The error that says that a limit is too low.

    Args:
        what: That does not fit.
        needed: Bytes of the device that it needs beyond what is held now, in the smallest way.
        memory: What there is.
    """
    on_gpu = memory.device.type == "cuda"
    name = "DANQING_VRAM_GIB (--vram)" if on_gpu else "DANQING_MEMORY_GIB (--memory)"
    held = (memory.allowed or 0) - memory.free()
    return OutOfMemoryError(
        f"{what} needs {needed / GIB:.1f} GiB more, and {memory.free() / GIB:.1f} GiB of the limit are left",
        field="vram_gib" if on_gpu else "memory_gib",
        value=f"{(memory.allowed or 0) / GIB:.1f} GiB",
        allowed=f"{(held + needed) / GIB:.1f} GiB or more for this picture with this model",
        next_step=f"raise {name}, paint a smaller picture, or use a smaller or packed (GGUF) model",
    )


def used_bytes() -> int:
    """Main memory that this process holds now, with the pages of files that it has mapped; 0 where that is not told."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
