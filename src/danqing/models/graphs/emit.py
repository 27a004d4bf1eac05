"""The small operations that graphs are made of: layers of PyTorch modules, written with OpenVINO's operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from danqing.models.graphs.int8 import Rounding, rounded, weight_in_8_bits
from danqing.models.packing import PackedConv2d

Node = Any
"""A value of a graph. OpenVINO's own types are too wide for its own functions."""

ELEMENTS = {torch.float32: ov.Type.f32, torch.bfloat16: ov.Type.bf16}
"""Number formats that graphs are computed in."""


@dataclass(frozen=True)
class Written:
    """A graph.

    Attributes:
        model: OpenVINO's.
        dtype: Number format that it is computed in.
        shared: Weights whose memory it shares: they must live as long as it does.
        optional: Inputs that may be left out: [1, 1, 1, 1] of zeros then.
        any_shape: Whether graphs of fixed shapes would be no faster: one takes all of them.
    """

    model: ov.Model
    dtype: torch.dtype
    shared: tuple[Tensor, ...]
    optional: tuple[str, ...] = ()
    any_shape: bool = False


class NotExpressible(Exception):  # noqa: N818
    """A network that cannot be written down as a graph; the message says why. PyTorch runs it."""


Changes = Callable[[nn.Module], tuple[Tensor | None, Tensor | None]]
"""Layer → what is added to its weight and bias, float32: networks merged into a graph."""


Instead = Callable[[Node, Node, Node], Node]
"""Query, value and what an attention mixes of them → what stands for that, all [b, heads, t, d]."""


class Emitter:
    """Writes layers in one number format.

    Args:
        dtype: float32 or bfloat16; weights in other formats are converted.
        changes: What is added to weights; the modules themselves stay as they are.
        rounding: Layers to compute in eight bits.
        measured: Layers whose input `extremes` are to be told, in the order in which they are met.

    Raises:
        NotExpressible: Another format.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        changes: Changes | None = None,
        rounding: Rounding | None = None,
        measured: Collection[nn.Module] = (),
    ) -> None:
        if dtype not in ELEMENTS:
            raise NotExpressible(f"graphs are computed in float32 or bfloat16, not in {dtype}")
        self.dtype = dtype
        # Eight bits are told from float32: what stays in a higher format is computed in the graph's own all the same.
        self.element = ov.Type.f32 if rounding else ELEMENTS[dtype]
        self._rounding = rounding or {}
        self._measured = measured
        self.read: dict[nn.Module, Node] = {}
        self.inputs: dict[str, Node] = {}
        self.instead: dict[nn.Module, Instead] = {}
        self._optional: list[str] = []
        self._changes = changes
        self._shared: list[Tensor] = []

    def input(self, name: str, shape: Sequence[int], *, optional: bool = False) -> Node:
        """An input of the graph in float32, in the graph's own format from here on.

        Args:
            name: What it is fed by.
            shape: −1 for sides that vary.
            optional: Whether it may be left out; then [1, 1, 1, 1] of zeros must do.
        """
        if optional:
            self._optional.append(name)
        parameter = op.parameter(list(shape), ov.Type.f32, name)
        parameter.output(0).set_names({name})
        self.inputs[name] = parameter
        return parameter if self.element == ov.Type.f32 else op.convert(parameter, self.element)

    def graph(self, outputs: Sequence[Node], name: str) -> Written:
        """The whole, with float32 outputs."""
        results = [op.result(one if self.element == ov.Type.f32 else op.convert(one, ov.Type.f32)) for one in outputs]
        model = ov.Model(results, list(self.inputs.values()), name)
        return Written(model, self.dtype, tuple(self._shared), tuple(self._optional))

    def weight(self, tensor: Tensor) -> Node:
        """A constant that shares the tensor's memory where its format and layout allow."""
        plain = tensor.detach()
        if type(plain) is not Tensor or plain.device.type != "cpu" or not plain.is_floating_point():
            raise NotExpressible(f"weights are kept as {type(plain).__name__} in {plain.dtype} on {plain.device}")
        plain = plain.to(torch.float32 if self._rounding else self.dtype).contiguous()
        # OpenVINO does not hold on to memory that it shares.
        shared = isinstance(tensor, nn.Parameter) and plain.data_ptr() == tensor.data_ptr()
        if shared:
            self._shared.append(plain)
        numbers = plain.view(torch.int16 if plain.dtype is torch.bfloat16 else torch.int32).numpy()
        return ov.op.Constant(ov.Tensor(numbers, list(plain.shape), self.element), shared)

    def number(self, value: float) -> Node:
        """A scalar in the graph's format."""
        return op.constant(np.array(value, np.float32), dtype=self.element)

    def whole(self, *values: int) -> Node:
        """Integers, such as axes and shapes."""
        return op.constant(np.array(values, np.int64))

    def linear(self, module: Any, x: Node) -> Node:
        """A fully connected layer on the last axis."""
        only(module, nn.Linear)
        weight, bias = self._own(module, module.weight)
        y = op.matmul(self._read_by(module, x), self._weight_of(module, weight), False, True)
        return y if bias is None else op.add(y, self.weight(bias))

    def conv(self, module: Any, x: Node, *, pad_end: int | None = None) -> Node:
        """A convolution [b, c, h, w].

        Args:
            module: A Conv2d, or one packed for PyTorch.
            x: Its input.
            pad_end: Rows and columns of zeros below and to the right, in place of the module's own padding.
        """
        only(module, nn.Conv2d, PackedConv2d)
        packed = isinstance(module, PackedConv2d)
        weight, bias = self._own(module, module.dense_weight() if packed else module.weight)
        padding, stride, dilation, groups = module.geometry if packed else geometry(module)
        if groups != 1:
            raise NotExpressible(f"a convolution of {groups} groups")
        begin, end = (padding, padding) if pad_end is None else ([0, 0], [pad_end, pad_end])
        x, kernel = self._read_by(module, x), self._weight_of(module, weight)
        y = op.convolution(x, kernel, stride, begin, end, dilation)
        return y if bias is None else op.add(y, self.weight(bias.reshape(1, -1, 1, 1)))

    def group_norm(self, module: Any, x: Node) -> Node:
        """Normalised over groups of channels, axis 1."""
        only(module, nn.GroupNorm)
        weight, bias = self._own(module, module.weight)
        if bias is None:
            raise NotExpressible("a normalisation without shift")
        return op.group_normalization(x, self.weight(weight), self.weight(bias), module.num_groups, module.eps)

    def layer_norm(self, module: Any, x: Node) -> Node:
        """Normalised over the last axis."""
        only(module, nn.LayerNorm)
        y = op.mvn(x, self.whole(-1), True, module.eps, "inside_sqrt")
        if module.weight is None:
            return y
        weight, bias = self._own(module, module.weight)
        y = op.multiply(y, self.weight(weight))
        return y if bias is None else op.add(y, self.weight(bias))

    def _read_by(self, module: nn.Module, x: Node) -> Node:
        if module in self._measured:
            self.read[module] = x
        return rounded(x, self._rounding[module]) if module in self._rounding else x

    def _weight_of(self, module: nn.Module, weight: Tensor) -> Node:
        return weight_in_8_bits(weight) if module in self._rounding else self.weight(weight)

    def _own(self, module: Any, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a layer with what is added to them."""
        added, shift = (None, None) if self._changes is None else self._changes(module)
        bias: Tensor | None = module.bias
        if shift is not None:
            bias = shift if bias is None else bias.float() + shift
        return weight if added is None else weight.float() + added, bias

    def silu(self, x: Node) -> Node:
        """X · sigmoid(x)."""
        return op.swish(x, self.number(1.0))

    def enlarged(self, x: Node, like: Node | None = None) -> Node:
        """Twice as high and wide, each pixel repeated; or as high and wide as `like`, which may lack a last row."""
        if like is not None:
            sides = op.slice(op.shape_of(like), self.whole(2), self.whole(4), self.whole(1))
            return op.interpolate(
                x, sides, "nearest", "sizes", axes=self.whole(2, 3),
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )  # fmt: skip
        scales = op.constant(np.array([2.0, 2.0], np.float32))
        return op.interpolate(
            x, scales, "nearest", "scales", axes=self.whole(2, 3),
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def tokens(self, x: Node) -> Node:
        """[b, c, h, w] as [b, h · w, c]."""
        return op.transpose(op.reshape(x, self.whole(0, 0, -1), True), self.whole(0, 2, 1))

    def picture(self, tokens: Node, like: Node) -> Node:
        """[b, h · w, c] as [b, c, h, w], of the height and width of `like`."""
        sides = op.slice(op.shape_of(like), self.whole(2), self.whole(4), self.whole(1))
        shape = op.concat([self.whole(0, 0), sides], 0)
        return op.reshape(op.transpose(tokens, self.whole(0, 2, 1)), shape, True)

    def attention(self, module: Any, x: Node, context: Node) -> Node:
        """Multi-head attention of tokens [b, t, c] to a context [b, s, d]."""
        asked = ((module.to_q, x), (module.to_k, context), (module.to_v, context))
        mixed = self.mixed(asked, module.heads, self.instead.get(module))
        return self.linear(module.to_out[0], mixed)

    def mixed(self, asked: Sequence[tuple[Any, Node]], heads: int, instead: Instead | None = None) -> Node:
        """Scaled dot product attention [b, t, c] of query, key and value, each a layer and what it reads.

        Args:
            asked: Those three.
            heads: How many.
            instead: What comes of it.
        """
        query, key, value = (self.heads(self.linear(layer, given), heads) for layer, given in asked)
        mixed = op.scaled_dot_product_attention(query, key, value)
        if instead is not None:
            mixed = instead(query, value, mixed)
        return op.reshape(op.transpose(mixed, self.whole(0, 2, 1, 3)), self.whole(0, 0, -1), True)

    def heads(self, x: Node, heads: int) -> Node:
        """[b, t, heads · d] as [b, heads, t, d]."""
        return op.transpose(op.reshape(x, self.whole(0, 0, heads, -1), True), self.whole(0, 2, 1, 3))


def geometry(conv: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    """Padding, stride, dilation and groups of a convolution."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise NotExpressible(f"a convolution padded by {conv.padding_mode} {conv.padding}")
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


def only(module: Any, *kinds: type) -> None:
    """Refuse a module that is not exactly of one of these classes: a subclass may compute something else.

    Raises:
        NotExpressible: It is of another class.
    """
    if type(module) not in kinds:
        raise NotExpressible(f"a {type(module).__name__} where a {kinds[0].__name__} was expected")


def absent(owner: Any, *names: str) -> None:
    """Refuse a module that has parts or settings which no graph is written for.

    Raises:
        NotExpressible: One of these attributes is set.
    """
    for name in names:
        if getattr(owner, name, None):
            raise NotExpressible(f"{type(owner).__name__} with {name}")
