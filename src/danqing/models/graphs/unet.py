"""UNets of Stable Diffusion and their ControlNets as graphs.

Waves of the time are computed outside, in float32: timesteps up to 999 would not survive a graph in bfloat16.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from openvino import opset15 as op
from torch import Tensor, nn

from danqing.models.graphs.blocks import larger, pooled_words, resnet, smaller, transformer
from danqing.models.graphs.emit import Changes, Emitter, Node, NotExpressible, Written, absent, only
from danqing.models.graphs.inputs import ImageLayers, inside, perturb, show_images
from danqing.models.graphs.int8 import Rounding, extremes

SAMPLE, TIME, ADDED, CONTEXT = "sample", "time", "added", "context"
HINT, FEATURE = "hint", "feature"


def residual_name(index: int) -> str:
    """The input for the residual of a skip connection, in the order of the UNet; the middle's is the last."""
    return f"residual_{index}"


def unet_graph(
    unet: Any,
    dtype: torch.dtype,
    changes: Changes | None = None,
    *,
    kept: Sequence[int] = (),
    rounding: Rounding | None = None,
    images: ImageLayers | None = None,
) -> Written:
    """A UNet as a graph of any batch, height, width and number of tokens.

    Inputs: `sample` [b, c, h, w], `context` [b, t, d], what `times` gives, `residual_i` for the residuals of
    ControlNets and `inside_i` for the features of T2I-Adapters, left out where there are none, and what `perturb` and
    `show_images` tell of. Outputs: [b, c, h, w], and what enters the kept branches. All float32.

    Args:
        unet: diffusers' UNet, on the CPU.
        dtype: What it is computed in: float32 or bfloat16.
        changes: What networks add to its layers.
        kept: Branches (see `danqing.models.shallow`), ascending.
        rounding: Layers that are computed in eight bits.
        images: An image adapter's layers.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    emit = Emitter(dtype, changes, rounding)
    if images is not None:
        show_images(emit, images)
    x, found = _whole(emit, unet)
    return emit.graph([x, *(found[branch] for branch in kept)], "unet")


def measuring_graph(unet: Any, dtype: torch.dtype, measured: Collection[nn.Module]) -> tuple[Written, list[nn.Module]]:
    """A UNet as a graph whose second output is what `extremes` tells of its layers, and those layers.

    Args:
        unet: diffusers' UNet, on the CPU.
        dtype: What it is computed in.
        measured: Which layers.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    emit = Emitter(dtype, measured=measured)
    x, _ = _whole(emit, unet)
    return emit.graph([x, extremes(list(emit.read.values()))], "measured"), list(emit.read)


def _whole(emit: Emitter, unet: Any) -> tuple[Node, dict[int, Node]]:
    """A UNet's answer, and what enters each branch."""
    given = _begun(emit, unet)
    perturb(emit, unet.mid_block)
    skips, x = _down_and_mid(emit, unet, *given)
    skips = [op.add(skip, _residual(emit, index)) for index, skip in enumerate(skips)]
    x = op.add(x, _residual(emit, len(skips)))
    found: dict[int, Node] = {}
    return _up(emit, unet, (x, skips), given[1:], found), found


def outer_graph(
    unet: Any,
    dtype: torch.dtype,
    branch: int,
    changes: Changes | None = None,
    *,
    rounding: Rounding | None = None,
    images: ImageLayers | None = None,
) -> Written:
    """The outer blocks of a UNet as a graph, without the deep ones.

    Inputs: as of `unet_graph`, with residuals for the computed skip connections alone, and `feature` [b, f, h', w'],
    what entered the branch at an earlier step. Output: [b, c, h, w]. The last residual is always as large as its skip
    connection, which nothing else reads: OpenVINO adds it within a convolution, and cannot stretch it there.

    Args:
        unet: diffusers' UNet, on the CPU.
        dtype: What it is computed in.
        branch: See `danqing.models.shallow`.
        changes: What networks add to its layers.
        rounding: Layers that are computed in eight bits.
        images: An image adapter's layers.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    emit = Emitter(dtype, changes, rounding)
    if images is not None:
        show_images(emit, images)
    given = _begun(emit, unet)
    skips, _ = _down(emit, unet, *given, count=branch + 1)
    skips = [op.add(skip, _residual(emit, index, branch)) for index, skip in enumerate(skips)]
    feature = emit.input(FEATURE, (-1, -1, -1, -1))
    return emit.graph([_up(emit, unet, (feature, skips), given[1:], {})], "outer")


def controlnet_graph(net: Any, dtype: torch.dtype) -> Written:
    """A ControlNet as a graph.

    Inputs: as of `unet_graph`, and `hint` [b, 3, 8h, 8w]. Outputs: one residual for each skip connection of the UNet,
    and the middle's.

    Args:
        net: diffusers' ControlNet, on the CPU.
        dtype: What it is computed in.

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    only(net, ControlNetModel)
    _check_embeddings(net)
    if net.config["global_pool_conditions"] or net.config["controlnet_conditioning_channel_order"] != "rgb":
        raise NotExpressible("a ControlNet that pools, or reads its map as BGR")
    emit = Emitter(dtype)
    x = emit.input(SAMPLE, (-1, net.config["in_channels"], -1, -1))
    context = emit.input(CONTEXT, (-1, -1, _context_width(net)))
    emb = _times(emit, net, context)
    hint = emit.input(HINT, (-1, net.config["conditioning_channels"], -1, -1))
    x = op.add(emit.conv(net.conv_in, x), _hint(emit, net.controlnet_cond_embedding, hint))
    skips, x = _down_and_mid(emit, net, x, emb, context)
    found = [emit.conv(conv, skip) for conv, skip in zip(net.controlnet_down_blocks, skips, strict=True)]
    return emit.graph([*found, emit.conv(net.controlnet_mid_block, x)], "controlnet")


def times(net: Any, timesteps: Tensor, added: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """What a UNet's or ControlNet's graph is fed of times, pooled texts and SDXL's sizes.

    Args:
        net: The network.
        timesteps: [b].
        added: What SDXL reads besides, as diffusers names it.
    """
    feeds = {TIME: _waves(net.time_proj, timesteps)}
    if net.config["addition_embed_type"] == "text_time" and added is not None:
        ids = net.add_time_proj(added["time_ids"].flatten()).reshape(len(timesteps), -1)
        told = torch.cat([added["text_embeds"], ids], dim=-1)
        feeds[ADDED] = net.add_embedding(told.to(net.add_embedding.linear_1.weight.dtype))
    return feeds


_WAVES: weakref.WeakKeyDictionary[nn.Module, dict[float, Tensor]] = weakref.WeakKeyDictionary()
MOST_WAVES = 4096


def _waves(module: nn.Module, timesteps: Tensor) -> Tensor:
    """Sines and cosines of times [b, e], each made alone and once: it takes as long as many steps' other work."""
    known = _WAVES.setdefault(module, {})
    if len(known) > MOST_WAVES:
        known.clear()
    rows: list[Tensor] = []
    for time, timestep in zip(timesteps.tolist(), timesteps.split(1), strict=True):
        if time not in known:
            known[time] = module(timestep)
        rows.append(known[time])
    return torch.cat(rows)


def _times(emit: Emitter, net: Any, context: Node) -> Node:
    """The embedding of time and of what is added to it, after its SiLU [b, e]."""
    inner = net.time_embedding
    only(inner, TimestepEmbedding)
    only(inner.act, nn.SiLU)
    absent(inner, "post_act")
    waves = emit.input(TIME, (-1, inner.linear_1.in_features))
    emb = emit.linear(inner.linear_2, emit.silu(emit.linear(inner.linear_1, waves)))
    if net.config["addition_embed_type"] == "text":
        emb = op.add(emb, pooled_words(emit, net.add_embedding, context))
    if net.config["addition_embed_type"] == "text_time":
        emb = op.add(emb, emit.input(ADDED, (-1, inner.linear_2.out_features)))
    return emit.silu(emb)


def _begun(emit: Emitter, unet: Any) -> tuple[Node, Node, Node]:
    """What leaves a UNet's first convolution, its times and its words."""
    only(unet, UNet2DConditionModel)
    _check_embeddings(unet)
    if unet.config["conv_out_kernel"] != 3 or unet.config["center_input_sample"]:
        raise NotExpressible("a UNet with an unusual beginning or end")
    x = emit.input(SAMPLE, (-1, unet.config["in_channels"], -1, -1))
    context = emit.input(CONTEXT, (-1, -1, _context_width(unet)))
    return emit.conv(unet.conv_in, x), _times(emit, unet, context), context


def _up(
    emit: Emitter, unet: Any, begun: tuple[Node, list[Node]], given: tuple[Node, Node], found: dict[int, Node]
) -> Node:
    """The last blocks, as many as there are skip connections for; `found` gets what enters each branch."""
    x, skips = begun
    emb, context = given
    left = sum(len(block.resnets) for block in unet.up_blocks) - len(skips)
    for block in unet.up_blocks:
        only(block, UpBlock2D, CrossAttnUpBlock2D)
        absent(block, "s1", "s2", "b1", "b2")
        inner, left = min(left, len(block.resnets)), max(left - len(block.resnets), 0)
        if inner == len(block.resnets):
            continue
        for index, part in list(enumerate(block.resnets))[inner:]:
            found[len(skips) - 1] = x
            x = resnet(emit, part, op.concat([x, skips.pop()], 1), emb)
            if isinstance(block, CrossAttnUpBlock2D):
                x = transformer(emit, block.attentions[index], x, context)
        for part in block.upsamplers or ():
            # Sides that cannot be halved again and again leave skip connections of odd sides.
            x = larger(emit, part, x, like=skips[-1])
    only(unet.conv_act, nn.SiLU)
    return emit.conv(unet.conv_out, emit.silu(emit.group_norm(unet.conv_norm_out, x)))


def _down(
    emit: Emitter, net: Any, x: Node, emb: Node, context: Node, *, count: int | None = None
) -> tuple[list[Node], Node]:
    """The skip connections, all or the first few, and what leaves the last of these blocks."""
    skips = [x]
    for level, block in enumerate(net.down_blocks):
        only(block, DownBlock2D, CrossAttnDownBlock2D)
        for index, part in enumerate(block.resnets):
            if len(skips) == count:
                return skips, x
            x = resnet(emit, part, x, emb)
            if isinstance(block, CrossAttnDownBlock2D):
                x = transformer(emit, block.attentions[index], x, context)
                if index == len(block.resnets) - 1:
                    x = inside(emit, net, level, x)
            skips.append(x)
        for part in block.downsamplers or ():
            if len(skips) == count:
                return skips, x
            x = smaller(emit, part, x)
            skips.append(x)
        if not isinstance(block, CrossAttnDownBlock2D):
            # diffusers adds it in place, so that the block's last skip connection has it too.
            x = skips[-1] = inside(emit, net, level, x, convolved=bool(block.downsamplers))
    return skips, x


def _down_and_mid(emit: Emitter, net: Any, x: Node, emb: Node, context: Node) -> tuple[list[Node], Node]:
    """The skip connections, and what leaves the middle."""
    skips, x = _down(emit, net, x, emb, context)
    middle = net.mid_block
    only(middle, UNetMidBlock2DCrossAttn, UNetMidBlock2D)
    x = resnet(emit, middle.resnets[0], x, emb)
    for attention, part in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = resnet(emit, part, transformer(emit, attention, x, context), emb)
    return skips, inside(emit, net, len(net.down_blocks), x)


def _residual(emit: Emitter, index: int, last: int | None = None) -> Node:
    return emit.input(residual_name(index), (-1, -1, -1, -1), optional=index != last)


def _hint(emit: Emitter, module: Any, x: Node) -> Node:
    only(module, ControlNetConditioningEmbedding)
    x = emit.silu(emit.conv(module.conv_in, x))
    for block in module.blocks:
        x = emit.silu(emit.conv(block, x))
    return emit.conv(module.conv_out, x)


def _check_embeddings(net: Any) -> None:
    """Refuse what would be added to the time, or made of words, by other parts."""
    absent(net, "class_embedding", "time_embed_act", "encoder_hid_proj")
    if net.config["addition_embed_type"] not in (None, "text", "text_time"):
        raise NotExpressible(f"an additional embedding of {net.config['addition_embed_type']}")


def _context_width(net: Any) -> int:
    width = net.config["cross_attention_dim"]
    if not isinstance(width, int):
        raise NotExpressible("a context whose width differs from block to block")
    return width
