"""Prompt-to-Prompt in a UNet: the attention of an edited row follows that of the row it was edited from.

Hertz et al., *Prompt-to-Prompt Image Editing with Cross Attention Control*, arXiv 2208.01626. In cross-attentions the
edited row looks with the source's map, carried over to its own words; in small self-attentions it looks with the
source's map at its own values. All other rows of the batch come out as they would without this, bit for bit.

One thing is done otherwise than published: where `refine` mixes columns of two maps, each row of the map is scaled so
that it sums to 1 again, as a softmax leaves it. Weights of words come after that and act in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from danqing.adapters.hooks import row_subset, uncompiled

MOST_SEEN_PLACES = 1024
"""Maps of larger layers are not kept: they say nothing more of where a thing is."""


@dataclass
class Sightings:
    """Where words were seen in the last batch.

    Attributes:
        maps: For each cross-attention, by its name, the maps of the source and of the edited row, both
            [places, tokens], averaged over heads.
    """

    maps: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])


@dataclass(frozen=True, eq=False)
class AttentionControl:
    """How the edited row attends in one step.

    Attributes:
        carried: From tokens of the source to tokens of the edited text [tokens, tokens]; None leaves it its own map.
        own: 1 for each token of the edited text that keeps its own attention, else 0 [tokens].
        weights: Of the tokens of the edited text [tokens]; None for all alike.
        self_places: Self-attentions of at most so many places follow the source; 0 for none.
        seen: Filled with the maps of each batch, where they are wanted.
    """

    carried: Tensor | None = None
    own: Tensor | None = None
    weights: Tensor | None = None
    self_places: int = 0
    seen: Sightings | None = None

    @property
    def acts(self) -> bool:
        """Whether it does anything at all."""
        reads = self.carried is not None or self.weights is not None or self.seen is not None
        return reads or self.self_places > 0

    def edited_map(self, source: Tensor, edited: Tensor) -> Tensor:
        """The map [heads, places, tokens] with which the edited row looks, from the maps of both."""
        found = edited
        if self.carried is not None:
            found = source @ self.carried.to(source)
            if self.own is not None and bool(self.own.any()):
                own = self.own.to(found)
                found = found * (1.0 - own) + edited * own
                found = found / found.sum(-1, keepdim=True)
        return found if self.weights is None else found * self.weights.to(found)


@dataclass(frozen=True, eq=False)
class Coupled:
    """Two rows of a batch, the second of which follows the first."""

    source: int
    edited: int
    control: AttentionControl


class CoupledAttention:
    """The UNet's own processor, and the edited rows once more under control.

    Args:
        name: Of the layer.
        stock: The processor it stands before.
        rows: Which rows are coupled.
        total: How many rows the batch has; a call with fewer is left alone.
    """

    def __init__(self, name: str, stock: Any, rows: Sequence[Coupled], total: int) -> None:
        self.name = name
        self.stock = stock
        self.rows = rows
        self.total = total

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The block's output for tokens [b, t, d]."""
        out: Tensor = self.stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if len(hidden_states) != self.total or hidden_states.ndim != 3 or attn.group_norm is not None:
            return out
        changed: dict[int, Tensor] = {}
        for pair in self.rows:
            if encoder_hidden_states is None:
                found = _self_attention(attn, hidden_states, pair)
            else:
                found = self._cross_attention(attn, hidden_states, encoder_hidden_states, pair)
            if found is not None:
                changed[pair.edited] = found.to(out)
        if not changed:
            return out
        return torch.cat([changed.get(index, out[index : index + 1]) for index in range(len(out))])

    def _cross_attention(self, attn: Any, hidden: Tensor, context: Tensor, pair: Coupled) -> Tensor | None:
        control = pair.control
        if control.carried is None and control.weights is None and control.seen is None:
            return None
        if attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        source = _map(attn, hidden, context, pair.source)
        own = _map(attn, hidden, context, pair.edited)
        found = control.edited_map(source, own)
        if control.seen is not None and found.shape[1] <= MOST_SEEN_PLACES:
            control.seen.maps[self.name] = (source.mean(0), found.mean(0))
        if found is own:
            return None
        return _looked(attn, found, hidden, context, pair.edited)


def _self_attention(attn: Any, hidden: Tensor, pair: Coupled) -> Tensor | None:
    if not 0 < hidden.shape[1] <= pair.control.self_places:
        return None
    return _looked(attn, _map(attn, hidden, hidden, pair.source), hidden, hidden, pair.edited)


def _map(attn: Any, hidden: Tensor, context: Tensor, row: int) -> Tensor:
    """The attention map of a row [heads, places, tokens], in float32."""
    with row_subset(torch.tensor([row], device=hidden.device)):
        query = _heads(attn.to_q(hidden[row : row + 1]), attn.heads)
        key = _heads(attn.to_k(context[row : row + 1]), attn.heads)
    return (query.float() @ key.float().transpose(1, 2) * attn.scale).softmax(-1)


def _looked(attn: Any, weights: Tensor, hidden: Tensor, context: Tensor, row: int) -> Tensor:
    """What a row sees with a map: its output [1, places, d]."""
    with row_subset(torch.tensor([row], device=hidden.device)):
        value = _heads(attn.to_v(context[row : row + 1]), attn.heads)
        seen = (weights.to(value) @ value).transpose(0, 1).flatten(1)[None]
        out: Tensor = attn.to_out[1](attn.to_out[0](seen))
    if attn.residual_connection:
        out = out + hidden[row : row + 1]
    return out / attn.rescale_output_factor


def _heads(x: Tensor, heads: int) -> Tensor:
    """[1, t, heads · d] as [heads, t, d]."""
    return x[0].unflatten(1, (heads, -1)).transpose(0, 1)


@contextmanager
def coupled(unet: UNet2DConditionModel, rows: Sequence[Coupled], total: int) -> Iterator[None]:
    """Inside the block the edited rows of a batch of `total` follow their sources; afterwards the UNet is as it was."""
    rows = [pair for pair in rows if pair.control.acts]
    if not rows:
        yield
        return
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    kept: list[tuple[str, Any, Any]] = []
    for name in names:
        attn: Any = unet.get_submodule(name)
        kept.append((name, attn, attn.processor))
    with uncompiled(unet):
        for name, attn, stock in kept:
            attn.set_processor(CoupledAttention(name, stock, rows, total))
        try:
            yield
        finally:
            for _, attn, stock in kept:
                attn.set_processor(stock)
