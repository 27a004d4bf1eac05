"""Layers computed in eight bits: what they read in 256 steps between two measured bounds, their weights by channel.

Source: Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
arXiv 1712.05877: asymmetric for what is read, symmetric and by output channel for weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from danqing.models.packing import PackedConv2d

Bounds = tuple[float, float]
"""The least and the greatest value that a layer reads."""
Rounding = Mapping[nn.Module, Bounds]
"""The layers that are computed in eight bits."""
_STEPS, _WEIGHT_STEPS = 255, 127


def layers(unet: Any) -> dict[str, nn.Module]:
    """The layers of a UNet that are worth it, by name.

    Not its first and last convolution, which would show, nor what reads times and words, which costs next to nothing.
    """
    kinds = (nn.Linear, nn.Conv2d, PackedConv2d)
    small = ("time_emb_proj", "attn2.to_k", "attn2.to_v")
    blocks = ("down_blocks.", "mid_block.", "up_blocks.")
    return {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, kinds) and name.startswith(blocks) and not name.endswith(small)
    }


def rounded(x: Any, bounds: Bounds) -> Any:
    """A value in 256 steps; zero is one of them."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    step = max((high - low) / _STEPS, 1e-8)
    below = round(-low / step)
    ends = [op.constant(np.array(end, np.float32)) for end in (-below * step, (_STEPS - below) * step)]
    return op.fake_quantize(x, *ends, *ends, _STEPS + 1)


def weight_in_8_bits(weight: Tensor) -> Any:
    """A weight [out, ...] as whole numbers and one scale for each output channel."""
    plain = weight.detach().float().flatten(1)
    scale = plain.abs().amax(1, keepdim=True).clamp(min=1e-8) / _WEIGHT_STEPS
    whole = torch.round(plain / scale).to(torch.int8).reshape(weight.shape).contiguous()
    scales = scale.reshape(-1, *[1] * (weight.dim() - 1)).numpy()
    number = ov.op.Constant(ov.Tensor(whole.numpy()), shared_memory=False)
    return op.multiply(op.convert(number, ov.Type.f32), op.constant(scales))


def extremes(values: list[Any]) -> Any:
    """The least and the greatest of each value, float32 [n, 2]."""
    one = op.constant(np.array([1, 1], np.int64))
    rows: list[Any] = []
    for value in values:
        axes = op.constant(np.arange(value.get_output_partial_shape(0).rank.get_length()))
        ends = [op.reshape(reduce(value, axes), one, False) for reduce in (op.reduce_min, op.reduce_max)]
        rows.append(op.concat(ends, 1))
    return op.concat(rows, 0)
