"""The blocks of diffusers' transformers for Stable Diffusion 3 and FLUX.1 as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.activations import GELU
from diffusers.models.attention import FeedForward, JointTransformerBlock
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from diffusers.models.normalization import (
    AdaLayerNormContinuous,
    AdaLayerNormZero,
    AdaLayerNormZeroSingle,
    RMSNorm,
    SD35AdaLayerNormZeroX,
)
from diffusers.models.transformers.transformer_flux import (
    FluxAttention,
    FluxAttnProcessor,
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from openvino import opset15 as op
from torch import nn

from danqing.models.graphs.emit import Emitter, Node, NotExpressible, absent, only

_OWN, _ADDED = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
_OWN_NORMS, _ADDED_NORMS = ("norm_q", "norm_k"), ("norm_added_q", "norm_added_k")


@dataclass(frozen=True)
class Turn:
    """How far queries and keys are turned by their places (RoFormer, arXiv 2104.09864).

    Attributes:
        cos: [1, 1, t, d].
        sin: The same.
        pairs: d / 2.
    """

    cos: Node
    sin: Node
    pairs: int


def joint_block(emit: Emitter, module: Any, x: Node, words: Node, emb: Node) -> tuple[Node, Node | None]:
    """Stable Diffusion 3's block, with a second attention to the picture alone where it has one.

    Args:
        emit: Writes it.
        module: A JointTransformerBlock.
        x: Tokens of the picture [b, n, c].
        words: Tokens of the text [b, t, c].
        emb: The time's and the pooled text's embedding after its SiLU [b, c].

    Returns:
        Both anew; no words after the last block.
    """
    only(module, JointTransformerBlock)
    absent(module, "_chunk_size")
    plain = emit.layer_norm(module.norm1.norm, x)
    shift, scale, gate, *more = _zero(emit, module.norm1, emb, 9 if module.use_dual_attention else 6)
    said = [modulated(emit, plain, shift, scale)]
    if module.context_pre_only:
        said.append(continuous(emit, module.norm1_context, words, emb))
        word_parts: list[Node] = []
    else:
        word_shift, word_scale, *word_parts = _zero(emit, module.norm1_context, emb, 6)
        said.append(modulated(emit, emit.layer_norm(module.norm1_context.norm, words), word_shift, word_scale))
    mixed, mixed_words = _joint_attention(emit, module.attn, said)
    before, x = x, op.add(x, op.multiply(gate, mixed))
    if module.use_dual_attention:
        second = modulated(emit, emit.layer_norm(module.norm1.norm, before), more[3], more[4])
        x = op.add(x, op.multiply(more[5], _own_attention(emit, module.attn2, second)))
    x = _fed(emit, (module.norm2, module.ff), x, more[:3])
    if module.context_pre_only:
        return x, None
    words = op.add(words, op.multiply(word_parts[0], mixed_words))
    return x, _fed(emit, (module.norm2_context, module.ff_context), words, word_parts[1:])


def flux_block(emit: Emitter, module: Any, tokens: tuple[Node, Node], emb: Node, turn: Turn) -> tuple[Node, Node]:
    """FLUX's block of two streams: (picture, words) as in `joint_block`."""
    only(module, FluxTransformerBlock)
    sides = (
        (module.norm1, module.norm2, module.ff),
        (module.norm1_context, module.norm2_context, module.ff_context),
    )
    said: list[Node] = []
    parts: list[list[Node]] = []
    for (norm, _, _), x in zip(sides, tokens, strict=True):
        shift, scale, *rest = _zero(emit, norm, emb, 6)
        said.append(modulated(emit, emit.layer_norm(norm.norm, x), shift, scale))
        parts.append(rest)
    attn = _flux_attention(module.attn)
    picture = _asked(emit, (attn, _OWN, _OWN_NORMS), said[0], attn.heads)
    words = _asked(emit, (attn, _ADDED, _ADDED_NORMS), said[1], attn.heads)
    mixed = _attended(emit, [words, picture], turn)
    mixed_words, mixed_picture = parted(emit, mixed, said[1])
    answers = (emit.linear(attn.to_out[0], mixed_picture), emit.linear(attn.to_add_out, mixed_words))
    found: list[Node] = []
    for (_, norm, ff), x, answer, (gate, *rest) in zip(sides, tokens, answers, parts, strict=True):
        found.append(_fed(emit, (norm, ff), op.add(x, op.multiply(gate, answer)), rest))
    return found[0], found[1]


def flux_single_block(emit: Emitter, module: Any, x: Node, emb: Node, turn: Turn) -> Node:
    """FLUX's block of one stream: words before the picture [b, t + n, c], attention beside the feed-forward."""
    only(module, FluxSingleTransformerBlock)
    only(module.norm, AdaLayerNormZeroSingle)
    only(module.norm.silu, nn.SiLU)
    shift, scale, gate = _parts(emit, module.norm.linear, emb, 3)
    said = modulated(emit, emit.layer_norm(module.norm.norm, x), shift, scale)
    only(module.act_mlp, nn.GELU)
    inner = op.gelu(emit.linear(module.proj_mlp, said), _gelu(module.act_mlp.approximate))
    attn = _flux_attention(module.attn)
    mixed = _attended(emit, [_asked(emit, (attn, _OWN, _OWN_NORMS), said, attn.heads)], turn)
    return op.add(x, op.multiply(gate, emit.linear(module.proj_out, op.concat([mixed, inner], 2))))


def continuous(emit: Emitter, module: Any, x: Node, emb: Node) -> Node:
    """A normalisation with scale and shift from the embedding; arguments as for `joint_block`."""
    only(module, AdaLayerNormContinuous)
    only(module.silu, nn.SiLU)
    scale, shift = _parts(emit, module.linear, emb, 2)
    return modulated(emit, emit.layer_norm(module.norm, x), shift, scale)


def modulated(emit: Emitter, x: Node, shift: Node, scale: Node) -> Node:
    """X · (1 + scale) + shift."""
    return op.add(op.multiply(x, op.add(scale, emit.number(1.0))), shift)


def _zero(emit: Emitter, module: Any, emb: Node, count: int) -> list[Node]:
    """What adaLN-Zero (Peebles and Xie, arXiv 2212.09748) makes of the embedding: `count` vectors [b, 1, c]."""
    only(module, SD35AdaLayerNormZeroX if count == 9 else AdaLayerNormZero)
    only(module.silu, nn.SiLU)
    absent(module, "emb")
    return _parts(emit, module.linear, emb, count)


def _parts(emit: Emitter, linear: Any, emb: Node, count: int) -> list[Node]:
    whole = op.unsqueeze(emit.linear(linear, emb), emit.whole(1))
    return list(op.split(whole, op.constant(2), count).outputs())


def _fed(emit: Emitter, modules: tuple[Any, Any], x: Node, parts: Sequence[Node]) -> Node:
    """Norm and feed-forward with shift, scale and gate, added to what went in."""
    (norm, ff), (shift, scale, gate) = modules, parts
    only(ff, FeedForward)
    first, dropout, last = (*ff.net, None, None)[:3]
    only(first, GELU)
    only(dropout, nn.Dropout)
    if len(ff.net) != 3:
        raise NotExpressible(f"a feed-forward of {len(ff.net)} layers")
    said = modulated(emit, emit.layer_norm(norm, x), shift, scale)
    inner = op.gelu(emit.linear(first.proj, said), _gelu(first.approximate))
    return op.add(x, op.multiply(gate, emit.linear(last, inner)))


def _gelu(approximate: str) -> str:
    return "tanh" if approximate == "tanh" else "erf"


def _joint_attention(emit: Emitter, module: Any, said: Sequence[Node]) -> tuple[Node, Node | None]:
    """The picture's tokens and the words' look at all of them."""
    _check(module)
    picture = _asked(emit, (module, _OWN, _OWN_NORMS), said[0], module.heads)
    words = _asked(emit, (module, _ADDED, _ADDED_NORMS), said[1], module.heads)
    mixed = _attended(emit, [picture, words], None)
    mixed_picture, mixed_words = parted(emit, mixed, said[0])
    answer = emit.linear(module.to_out[0], mixed_picture)
    return answer, None if module.context_pre_only else emit.linear(module.to_add_out, mixed_words)


def _own_attention(emit: Emitter, module: Any, x: Node) -> Node:
    _check(module)
    asked = _asked(emit, (module, _OWN, _OWN_NORMS), x, module.heads)
    return emit.linear(module.to_out[0], _attended(emit, [asked], None))


def _check(module: Any) -> None:
    only(module, Attention)
    only(module.processor, JointAttnProcessor2_0)
    absent(module, "group_norm", "spatial_norm", "norm_cross", "fused_projections", "only_cross_attention", "pre_only")
    if module.inner_kv_dim != module.inner_dim:
        raise NotExpressible("an attention with fewer heads of keys than of queries")


def _flux_attention(module: Any) -> Any:
    only(module, FluxAttention)
    only(module.processor, FluxAttnProcessor)
    absent(module, "fused_projections")
    return module


def _asked(emit: Emitter, parts: tuple[Any, Sequence[str], Sequence[str]], x: Node, heads: int) -> list[Node]:
    """Query, key and value [b, heads, t, d]; `parts` is an attention with the names of its layers and norms."""
    module, layers, norms = parts
    found: list[Node] = []
    for place, layer in enumerate(layers):
        y = op.reshape(emit.linear(getattr(module, layer), x), emit.whole(0, 0, heads, -1), True)
        norm = getattr(module, norms[place], None) if place < len(norms) else None
        y = op.transpose(y, emit.whole(0, 2, 1, 3))
        found.append(y if norm is None else rms_norm(emit, norm, y))
    return found


def _attended(emit: Emitter, asked: Sequence[Sequence[Node]], turn: Turn | None) -> Node:
    """Attention of all tokens to all, in this order [b, t, c]."""
    joined = [list(several) for several in zip(*asked, strict=True)]
    query, key, value = (several[0] if len(several) == 1 else op.concat(several, 2) for several in joined)
    if turn is not None:
        query, key = _turned(emit, query, turn), _turned(emit, key, turn)
    mixed = op.scaled_dot_product_attention(query, key, value)
    return op.reshape(op.transpose(mixed, emit.whole(0, 2, 1, 3)), emit.whole(0, 0, -1), True)


def _turned(emit: Emitter, x: Node, turn: Turn) -> Node:
    """Pairs of neighbouring numbers of [b, heads, t, d] turned by their token's place."""
    # A quarter turn (a, b) → (−b, a) as a product: exact, without the copies that cost 5 % of a step.
    quarter = np.kron(np.eye(turn.pairs), np.array([[0, 1], [-1, 0]])).astype(np.float32)
    turned = op.matmul(x, op.constant(quarter, dtype=emit.element), False, False)
    return op.add(op.multiply(x, turn.cos), op.multiply(turned, turn.sin))


def parted(emit: Emitter, tokens: Node, first: Node) -> tuple[Node, Node]:
    """Tokens [b, t, c] as the first ones, as many as `first` has, and the rest."""
    count = op.slice(op.shape_of(first), emit.whole(1), emit.whole(2), emit.whole(1))
    lengths = op.concat([count, emit.whole(-1)], 0)
    head, tail = op.variadic_split(tokens, op.constant(1), lengths).outputs()
    return head, tail


def rms_norm(emit: Emitter, module: Any, x: Node) -> Node:
    """Divided by the root of the mean square over the last axis (Zhang and Sennrich, arXiv 1910.07467)."""
    only(module, RMSNorm, nn.RMSNorm)
    absent(module, "bias")
    eps = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    mean = op.reduce_mean(op.power(x, emit.number(2.0)), emit.whole(-1), True)
    root = op.sqrt(op.add(mean, op.constant(np.array(eps, np.float32), dtype=emit.element)))
    y = op.multiply(x, op.divide(emit.number(1.0), root))
    return y if module.weight is None else op.multiply(y, emit.weight(module.weight))
