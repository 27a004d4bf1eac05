"""Token merging: self-attention takes like tokens together, and gives each the common answer.

Source: Bolya and Hoffman, *Token Merging for Fast Stable Diffusion*, arXiv 2303.17604. As published, of every 2 × 2
tokens one is a destination, and only the level with the most tokens merges. The destination is always the same corner
here, not drawn at random: a picture does not depend on its company, and comes out the same again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, CrossAttnUpBlock2D
from torch import Tensor, nn

from danqing.adapters.hooks import uncompiled


@dataclass(frozen=True)
class Matching:
    """Which tokens of each row are taken together.

    Attributes:
        sources: Places of tokens that are no destinations [b, s].
        destinations: Places of those that are [d].
        merged: Among the sources, those that are taken into a destination [b, r].
        into: For each of them which destination [b, r].
        kept: Among the sources, the others [b, s − r].
    """

    sources: Tensor
    destinations: Tensor
    merged: Tensor
    into: Tensor
    kept: Tensor

    def merge(self, x: Tensor) -> Tensor:
        """Fewer tokens [b, n − r, c] of all [b, n, c]: the kept ones, then each destination's mean."""
        own = x[:, self.destinations]
        others = x[:, self.sources]
        moved = _picked(others, self.merged)
        index = self.into.unsqueeze(-1).expand_as(moved)
        means = own.scatter_reduce(1, index, moved, reduce="mean", include_self=True)
        return torch.cat([_picked(others, self.kept), means], dim=1)

    def spread(self, y: Tensor) -> Tensor:
        """Answers for all tokens [b, n, c] of those for the fewer [b, n − r, c]."""
        kept, own = y.split([self.kept.shape[1], len(self.destinations)], dim=1)
        others = y.new_empty(len(y), len(self.sources), y.shape[-1])
        others.scatter_(1, self.kept.unsqueeze(-1).expand_as(kept), kept)
        moved = _picked(own, self.into)
        others.scatter_(1, self.merged.unsqueeze(-1).expand_as(moved), moved)
        whole = y.new_empty(len(y), len(self.sources) + len(self.destinations), y.shape[-1])
        whole[:, self.sources], whole[:, self.destinations] = others, own
        return whole


def match_tokens(x: Tensor, grid: tuple[int, int], share: float) -> Matching:
    """Match tokens [b, h · w, c] of a grid of h × w by the cosine of their features.

    Args:
        x: The tokens.
        grid: h and w.
        share: How many of all are merged; at most three quarters.
    """
    places = torch.arange(x.shape[1], device=x.device).view(grid)
    chosen = torch.zeros(grid, dtype=torch.bool, device=x.device)
    chosen[::2, ::2] = True
    destinations, sources = places[chosen], places[~chosen]
    unit = x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    best, into = (unit[:, sources] @ unit[:, destinations].transpose(1, 2)).max(dim=-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    count = min(int(x.shape[1] * share), len(sources))
    merged = order[:, :count]
    return Matching(sources, destinations, merged, into.gather(1, merged), order[:, count:])


@contextmanager
def merged(unet: Any, share: float) -> Iterator[None]:
    """Inside, the self-attentions of a UNet's level with the most tokens merge; 0 changes nothing."""
    if share <= 0:
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(uncompiled(unet))
        for transformer in _outermost(unet):
            for hook in _hooks(transformer, share):
                stack.callback(hook.remove)
        yield


def _outermost(unet: Any) -> list[nn.Module]:
    """The transformers of the outermost level that has some."""
    down = [block for block in unet.down_blocks if isinstance(block, CrossAttnDownBlock2D)]
    up = [block for block in unet.up_blocks if isinstance(block, CrossAttnUpBlock2D)]
    return [part for block in (*down[:1], *up[-1:]) for part in block.attentions]


def _hooks(transformer: Any, share: float) -> Iterator[Any]:
    grid: list[tuple[int, int]] = []
    matchings: list[Matching] = []

    def entered(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        grid[:] = [(given[0].shape[-2], given[0].shape[-1])]

    def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        matchings[:] = [match_tokens(given[0], grid[0], share)]
        return (matchings[0].merge(given[0]), *given[1:]), named

    def after(_: nn.Module, __: tuple[Any, ...], answer: Tensor) -> Tensor:
        return matchings.pop().spread(answer)

    yield transformer.register_forward_pre_hook(entered)
    for block in transformer.transformer_blocks:
        yield block.attn1.register_forward_pre_hook(before, with_kwargs=True)
        yield block.attn1.register_forward_hook(after)


def _picked(x: Tensor, places: Tensor) -> Tensor:
    """Tokens [b, k, c] at some places [b, k] of x [b, n, c]."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
