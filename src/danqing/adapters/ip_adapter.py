"""Image prompts in a UNet: an IP-Adapter's second attention in every cross-attention, weighted by row.

Ye et al., *IP-Adapter: Text Compatible Image Prompt Adapter*, arXiv 2308.06721: a cross-attention's result becomes
Attention(Q, K, V) + weight · Attention(Q, K′, V′), with K′ and V′ of image tokens. The UNet's own processors stay in
charge of the first part, so a row without an image prompt comes out as it would without the adapter, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from danqing.adapters.hooks import row_subset
from danqing.models.ip_adapter import TOKENS, ImageLayer, ImageProjection, IpAdapterWeights
from danqing.spec.errors import UnsupportedError


@dataclass(frozen=True)
class ImageRows:
    """The image prompts of a UNet batch.

    Attributes:
        tokens: Of the r rows that have one [r, t, width].
        weights: Strength in each of them [r].
        chosen: Which rows of the batch they are [r]; None where all are.
        bias: Added to the logits of each token [r, t]: log of its picture's share, −∞ for padding; None adds nothing.
    """

    tokens: Tensor
    weights: Tensor
    chosen: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True)
class RowImages:
    """The image prompt of one row.

    Attributes:
        embeddings: Of its pictures [n, embedding].
        weight: Strength of all of them together.
        shares: How much attention each gets beside the others, above 0; equal where left open.
    """

    embeddings: Tensor
    weight: float
    shares: tuple[float, ...] = ()


def image_rows(projection: ImageProjection, rows: Sequence[RowImages | None]) -> ImageRows | None:
    """The image prompts of a batch, None where no row has one.

    Several pictures of a row stand in one attention, as diffusers has them; the logarithm of a share, added to the
    logits, multiplies the attention that a picture gets before the softmax makes a whole of it.

    Args:
        projection: The adapter's.
        rows: One for each row of the batch.
    """
    acting = [(index, row) for index, row in enumerate(rows) if row is not None and row.weight != 0]
    if not acting:
        return None
    place = projection.proj.weight
    with torch.no_grad():
        projected = projection(torch.cat([row.embeddings for _, row in acting]).to(place))
    counts = [len(row.embeddings) for _, row in acting]
    tokens_each = projected.shape[1]
    longest = max(counts)
    tokens = projected.new_zeros((len(acting), longest * tokens_each, projected.shape[2]))
    bias = projected.new_full(tokens.shape[:2], -math.inf)
    for at, (_, row), found in zip(range(len(acting)), acting, projected.split(counts), strict=True):
        end = len(found) * tokens_each
        tokens[at, :end] = found.flatten(0, 1)
        shares = torch.tensor(row.shares or (1.0,) * len(found)).log()
        bias[at, :end] = shares.repeat_interleave(tokens_each).to(bias)
    weights = torch.tensor([row.weight for _, row in acting], device=place.device)
    chosen = None if len(acting) == len(rows) else torch.tensor([index for index, _ in acting], device=place.device)
    return ImageRows(tokens, weights, chosen, bias if bool(bias.any()) else None)


class ImageCrossAttention:
    """The UNet's own processor, and beside it the attention to image tokens.

    Args:
        stock: The processor it stands before.
        layer: The adapter's keys and values for this place.
        adapter: Whose `rows` it reads.
    """

    def __init__(self, stock: Any, layer: ImageLayer, adapter: IpAdapter) -> None:
        self.stock = stock
        self.layer = layer
        self.adapter = adapter

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
        rows = self.adapter.rows
        if rows is None:
            return out
        own = hidden_states if rows.chosen is None else hidden_states.index_select(0, rows.chosen)
        added = _attend(attn, self.layer, own, rows)
        with row_subset(rows.chosen):
            added = _without_bias(attn.to_out[0], added) / attn.rescale_output_factor
        added = (added * rows.weights.view(-1, 1, 1).to(added)).to(out)
        return out + added if rows.chosen is None else out.index_add(0, rows.chosen, added)


def _without_bias(layer: Any, x: Tensor) -> Tensor:
    """What a linear layer makes of `x` [r, t, d], and networks in it; the bias was added to the attention to words."""
    plain = functional.linear(x, layer.weight)
    if not layer._forward_hooks:
        return plain

    def added(to: Tensor) -> Tensor:
        # Exactly nothing in rows that no network acts on.
        return layer(to) - functional.linear(to, layer.weight, layer.bias)

    return plain + added(x) - added(x.new_zeros(len(x), 1, x.shape[2]))


def _attend(attn: Any, layer: ImageLayer, hidden_states: Tensor, rows: ImageRows) -> Tensor:
    """Attention of hidden states [r, t, d] to the image tokens, before the output projection [r, t, inner]."""
    tokens = rows.tokens.to(layer.to_k_ip.weight.dtype)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)

    with row_subset(rows.chosen):
        query = heads(attn.to_q(hidden_states))
    key, value = heads(layer.to_k_ip(tokens)), heads(layer.to_v_ip(tokens))
    # A handful of keys: plain products beat the fused kernel, forwards and backwards.
    scores = (query @ key.transpose(2, 3)) * attn.scale
    if rows.bias is not None:
        scores = scores + rows.bias[:, None, None].to(scores)
    return (scores.softmax(-1).to(value) @ value).transpose(1, 2).flatten(2)


class IpAdapter:
    """An IP-Adapter that can be put into a UNet and taken out again.

    Args:
        weights: Its projection and layers.

    Attributes:
        rows: The image prompts of the next batches; None for none.
    """

    def __init__(self, weights: IpAdapterWeights) -> None:
        self.weights = weights
        self.rows: ImageRows | None = None
        self._kept: list[tuple[Any, Any]] = []

    def inject(self, unet: UNet2DConditionModel) -> IpAdapter:
        """Stand before every cross-attention's processor.

        Raises:
            UnsupportedError: The UNet's cross-attentions are not those it was trained for.
            RuntimeError: It is in a UNet already.
        """
        if self._kept:
            raise RuntimeError("this image adapter is in a UNet already: eject it first")
        layers = [layer for layer in self.weights.ip_adapter.values() if isinstance(layer, ImageLayer)]
        attentions = cross_attentions(unet)
        ours = [(layer.to_k_ip.out_features, layer.to_k_ip.in_features) for layer in layers]
        theirs = [(attn.to_k.out_features, attn.to_k.in_features) for attn in attentions]
        if ours != theirs:
            raise UnsupportedError(
                "the image adapter does not fit this model's cross-attentions",
                field="image_adapter",
                value=f"{len(ours)} layers: {_list(ours)}",
                allowed=f"{len(theirs)} layers: {_list(theirs)}",
                next_step="choose an image adapter that was trained for this model, or another model",
            )
        for attn, layer in zip(attentions, layers, strict=True):
            self._kept.append((attn, attn.processor))
            attn.set_processor(ImageCrossAttention(attn.processor, layer, self))
        return self

    def eject(self) -> None:
        """Leave the UNet exactly as it was found."""
        for attn, stock in self._kept:
            attn.set_processor(stock)
        self._kept = []

    @contextmanager
    def acting(self, unet: UNet2DConditionModel, rows: ImageRows | None) -> Iterator[None]:
        """In the UNet, with these image prompts, inside the block; nowhere where there are none."""
        if rows is None:
            yield
            return
        self.inject(unet)
        self.rows = rows
        try:
            yield
        finally:
            self.rows = None
            self.eject()


def cross_attentions(unet: UNet2DConditionModel) -> list[Any]:
    """A UNet's cross-attention modules, in the order in which IP-Adapter files number them."""
    names = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    return [unet.get_submodule(name.removesuffix(".processor")) for name in names]


def fresh(unet: UNet2DConditionModel, embedding_width: int, tokens: int = TOKENS) -> IpAdapterWeights:
    """A new adapter for a UNet: its keys and values start as those for text (Ye et al. 2023, section 3.2)."""
    attentions = cross_attentions(unet)
    inner = [attn.to_k.out_features for attn in attentions]
    weights = IpAdapterWeights(embedding_width, attentions[0].to_k.in_features, inner, tokens)
    with torch.no_grad():
        for attn, layer in zip(attentions, weights.ip_adapter.values(), strict=True):
            layer.to_k_ip.weight.copy_(attn.to_k.weight)
            layer.to_v_ip.weight.copy_(attn.to_v.weight)
    return weights.to(next(unet.parameters()).device)


def _list(shapes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{out}×{width}" for out, width in shapes)
