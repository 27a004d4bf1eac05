"""What a UNet's graph reads besides noise, time and words: T2I-Adapters' features, image prompts, perturbed rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from diffusers import UNet2DConditionModel
from openvino import opset15 as op
from torch import nn

from danqing.models.graphs.emit import Emitter, Node, NotExpressible
from danqing.models.ip_adapter import ImageLayer

IMAGE_TOKENS, IMAGE_STRENGTH, IMAGE_SHARES = "image_tokens", "image_strength", "image_shares"
PERTURBED = "perturbed"

ImageLayers = Mapping[nn.Module, ImageLayer]
"""A UNet's cross-attentions with the keys and values that an image adapter has for each."""


def inside_name(level: int) -> str:
    """The input for what T2I-Adapters add within a level on the way down; the middle's is the last."""
    return f"inside_{level}"


def inside(emit: Emitter, net: Any, level: int, x: Node, *, convolved: bool = False) -> Node:
    """What T2I-Adapters make of a level; ControlNets have none.

    Args:
        emit: Writes it.
        net: The UNet, or a ControlNet.
        level: Counted from 0.
        x: [b, c, h, w].
        convolved: Whether it comes right from a convolution.
    """
    if type(net) is not UNet2DConditionModel:
        return x
    added = emit.input(inside_name(level), (-1, -1, -1, -1), optional=True)
    if not convolved:
        return op.add(x, added)
    # OpenVINO would add it within the convolution, and cannot stretch it there.
    return op.squeeze(op.add(op.unsqueeze(x, emit.whole(0)), added), emit.whole(0))


def show_images(emit: Emitter, layers: ImageLayers) -> None:
    """From here on attentions read image tokens besides words (Ye et al., arXiv 2308.06721).

    Inputs: `image_tokens` [b, t, d], `image_strength` [b, 1, 1, 1] and, where some tokens count more than others,
    `image_shares` [b, 1, 1, t], which is added to the logits.

    Args:
        emit: Writes them.
        layers: The image adapter's.

    Raises:
        NotExpressible: The adapter was made for other attentions.
    """
    width = next(iter(layers.values())).to_k_ip.in_features
    tokens = emit.input(IMAGE_TOKENS, (-1, -1, width))
    strength = emit.input(IMAGE_STRENGTH, (-1, 1, 1, 1))
    shares = emit.input(IMAGE_SHARES, (-1, 1, 1, -1), optional=True)
    for module, layer in layers.items():
        attention: Any = module
        if layer.to_k_ip.out_features != attention.to_k.out_features:
            raise NotExpressible("an image adapter that was made for other attentions")
        emit.instead[module] = partial(_seen, emit, attention, layer, (tokens, strength, shares))


def perturb(emit: Emitter, middle: Any) -> None:
    """From here on self-attentions of a UNet's middle let each token see itself alone, in rows that are told so.

    Input: `perturbed` [b, 1, 1, 1], 1 for such rows; left out where there are none (Ahn et al., arXiv 2403.17377).

    Args:
        emit: Writes them.
        middle: The middle; None where a UNet has none.
    """
    named = () if middle is None else middle.named_modules()
    found = [module for name, module in named if name.endswith(".attn1")]
    if not found:
        return
    chosen = op.greater(emit.input(PERTURBED, (-1, 1, 1, 1), optional=True), emit.number(0.0))
    for module in found:
        emit.instead[module] = lambda _, value, mixed: op.select(chosen, value, mixed)


def _seen(
    emit: Emitter,
    attention: Any,
    layer: ImageLayer,
    given: tuple[Node, Node, Node],
    query: Node,
    _: Node,
    mixed: Node,
) -> Node:
    """What a query [b, heads, n, d] mixes of words, and, by strength, of image tokens."""
    tokens, strength, shares = given
    key, value = (emit.heads(emit.linear(one, tokens), attention.heads) for one in (layer.to_k_ip, layer.to_v_ip))
    # A handful of keys: plain products, as PyTorch has it here.
    logits = op.multiply(op.matmul(query, key, False, True), emit.number(attention.scale))
    seen = op.matmul(op.softmax(op.add(logits, shares), -1), value, False, False)
    return op.add(mixed, op.multiply(seen, strength))
