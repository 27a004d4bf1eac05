"""A loaded T2I-Adapter (Mou et al., *T2I-Adapter: Learning Adapters to Dig out More Controllable Ability*, 2302.08453).

It reads the map alone, neither latents nor words nor time, so that its answer is the same in every step of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import T2IAdapter
from torch import Tensor
from torch.nn.functional import pad

from danqing.models.control_build import build_control
from danqing.models.control_files import describe_control
from danqing.models.families.parts import owned
from danqing.models.once import OncePerMap
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.prepare import prepare_denoiser
from danqing.spec.model import ControlNetInfo

REMEMBERED_MAPS = 32

Features = tuple[Tensor, ...]
"""What is added inside a UNet's levels on the way down, first to last [1, c, h, w]."""


@dataclass
class LoadedT2IAdapter:
    """A T2I-Adapter on its device.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats.
        net: The network.
    """

    info: ControlNetInfo
    precision: Precision
    net: T2IAdapter
    _known: OncePerMap[Features] = field(default_factory=lambda: OncePerMap[Features](REMEMBERED_MAPS))

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.net.parameters()) + packed_bytes(self.net)

    def features(self, hint: Tensor) -> Features:
        """What a map adds, not weighted; computed once for each map, alone, so that no company changes it.

        Args:
            hint: The control map in [0, 1] (−1 where a hole is), [1, 3, H, W].
        """
        return self._known.get(hint, self._computed)

    @torch.inference_mode()
    def _computed(self, hint: Tensor) -> Features:
        shown = hint.clamp_min(0.0)
        if int(self.net.config["in_channels"]) == 1:
            shown = shown.mean(dim=1, keepdim=True)
        factor = int(self.net.config["downscale_factor"])
        down, right = (-side % factor for side in shown.shape[-2:])
        if down or right:
            # A UNet rounds odd sides up too.
            shown = pad(shown, (0, right, 0, down), mode="replicate")
        shown = shown.to(next(self.net.parameters()))
        if self.precision.channels_last:
            shown = shown.contiguous(memory_format=torch.channels_last)
        return tuple(self.net(shown))


def load_t2i_adapter(info: ControlNetInfo, precision: Precision, device: torch.device) -> LoadedT2IAdapter:
    """Load a T2I-Adapter; arguments as for `load_controlnet`.

    Raises:
        BadFileError: The file's tensors are not the ones that its shapes promise.
    """
    path = Path(info.path)
    net: Any
    if path.is_file():
        net = build_control(describe_control(path), precision.denoiser)
    else:
        net = owned(T2IAdapter.from_pretrained(path, torch_dtype=precision.denoiser, local_files_only=True))
    # It runs once a picture: packing its convolutions would take longer than it saves.
    return LoadedT2IAdapter(info, precision, prepare_denoiser(net, precision, device, fast_cpu=False))
