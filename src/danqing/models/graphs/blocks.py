"""The blocks of diffusers' UNets and autoencoders as graphs."""

from __future__ import annotations

from typing import Any

from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import AttentionPooling, TextTimeEmbedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from openvino import opset15 as op
from torch import nn

from danqing.models.graphs.emit import Emitter, Node, NotExpressible, absent, only


def resnet(emit: Emitter, module: Any, x: Node, emb: Node | None) -> Node:
    """A residual block.

    Args:
        emit: Writes it.
        module: A ResnetBlock2D.
        x: [b, c, h, w].
        emb: The time's embedding after its SiLU [b, e]; None in an autoencoder.
    """
    only(module, ResnetBlock2D)
    only(module.nonlinearity, nn.SiLU)
    absent(module, "up", "down", "skip_time_act")
    if module.time_embedding_norm != "default" and module.time_emb_proj is not None:
        raise NotExpressible(f"a time embedding added as {module.time_embedding_norm}")
    h = emit.conv(module.conv1, emit.silu(emit.group_norm(module.norm1, x)))
    if module.time_emb_proj is not None and emb is not None:
        h = op.add(h, op.unsqueeze(emit.linear(module.time_emb_proj, emb), emit.whole(2, 3)))
    h = emit.conv(module.conv2, emit.silu(emit.group_norm(module.norm2, h)))
    if module.conv_shortcut is not None:
        x = emit.conv(module.conv_shortcut, x)
    return _scaled(emit, op.add(x, h), module.output_scale_factor)


def transformer(emit: Emitter, module: Any, x: Node, context: Node) -> Node:
    """Attention to the picture itself and to words, [b, c, h, w] with a context [b, t, d]."""
    only(module, Transformer2DModel)
    if not module.is_input_continuous:
        raise NotExpressible("a transformer of patches or of discrete codes")
    h = emit.group_norm(module.norm, x)
    if module.use_linear_projection:
        h = emit.linear(module.proj_in, emit.tokens(h))
    else:
        h = emit.tokens(emit.conv(module.proj_in, h))
    for block in module.transformer_blocks:
        h = transformer_block(emit, block, h, context)
    if module.use_linear_projection:
        h = emit.picture(emit.linear(module.proj_out, h), x)
    else:
        h = emit.conv(module.proj_out, emit.picture(h, x))
    return op.add(h, x)


def transformer_block(emit: Emitter, module: Any, x: Node, context: Node) -> Node:
    """Self-attention, cross-attention and a gated feed-forward layer on tokens [b, t, c]."""
    only(module, BasicTransformerBlock)
    absent(module, "pos_embed", "_chunk_size", "use_ada_layer_norm", "use_ada_layer_norm_zero")
    if module.norm_type != "layer_norm" or module.attn2 is None:
        raise NotExpressible(f"a transformer block with {module.norm_type}")
    h = emit.layer_norm(module.norm1, x)
    x = op.add(x, attention(emit, module.attn1, h, context if module.only_cross_attention else h))
    x = op.add(x, attention(emit, module.attn2, emit.layer_norm(module.norm2, x), context))
    return op.add(x, feed_forward(emit, module.ff, emit.layer_norm(module.norm3, x)))


def attention(emit: Emitter, module: Any, x: Node, context: Node) -> Node:
    """An attention that has no more than its four layers."""
    only(module, Attention)
    absent(module, "group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "residual_connection")
    absent(module, "added_kv_proj_dim")
    return _scaled(emit, emit.attention(module, x, context), module.rescale_output_factor)


def feed_forward(emit: Emitter, module: Any, x: Node) -> Node:
    """GEGLU (Shazeer, arXiv 2002.05202) and a linear layer."""
    first, _, last = (*module.net, None)[:3]
    only(first, GEGLU)
    if len(module.net) != 3:
        raise NotExpressible(f"a feed-forward of {len(module.net)} layers")
    value, gate = op.split(emit.linear(first.proj, x), op.constant(2), 2).outputs()
    return emit.linear(last, op.multiply(value, op.gelu(gate, "erf")))


def picture_attention(emit: Emitter, module: Any, x: Node) -> Node:
    """The attention in the middle of an autoencoder, [b, c, h, w]."""
    only(module, Attention)
    absent(module, "spatial_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim")
    if module.group_norm is None or not module.residual_connection:
        raise NotExpressible("an autoencoder's attention without norm or residual")
    h = emit.tokens(emit.group_norm(module.group_norm, x))
    y = emit.picture(emit.attention(module, h, h), x)
    return _scaled(emit, op.add(y, x), module.rescale_output_factor)


def pooled_words(emit: Emitter, module: Any, context: Node) -> Node:
    """What a UNet adds to its time of all words together: a context [b, t, d] as [b, e]."""
    only(module, TextTimeEmbedding)
    pool = module.pool
    only(pool, AttentionPooling)
    x = emit.layer_norm(module.norm1, context)
    mean = op.add(op.reduce_mean(x, emit.whole(1), True), emit.weight(pool.positional_embedding))
    x = op.concat([mean, x], 1)
    mixed = emit.mixed(((pool.q_proj, mean), (pool.k_proj, x), (pool.v_proj, x)), pool.num_heads)
    return emit.layer_norm(module.norm2, emit.linear(module.proj, op.squeeze(mixed, emit.whole(1))))


def smaller(emit: Emitter, module: Any, x: Node) -> Node:
    """Half as high and wide."""
    only(module, Downsample2D)
    if module.norm is not None or not module.use_conv:
        raise NotExpressible("a downsampler without convolution, or with a norm")
    return emit.conv(module.conv, x, pad_end=1 if module.padding == 0 else None)


def larger(emit: Emitter, module: Any, x: Node, like: Node | None = None) -> Node:
    """Twice as high and wide, or as `like` is."""
    only(module, Upsample2D)
    absent(module, "use_conv_transpose")
    if module.norm is not None or not module.interpolate or not module.use_conv:
        raise NotExpressible("an upsampler that does not repeat pixels and convolve")
    return emit.conv(module.conv, emit.enlarged(x, like))


def _scaled(emit: Emitter, x: Node, factor: float) -> Node:
    return x if factor == 1.0 else op.divide(x, emit.number(factor))
