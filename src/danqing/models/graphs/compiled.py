"""Graphs compiled for this CPU, and the shelf on which they stay for as long as the modules they were written from."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any

import openvino as ov
import torch
from torch import Tensor, nn

from danqing.models.graphs.emit import ELEMENTS, NotExpressible, Written

logger = logging.getLogger(__name__)


class CompiledGraph:
    """A graph that can be called; not from several threads at once.

    Args:
        graph: What to compile.
        threads: Of this process's cores; PyTorch's number if None.
    """

    def __init__(self, graph: Written, threads: int | None = None) -> None:
        self.size_bytes = weights_bytes(graph.model)
        self._shared = graph.shared
        options = {
            "INFERENCE_PRECISION_HINT": ELEMENTS[graph.dtype].get_type_name(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            # A pinned thread waits whenever another program has its core.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = _core().compile_model(graph.model, "CPU", options)
        self.names = [port.any_name for port in self._compiled.inputs]
        self._request: Any = self._compiled.create_infer_request()

    def __call__(self, feeds: Mapping[str, Tensor], wanted: Sequence[int] | None = None) -> list[Tensor]:
        """The graph's outputs, float32.

        Args:
            feeds: Every input by its name, of any float format.
            wanted: Which outputs; all if None.
        """
        arrays = {name: feeds[name].detach().to("cpu", torch.float32).contiguous().numpy() for name in self.names}
        answer = self._request.infer(arrays, share_inputs=True)
        # The request writes its next answer into the same memory.
        ports = self._compiled.outputs
        chosen = range(len(ports)) if wanted is None else wanted
        return [torch.from_numpy(answer[ports[place]].copy()) for place in chosen]


class GraphShelf:
    """Compiled graphs by the modules they were written from; what cannot be written down is tried once.

    Args:
        threads: As for `CompiledGraph`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._kept: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, CompiledGraph | None]] = (
            weakref.WeakKeyDictionary()
        )
        self.reasons: dict[str, str] = {}

    def get(self, module: nn.Module, key: Hashable, write: Callable[[], Written]) -> CompiledGraph | None:
        """The compiled graph of a module; None where PyTorch has to run it.

        Args:
            module: For as long as it lives the graph is kept.
            key: Which of its graphs.
            write: Writes the graph.
        """
        kept = self._kept.setdefault(module, {})
        if key not in kept:
            try:
                kept[key] = CompiledGraph(write(), self._threads)
            except NotExpressible as why:
                kept[key] = None
                self.reasons[f"{type(module).__name__}: {key}"] = str(why)
                logger.info("PyTorch runs %s: %s", type(module).__name__, why)
        return kept[key]

    def bytes_of(self, module: nn.Module) -> int:
        """Memory of the weights that a module's graphs hold."""
        return sum(one.size_bytes for one in self._kept.get(module, {}).values() if one is not None)

    def has(self, module: nn.Module, key: Hashable) -> bool:
        """Whether this graph is compiled."""
        return self._kept.get(module, {}).get(key) is not None

    def give_up(self, module: nn.Module, key: Hashable) -> None:
        """Give up one graph, if it is there."""
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


@cache
def _core() -> Any:
    return ov.Core()
