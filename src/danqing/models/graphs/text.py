"""CLIP's text encoders as graphs: their layers, from embedded tokens to the states after each of them.

What stands before and behind stays with PyTorch: the table of tokens, which embeddings write into, and the projection
of a single row. Their weights would be held twice, for nothing that takes time.
"""

from __future__ import annotations

from typing import Any

import torch
from openvino import opset15 as op
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.activations import GELUActivation, QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention, CLIPEncoder, CLIPEncoderLayer

from danqing.models.graphs.emit import Emitter, Node, NotExpressible, Written, only

WORDS = "words"
_QUICK = 1.702
"""GELU as x · sigmoid(1.702 · x) (Hendrycks and Gimpel, arXiv 1606.08415)."""


def clip_layers_graph(model: Any, dtype: torch.dtype, *, normed: bool) -> Written:
    """The layers of a CLIP text encoder as a graph.

    Input: `words` [b, t, width], tokens and places embedded. Outputs: the states after each layer, in their order,
    float32 [b, t, width]. A token reads itself and those before it.

    Args:
        model: transformers' text encoder with or without a projection, on the CPU.
        dtype: What it is computed in.
        normed: Whether the last normalisation follows after each layer.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    only(model, CLIPTextModel, CLIPTextModelWithProjection)
    tower = model.text_model if isinstance(model, CLIPTextModelWithProjection) else model
    only(tower, CLIPTextModel)
    only(tower.encoder, CLIPEncoder)
    emit = Emitter(dtype)
    x = emit.input(WORDS, (-1, -1, tower.config.hidden_size))
    states: list[Node] = []
    for layer in tower.encoder.layers:
        x = _layer(emit, layer, x)
        states.append(emit.layer_norm(tower.final_layer_norm, x) if normed else x)
    return emit.graph(states, "text")


def layers_bytes(model: Any) -> int:
    """Bytes of the weights that `clip_layers_graph` writes of a text encoder; 0 where it is none of CLIP's."""
    encoder = getattr(getattr(model, "text_model", model), "encoder", None)
    if not isinstance(encoder, nn.Module):
        return 0
    return sum(one.numel() * one.element_size() for one in encoder.parameters())


def _layer(emit: Emitter, module: Any, x: Node) -> Node:
    only(module, CLIPEncoderLayer)
    x = op.add(x, _attention(emit, module.self_attn, emit.layer_norm(module.layer_norm1, x)))
    return op.add(x, _feed_forward(emit, module.mlp, emit.layer_norm(module.layer_norm2, x)))


def _attention(emit: Emitter, module: Any, x: Node) -> Node:
    only(module, CLIPAttention)
    asked = (module.q_proj, module.k_proj, module.v_proj)
    query, key, value = (emit.heads(emit.linear(one, x), module.num_heads) for one in asked)
    mixed = op.scaled_dot_product_attention(query, key, value, causal=True)
    joined = op.reshape(op.transpose(mixed, emit.whole(0, 2, 1, 3)), emit.whole(0, 0, -1), True)
    return emit.linear(module.out_proj, joined)


def _feed_forward(emit: Emitter, module: Any, x: Node) -> Node:
    only(module, CLIPMLP)
    return emit.linear(module.fc2, _activated(emit, module.activation_fn, emit.linear(module.fc1, x)))


def _activated(emit: Emitter, module: nn.Module, x: Node) -> Node:
    only(module, QuickGELUActivation, GELUActivation)
    if isinstance(module, QuickGELUActivation):
        return op.swish(x, emit.number(_QUICK))
    if module.act is not nn.functional.gelu:
        raise NotExpressible("a GELU of its own")
    return op.gelu(x, "erf")
