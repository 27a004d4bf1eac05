"""Graphs compiled for this CPU, and the shelf on which they stay for as long as the modules they were written from."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset15 as op
from torch import Tensor, nn

from danqing.models.graphs.emit import ELEMENTS, NotExpressible, Written

Shapes = Mapping[str, Sequence[int]]
ROWS = (2, 1)
"""Rows of the graphs of fixed shapes: a batch is computed by so many at a time, which costs a CPU nothing and gives a
row the same numbers in any company."""
SMALL_ROWS = (8, *ROWS)
"""The same of small networks: of the built-in one eight rows at a time take a sixth less than two at a time."""
SMALL_BYTES = 200_000_000
"""Of weights that a small network has at most."""
FIXED_GRAPHS = 12
"""Of one network, each with all its weights in an order of its own."""
LEFT_ALONE_CALLS = 64
"""A graph of a fixed shape gives way to another shape once so many calls went by without it."""
logger = logging.getLogger(__name__)


class CompiledGraph:
    """A graph that can be called; not from several threads at once.

    Args:
        graph: What to compile; it is changed by this.
        threads: Of this process's cores; PyTorch's number if None.
        shapes: Of all inputs, where they are fixed: then it is a tenth to a fourth faster. Optional inputs without a
            shape are left out.
    """

    def __init__(self, graph: Written, threads: int | None = None, shapes: Shapes | None = None) -> None:
        self.size_bytes = weights_bytes(graph.model)
        self._shared = graph.shared
        if shapes is not None:
            _leave_out(graph.model, [name for name in graph.optional if name not in shapes])
            graph.model.reshape({name: list(shape) for name, shape in shapes.items()})
        options = {
            "INFERENCE_PRECISION_HINT": ELEMENTS[graph.dtype].get_type_name(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            # A pinned thread waits whenever another program has its core.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = _core().compile_model(graph.model, "CPU", options)
        self._names = [port.any_name for port in self._compiled.inputs]
        self._fixed = shapes is not None
        self._request: Any = self._compiled.create_infer_request()

    def __call__(self, feeds: Mapping[str, Tensor], wanted: Sequence[int] | None = None) -> list[Tensor]:
        """The graph's outputs, float32.

        Args:
            feeds: Inputs by their names, of any float format; optional ones that are left out are zero.
            wanted: Which outputs; all if None.
        """
        if self._fixed:
            # Into the request's own memory: told what to read anew each time, it takes 0.15 ms more for it.
            for place, name in enumerate(self._names):
                np.copyto(self._request.get_input_tensor(place).data, _array(feeds.get(name)))
            self._request.infer()
        else:
            arrays = {place: _array(feeds.get(name)) for place, name in enumerate(self._names)}
            self._request.infer(arrays, share_inputs=True, share_outputs=True)
        chosen = range(len(self._compiled.outputs)) if wanted is None else wanted
        # The request writes its next answer into the same memory.
        return [torch.from_numpy(self._request.get_output_tensor(place).data.copy()) for place in chosen]

    def rest(self) -> None:
        """Give up what it works with until the next call; not its weights."""
        self._compiled.release_memory()


class ShapedGraphs:
    """One network's graphs: those of the fixed shapes it meets, and one of any shape where there is no room for more.

    A batch is cut into rows that graphs of fixed shapes have, so that a row's numbers depend neither on its company
    nor on what was painted before.

    Args:
        write: Writes the graph anew for each shape.
        threads: As for `CompiledGraph`.
        has_room: Whether so many bytes more may be held.

    Raises:
        NotExpressible: It cannot be written down.
    """

    def __init__(self, write: Callable[[], Written], threads: int | None, has_room: Callable[[int], bool]) -> None:
        self._write = write
        self._threads = threads
        self._has_room = has_room
        self._written: Written | None = write()
        self.names = tuple(port.any_name for port in self._written.model.inputs)
        self._any_shape = self._written.any_shape
        self._each_bytes = weights_bytes(self._written.model)
        self._rows = SMALL_ROWS if self._each_bytes <= SMALL_BYTES else ROWS
        self._fixed: OrderedDict[Hashable, CompiledGraph] = OrderedDict()
        self._last_used: dict[Hashable, int] = {}
        self._varying: CompiledGraph | None = None
        self._calls = 0

    @property
    def size_bytes(self) -> int:
        """Memory of the weights that its graphs hold."""
        return self._each_bytes * (len(self._fixed) + (self._varying is not None))

    def __call__(self, feeds: Mapping[str, Tensor], wanted: Sequence[int] | None = None) -> list[Tensor]:
        """The outputs, float32: as of `CompiledGraph`; all inputs but those of a single row have the same rows."""
        self._calls += 1
        rows = max(len(one) for one in feeds.values())
        parts: list[list[Tensor]] = []
        begin = 0
        while begin < rows:
            count = next(count for count in self._rows if count <= rows - begin)
            some = feeds if count == rows else {name: _rows(one, begin, count, rows) for name, one in feeds.items()}
            graph = self._varying_one() if self._any_shape else self._fixed_for(some)
            if graph is None:
                count = rows - begin
                some = {name: _rows(one, begin, count, rows) for name, one in feeds.items()}
                graph = self._varying_one()
            parts.append(graph(some, wanted))
            begin += count
        return parts[0] if len(parts) == 1 else [torch.cat(several) for several in zip(*parts, strict=True)]

    def rest(self) -> None:
        """Give up what its graphs work with until the next call; not their weights."""
        for graph in (*self._fixed.values(), *([self._varying] if self._varying is not None else [])):
            graph.rest()

    def _fixed_for(self, feeds: Mapping[str, Tensor]) -> CompiledGraph | None:
        """The graph of these shapes; None where there is no room for it."""
        key = tuple((name, tuple(one.shape)) for name, one in feeds.items())
        if key not in self._fixed:
            if not self._make_room():
                return None
            self.rest()
            self._fixed[key] = CompiledGraph(self._fresh(), self._threads, {name: f.shape for name, f in feeds.items()})
        self._fixed.move_to_end(key)
        self._last_used[key] = self._calls
        return self._fixed[key]

    def _make_room(self) -> bool:
        """Whether one more may be compiled; gives up one that was left alone."""
        if not self._fixed and self._varying is None:
            return True
        while len(self._fixed) >= FIXED_GRAPHS or not self._has_room(self._each_bytes):
            oldest = next(iter(self._fixed), None)
            if oldest is None or self._calls - self._last_used[oldest] < LEFT_ALONE_CALLS:
                return False
            self._give_up(oldest)
        return True

    def _give_up(self, key: Hashable) -> None:
        del self._fixed[key], self._last_used[key]

    def _varying_one(self) -> CompiledGraph:
        if self._varying is None:
            # It does what all others do, so that it may have their place.
            while self._fixed and not self._has_room(self._each_bytes):
                self._give_up(next(iter(self._fixed)))
            self._varying = CompiledGraph(self._fresh(), self._threads)
        return self._varying

    def _fresh(self) -> Written:
        written, self._written = self._written, None
        return written or self._write()


class GraphShelf:
    """Graphs by the modules they were written from; what cannot be written down is tried once.

    Args:
        threads: As for `CompiledGraph`.
        room_bytes: Of weights that all graphs may hold, beyond the first graph of each network.
        allows: Whether a person's memory limit has room for so many bytes more.
    """

    def __init__(
        self,
        threads: int | None = None,
        room_bytes: int = 4 << 30,
        allows: Callable[[int], bool] = lambda more_bytes: True,  # noqa: ARG005
    ) -> None:
        self._threads = threads
        self._room_bytes = room_bytes
        self._allows = allows
        self._kept: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, ShapedGraphs | None]] = (
            weakref.WeakKeyDictionary()
        )
        self.reasons: dict[str, str] = {}

    def get(self, module: nn.Module, key: Hashable, write: Callable[[], Written]) -> ShapedGraphs | None:
        """The graphs of a module; None where PyTorch has to run it.

        Args:
            module: For as long as it lives they are kept.
            key: Which of them.
            write: Writes the graph.
        """
        kept = self._kept.setdefault(module, {})
        if key not in kept:
            try:
                kept[key] = ShapedGraphs(write, self._threads, self._has_room)
            except NotExpressible as why:
                kept[key] = None
                self.reasons[f"{type(module).__name__}: {key}"] = str(why)
                logger.info("PyTorch runs %s: %s", type(module).__name__, why)
        return kept[key]

    def _has_room(self, more_bytes: int) -> bool:
        held = sum(map(self.bytes_of, self._kept))
        return held + more_bytes <= self._room_bytes and self._allows(more_bytes)

    def bytes_of(self, module: nn.Module) -> int:
        """Memory of the weights that a module's graphs hold."""
        return sum(one.size_bytes for one in self._kept.get(module, {}).values() if one is not None)

    def has(self, module: nn.Module, key: Hashable) -> bool:
        """Whether these graphs are written."""
        return self._kept.get(module, {}).get(key) is not None

    def give_up(self, module: nn.Module, key: Hashable) -> None:
        """Give up the graphs of one key, if they are there."""
        self._kept.get(module, {}).pop(key, None)

    def give_up_all(self, module: nn.Module, part: Hashable) -> None:
        """Give up all graphs of a module in whose keys, which are tuples, this stands."""
        kept = self._kept.get(module, {})
        for key in [key for key in kept if isinstance(key, tuple) and part in key]:
            del kept[key]

    def drop(self) -> bool:
        """Give up all graphs. False if there was none."""
        there = any(any(kept.values()) for kept in self._kept.values())
        self._kept.clear()
        return there


def weights_bytes(graph: ov.Model) -> int:
    """Bytes of all constants, which a compiled graph keeps in an order of its own."""
    return sum(node.get_byte_size() for node in graph.get_ops() if node.get_type_name() == "Constant")


def _leave_out(graph: ov.Model, names: Sequence[str]) -> None:
    """Put zeros, which compiling removes, in place of inputs."""
    parameters = {parameter.output(0).get_any_name(): parameter for parameter in graph.get_parameters()}
    for name in names:
        parameter = parameters[name]
        shape = [1] * parameter.get_output_partial_shape(0).rank.get_length()
        zero = op.constant(np.zeros(shape, np.float32))
        parameter.output(0).replace(zero.output(0))
        graph.remove_parameter(parameter)


def _rows(feed: Tensor, begin: int, count: int, rows: int) -> Tensor:
    return feed if len(feed) != rows or rows == 1 else feed[begin : begin + count]


def _array(feed: Tensor | None) -> Any:
    if feed is None:
        return np.zeros((1, 1, 1, 1), np.float32)
    return feed.detach().to("cpu", torch.float32).contiguous().numpy()


@cache
def _core() -> Any:
    return ov.Core()
