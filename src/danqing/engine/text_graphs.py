"""Which text encoders are computed by graphs, and from which model on they are worth the memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor

from danqing.adapters.networks import LoadedNetworks, text_encoders
from danqing.engine.calls import EncodeText
from danqing.engine.room import Room
from danqing.models.families.sd import StableDiffusion
from danqing.models.graphs.compiled import GraphShelf, ShapedGraphs
from danqing.models.graphs.text import WORDS, clip_layers_graph, layers_bytes
from danqing.models.text import TextEncoder

SHARE_OF_BUDGET = 8
"""A text encoder's layers are held once more where they take less than one in so many bytes of what models may hold:
a picture reads its words once, so that SDXL's second encoder (2.6 GB) saves a second, and its denoiser needs the room.
"""
_KEY = "layers"


class TextGraphs:
    """The text encoders of an executor's models.

    They are computed one text at a time and in the number format of their weights, float32: that is a third of
    PyTorch's time already, and a picture's words stay exact.

    Args:
        room: Knows what memory there is.
        budget_bytes: How many bytes of models may stay loaded.
        graphs: Where graphs are kept.
        networks: Which may act in text encoders.
    """

    def __init__(self, room: Room, budget_bytes: int, graphs: GraphShelf, networks: LoadedNetworks) -> None:
        self._room = room
        self._budget_bytes = budget_bytes
        self._graphs = graphs
        self._networks = networks

    @contextmanager
    def reading(self, model: StableDiffusion, call: EncodeText) -> Generator[None]:
        """Inside the block a model's text encoders are computed by graphs, as far as a Call can be.

        Raises:
            NotFoundError: The file of a network that it names is not there any more.
            BadFileError: It is damaged.
            UnsupportedError: It is not made for this model, with every reason.
        """
        with ExitStack() as stack:
            for part, encoder in text_encoders(model):
                graph = None if self._is_changed(encoder, part, call) else self._graph(model, encoder)
                if graph is not None:
                    stack.enter_context(encoder.computed_by(partial(_states, graph)))
            yield

    def bytes_of(self, model: object) -> int:
        """Memory of the weights that the graphs of a model's text encoders hold."""
        if not isinstance(model, StableDiffusion):
            return 0
        return sum(self._graphs.bytes_of(encoder.model) for _, encoder in text_encoders(model))

    def _is_changed(self, encoder: TextEncoder, part: str, call: EncodeText) -> bool:
        """Whether a network changes layers of an encoder: then PyTorch computes it."""
        return any(self._networks.changes(use.model, encoder.model, part, use.rank) for use in call.networks)

    def _graph(self, model: StableDiffusion, encoder: TextEncoder) -> ShapedGraphs | None:
        module = encoder.model
        if next(module.parameters()).device.type != "cpu" or not self._affordable(model, encoder):
            return None
        dtype: torch.dtype = module.dtype
        normed = not encoder.options.hidden
        return self._graphs.get(module, _KEY, lambda: clip_layers_graph(module, dtype, normed=normed))

    def _affordable(self, model: StableDiffusion, encoder: TextEncoder) -> bool:
        """Whether there is room for an encoder's weights once more, and for the denoiser's and autoencoder's first."""
        if self._graphs.bytes_of(encoder.model) > 0:
            return True
        if layers_bytes(encoder.model) * SHARE_OF_BUDGET > self._budget_bytes:
            return False
        before = [one for one in (model.unet, model.vae) if not self._graphs.bytes_of(one)]
        return self._room.holds_twice(encoder.model, before)


def _states(graph: ShapedGraphs, embedded: Tensor, wanted: Sequence[int]) -> list[Tensor]:
    return graph({WORDS: embedded}, wanted)
