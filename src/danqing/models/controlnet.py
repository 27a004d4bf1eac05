"""A loaded ControlNet (Zhang et al., *Adding Conditional Control to Text-to-Image Models*, arXiv 2302.05543)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ControlNetModel
from torch import Tensor

from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.prepare import prepare_denoiser
from danqing.spec.model import ControlNetInfo

Residuals = tuple[Tensor, ...]
"""What is added to a UNet's skip connections, first to last, and to its middle [b, c, h, w]."""


@dataclass
class LoadedControlNet:
    """A ControlNet on its device.

    Attributes:
        info: What the catalogue knows of it.
        precision: Its number formats.
        net: The network.
    """

    info: ControlNetInfo
    precision: Precision
    net: ControlNetModel

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.net.parameters()) + packed_bytes(self.net)

    @torch.inference_mode()
    def residuals(self, sample: Tensor, timesteps: Tensor, context: Tensor, hint: Tensor) -> Residuals:
        """The residuals of one batch, not weighted.

        Args:
            sample: The UNet's scaled input, latent channels only or all of them, [b, c, h, w].
            timesteps: [b].
            context: Text states [b, tokens, width].
            hint: The control map in [0, 1] (−1 where a hole is), [b, 3, H, W].
        """
        own = sample[:, : self.info.in_channels]
        hint = hint.to(sample)
        if self.precision.channels_last:
            hint = hint.contiguous(memory_format=torch.channels_last)
        down, mid = self.net(own, timesteps, context, hint, return_dict=False)
        return (*down, mid)


def load_controlnet(
    info: ControlNetInfo, precision: Precision, device: torch.device, *, fast_cpu: bool = True
) -> LoadedControlNet:
    """Load a diffusers ControlNet folder.

    Args:
        info: From the catalogue; `path` is the folder.
        precision: Number formats; the file's own does not matter.
        device: Where it shall compute.
        fast_cpu: As for `prepare_denoiser`.
    """
    net = ControlNetModel.from_pretrained(info.path, torch_dtype=precision.denoiser, local_files_only=True)
    return LoadedControlNet(info, precision, prepare_denoiser(net, precision, device, fast_cpu=fast_cpu))
