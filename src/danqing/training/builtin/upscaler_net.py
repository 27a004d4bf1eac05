"""The ×4 upscaler's network: Real-ESRGAN's "SRVGGNetCompact" (Wang et al., arXiv 2107.10833, §4).

Parameters carry the names that spandrel detects as "Compact", so the exported file opens in every program that reads
Real-ESRGAN's compact models.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)


class CompactUpscaler(nn.Module):
    """Convolutions at low resolution, then a pixel shuffle; learns what nearest-neighbour enlargement leaves out.

    Args:
        num_feat: Channels of the inner layers.
        num_conv: Inner convolutions.
        scale: Factor of enlargement.
    """

    def __init__(self, num_feat: int = 32, num_conv: int = 14, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = []
        for place, inputs in enumerate((3, *([num_feat] * num_conv))):
            layers += [_first(inputs, num_feat) if place == 0 else _inner(num_feat), nn.PReLU(num_feat, init=0.2)]
        last = nn.Conv2d(num_feat, 3 * scale * scale, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.body = nn.ModuleList([*layers, last])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, 3, h, w]` in [0, 1] → `[n, 3, scale·h, scale·w]`, not clamped."""
        hidden = x
        for layer in self.body:
            hidden = layer(hidden)
        # Added in the input's precision: bf16 would round the colours of flat areas.
        return F.pixel_shuffle(hidden, self.scale).to(x.dtype) + F.interpolate(x, scale_factor=self.scale)


def _first(inputs: int, num_feat: int) -> nn.Conv2d:
    """Starts with kernels that sum to zero: flat areas, which nearest neighbour gets right, say nothing at first.

    With kernels that do respond to them, the stack learns to be silent before it learns edges, and stays silent.
    """
    layer = nn.Conv2d(inputs, num_feat, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight)
    with torch.no_grad():
        layer.weight.sub_(layer.weight.mean((2, 3), keepdim=True)).mul_(4.0)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _inner(num_feat: int) -> nn.Conv2d:
    """Starts close to passing its input on: a deep plain stack that starts at random forgets its input and stays so."""
    layer = nn.Conv2d(num_feat, num_feat, 3, padding=1)
    nn.init.dirac_(layer.weight)
    with torch.no_grad():
        layer.weight.add_(torch.randn_like(layer.weight), alpha=0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
