"""What a large run needs: batches prepared ahead, how much of the device's peak a step uses, several devices."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}


class StepDataset(Dataset[Any]):
    """Item i is whatever `make(i)` returns: the batch of step i, so that a resumed run needs no state of the loader.

    Args:
        make: Makes the batch of a step; called in worker processes.
        steps: How many steps there are.
    """

    def __init__(self, make: Callable[[int], Any], steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def batches_ahead(make: Callable[[int], Any], first: int, last: int, workers: int) -> Iterator[Any]:
    """The batches of steps `first` to `last` - 1, in order, made by `workers` processes ahead of time (0: in place)."""
    if workers == 0:
        return (make(step) for step in range(first, last))
    loader = DataLoader(
        StepDataset(make, last),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4,
        persistent_workers=True,
    )
    return iter(loader)


def synchronize(device: torch.device) -> None:
    """Waits for the device, so that the clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """The device's real peak in FLOP/s: square matrix products of this type, for about `seconds`."""
    size = MATMUL_SIZE.get(device.type, 2048)
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    for _ in range(3):
        a @ b
    synchronize(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            a @ b
        synchronize(device)
        count += 4
    return 2.0 * size**3 * count / (time.perf_counter() - start)


def count_flop(run: Callable[[], Any]) -> int:
    """Floating-point operations of one call as PyTorch counts them: matrix products and convolutions, both ways."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class Utilization:
    """How well a step uses the device.

    Attributes:
        flop_per_sample: Operations of one sample's forward and backward passes.
        peak_flop_s: What `matmul_peak` measured.
    """

    flop_per_sample: float
    peak_flop_s: float

    def share(self, samples_per_s: float) -> float:
        """The share of the matmul peak at this speed, 0 to 1."""
        return samples_per_s * self.flop_per_sample / self.peak_flop_s


@dataclass(frozen=True)
class Fleet:
    """This process among those that train together; alone without `accelerate launch`.

    Attributes:
        rank: This process's number.
        world: How many there are.
        accelerator: accelerate's object, or None when alone.
    """

    rank: int = 0
    world: int = 1
    accelerator: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process writes logs, samples and checkpoints."""
        return self.rank == 0

    def wrap(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module with its gradients averaged over the fleet."""
        return module if self.accelerator is None else self.accelerator.prepare_model(module)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leading process goes through the block before the others: what it leaves on disk, they find."""
        if self.accelerator is None:
            yield
            return
        with self.accelerator.main_process_first():
            yield

    def wait(self) -> None:
        """Until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def join_fleet(device: torch.device) -> tuple[Fleet, torch.device]:
    """The processes that `accelerate launch` (or torchrun) started, and the device of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Fleet(), device
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device.type == "cpu")
    return Fleet(accelerator.process_index, accelerator.num_processes, accelerator), accelerator.device
