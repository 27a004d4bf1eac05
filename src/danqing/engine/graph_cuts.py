"""Which branches a denoiser's graph leaves the features of."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from danqing.models import shallow_transformer

_OUTERMOST: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def inner_branch(unet: Any, branch: int | None) -> int | None:
    """A branch, where no graph leaves its feature anyway."""
    return None if branch is None or branch < _outermost(unet) else branch


def kept_branches(unet: Any, inner: int | None) -> tuple[int, ...]:
    """The branches whose features a graph leaves.

    Those of the outermost level, and all of a transformer, are always there: they cost nothing to speak of, where a
    graph of their own for Calls that keep them would hold all weights once more.

    Args:
        unet: The denoiser.
        inner: One more.
    """
    return (*range(_outermost(unet)), *(() if inner is None else (inner,)))


def _outermost(unet: Any) -> int:
    """How many branches the outermost level has; diffusers' modules take a while to be asked for a part of theirs."""
    if unet not in _OUTERMOST:
        if hasattr(unet, "down_blocks"):
            _OUTERMOST[unet] = len(unet.down_blocks[0].resnets) + 1
        else:
            _OUTERMOST[unet] = shallow_transformer.deepest(unet) + 1 if shallow_transformer.can_be_cut(unet) else 0
    return _OUTERMOST[unet]
