"""What is computed from a control map, kept for as long as the map lives."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

Found = TypeVar("Found")


class OncePerMap(Generic[Found]):
    """Results by the map itself, not by its values; the least lately used are forgotten.

    Args:
        most: How many maps are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[int, tuple[weakref.ref[Tensor], Found]] = OrderedDict()

    def get(self, hint: Tensor, compute: Callable[[Tensor], Found]) -> Found:
        """The result for this map, computed at its first use."""
        known = self._known.get(id(hint))
        # Another tensor may have come to lie where a map was that is gone.
        if known is None or known[0]() is not hint:
            known = (weakref.ref(hint), compute(hint))
            self._known[id(hint)] = known
        self._known.move_to_end(id(hint))
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return known[1]
