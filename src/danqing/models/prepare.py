"""A denoising network made ready for its device."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from danqing.models.attention import speed_up
from danqing.models.packing import pack
from danqing.models.precision import Precision
from danqing.models.storage import store

Network = TypeVar("Network", bound=nn.Module)


def prepare_denoiser(network: Network, precision: Precision, device: torch.device, *, fast_cpu: bool = True) -> Network:
    """A UNet or ControlNet on its device, ready to be called: no gradients for its weights, fast memory layouts.

    Args:
        network: In the precision's number format.
        precision: Number formats.
        device: Where it shall compute.
        fast_cpu: On a CPU in bfloat16, pack convolutions and speed up attention; torch.compile cannot look inside.
    """
    # Before it is moved, so that the device holds the small form alone.
    network = store(network.eval().requires_grad_(False), precision, device).to(device)
    if packs(precision, device, fast_cpu=fast_cpu):
        # Packing reads any layout, and a graph shares the memory of weights that lie as files have them.
        pack(network)
        speed_up(network)
    elif precision.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network


def packs(precision: Precision, device: torch.device, *, fast_cpu: bool = True) -> bool:
    """Whether a network's convolutions will be packed.

    Args:
        precision: Number formats.
        device: Where it shall compute.
        fast_cpu: As for `prepare_denoiser`.
    """
    on_cpu = device.type == "cpu" and precision.denoiser is torch.bfloat16
    return fast_cpu and on_cpu and precision.storage is None
