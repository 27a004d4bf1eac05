"""Deep features and merged tokens in batches of rows: which blocks are computed, and what is kept of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from danqing.adapters.hooks import uncompiled
from danqing.engine.calls import Denoise
from danqing.models import shallow_transformer
from danqing.models.families.sd import Network
from danqing.models.lllite import LoadedLLLite
from danqing.models.loader import Control as ControlNet
from danqing.models.shallow import can_be_cut, deepest, keeping, outer_blocks

Row = tuple[int, int]
"""A Call's place, and a row of it."""


@dataclass
class Features:
    """The deep features of a batch.

    Attributes:
        wanted: Branches whose features are kept of some rows, ascending.
        reused: The branch whose features stand for the deep blocks; None where those are computed.
        given: Those features, a row for each [b, f, h, w].
        found: What entered the wanted branches, once the batch is computed.
    """

    wanted: tuple[int, ...] = ()
    reused: int | None = None
    given: Tensor | None = None
    found: dict[int, Tensor] = field(default_factory=dict[int, Tensor])


def reused_branch(unet: Any, call: Denoise) -> int | None:
    """The branch whose kept features a Call uses; None where it computes everything."""
    return branch_of(unet, call) if call.features is not None and call.features.reuse else None


def branch_of(unet: Any, call: Denoise) -> int | None:
    """Where a Call cuts the denoiser; None where it does not, or where attention ties its rows to each other."""
    if call.features is None or call.words is not None:
        return None
    if shallow_transformer.can_be_cut(unet):
        return min(call.features.branch, shallow_transformer.deepest(unet))
    return min(call.features.branch, deepest(unet)) if can_be_cut(unet) else None


def merging_of(unet: Any, call: Denoise, nets: Sequence[ControlNet]) -> float:
    """The share of tokens that a Call's self-attentions merge; none where something acts on each token by its place."""
    if call.merging == 0.0:
        return 0.0
    by_place = call.words is not None or any(isinstance(net, LoadedLLLite) for net in nets)
    return 0.0 if by_place or not can_be_cut(unet) else call.merging


def features_of(unet: Any, calls: Sequence[Denoise], rows: Sequence[Row], reused: int | None) -> Features:
    """What a batch of rows takes from earlier steps, and what is to be kept of it."""
    if reused is not None:
        kept = [use.of(row) for index, row in rows if (use := calls[index].features) is not None]
        return Features(reused=reused, given=torch.cat(kept))
    cuts = {branch_of(unet, calls[index]) for index, _ in rows}
    return Features(wanted=tuple(sorted(cut for cut in cuts if cut is not None)))


@contextmanager
def in_torch(unet: Any, features: Features) -> Generator[Network | None]:
    """What stands for a UNet's forward meanwhile, by its own modules; None for itself, which leaves its features."""
    if features.reused is not None and features.given is not None:
        outer = shallow_transformer.outer_blocks if shallow_transformer.can_be_cut(unet) else outer_blocks
        yield partial(outer, unet, feature=features.given, branch=features.reused)
        return
    kept = shallow_transformer.keeping if shallow_transformer.can_be_cut(unet) else keeping
    with uncompiled(unet, bool(features.wanted)), kept(unet, features.wanted, features.found):
        yield None


def keep(unet: Any, features: Features, calls: Sequence[Denoise], rows: Sequence[Row]) -> None:
    """Give the Calls what was found for their rows."""
    if not features.found:
        return
    for place, (index, row) in enumerate(rows):
        call = calls[index]
        branch = branch_of(unet, call)
        if call.features is not None and branch is not None:
            call.features.keep(call, row, features.found[branch][place : place + 1])
