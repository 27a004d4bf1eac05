"""Convolution weights kept in oneDNN's own layout, so that a CPU step does not reorder them again and again.

A bfloat16 convolution on a CPU spends much of its time bringing its weights into blocked form: at 8×8 latents a
2560→1280 convolution took 74 ms as it is and 32 ms packed. Only inference uses the packed form; where a gradient is
wanted the ordinary convolution runs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from danqing.models.mapped import Freed

FREED = Freed()
"""Weights given up for packed ones: without this, a model takes its convolutions twice from its first step on."""


class PackedConv2d(nn.Module):
    """A Conv2d that packs its weight at its first call, for the picture size it sees there.

    Other sizes work too; oneDNN then reorders where it must.

    Args:
        conv: A convolution with zero padding, in bfloat16 on a CPU. Its weight is given up once packed.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv: nn.Conv2d | None = conv
        self.bias = conv.bias
        self._geometry = (list(map(int, conv.padding)), list(conv.stride), list(conv.dilation), conv.groups)
        self._packed: Tensor | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the packed weight; 0 before the first call, when `conv` still has it."""
        return 0 if self._packed is None else self._packed.numel() * self._packed.element_size()

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation and groups."""
        return self._geometry

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x [b, c, h, w]."""
        padding, stride, dilation, groups = self._geometry
        if torch.is_grad_enabled() and x.requires_grad:
            return nn.functional.conv2d(x, self.dense_weight(), self.bias, stride, padding, dilation, groups)
        if self._packed is None:
            weight = self.dense_weight().detach()
            size = list(x.shape)
            self._packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
                weight.to_mkldnn(), padding, stride, dilation, groups, size
            )
            self.conv = None
            FREED.add(weight.nbytes)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self.bias, padding, stride, dilation, groups, "none", [], ""
        )

    def dense_weight(self) -> Tensor:
        """The weight as an ordinary tensor [out, in / groups, kh, kw]."""
        if self.conv is not None:
            return self.conv.weight
        if self._packed is None:
            raise RuntimeError("a packed convolution lost its weight")
        return self._packed.to_dense()


def pack(module: nn.Module) -> int:
    """Replace the bfloat16 convolutions below a module by packed ones; how many."""
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and _can_pack(child) and not isinstance(parent, PackedConv2d):
                setattr(parent, name, PackedConv2d(child))
                count += 1
    return count


def packed_bytes(module: nn.Module) -> int:
    """Bytes of all packed weights below a module, which `parameters()` does not list."""
    return sum(child.size_bytes for child in module.modules() if isinstance(child, PackedConv2d))


def _can_pack(conv: nn.Conv2d) -> bool:
    on_cpu = conv.weight.device.type == "cpu" and conv.weight.dtype is torch.bfloat16
    return on_cpu and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
