"""Autoencoders as graphs: from latents to pictures and back."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder, Encoder
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UNetMidBlock2D, UpDecoderBlock2D
from torch import nn

from danqing.models.graphs.blocks import larger, picture_attention, resnet, smaller
from danqing.models.graphs.emit import Emitter, Node, Written, only

LATENT, PICTURE = "latent", "picture"


def decoder_graph(vae: Any, dtype: torch.dtype) -> Written:
    """`latent` [b, c, h, w], not scaled, to a picture [b, 3, 8h, 8w] nominally in [−1, 1].

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    only(vae, AutoencoderKL)
    decoder = vae.decoder
    only(decoder, Decoder)
    emit = Emitter(dtype)
    x = emit.input(LATENT, (-1, vae.config["latent_channels"], -1, -1))
    if vae.post_quant_conv is not None:
        x = emit.conv(vae.post_quant_conv, x)
    x = _middle(emit, decoder.mid_block, emit.conv(decoder.conv_in, x))
    for block in decoder.up_blocks:
        only(block, UpDecoderBlock2D)
        for part in block.resnets:
            x = resnet(emit, part, x, None)
        for part in block.upsamplers or ():
            x = larger(emit, part, x)
    return emit.graph([_end(emit, decoder, x)], "decoder")


def encoder_graph(vae: Any, dtype: torch.dtype) -> Written:
    """`picture` [b, 3, H, W] to mean and log variance of its latent [b, 2c, h, w].

    Raises:
        NotExpressible: It has parts that no graph is written for.
    """
    only(vae, AutoencoderKL)
    encoder = vae.encoder
    only(encoder, Encoder)
    emit = Emitter(dtype)
    x = emit.conv(encoder.conv_in, emit.input(PICTURE, (-1, vae.config["in_channels"], -1, -1)))
    for block in encoder.down_blocks:
        only(block, DownEncoderBlock2D)
        for part in block.resnets:
            x = resnet(emit, part, x, None)
        for part in block.downsamplers or ():
            x = smaller(emit, part, x)
    x = _end(emit, encoder, _middle(emit, encoder.mid_block, x))
    if vae.quant_conv is not None:
        x = emit.conv(vae.quant_conv, x)
    return emit.graph([x], "encoder")


def _middle(emit: Emitter, block: Any, x: Node) -> Node:
    only(block, UNetMidBlock2D)
    x = resnet(emit, block.resnets[0], x, None)
    for attention, part in zip(block.attentions, block.resnets[1:], strict=True):
        if attention is not None:
            x = picture_attention(emit, attention, x)
        x = resnet(emit, part, x, None)
    return x


def _end(emit: Emitter, part: Any, x: Node) -> Node:
    only(part.conv_act, nn.SiLU)
    return emit.conv(part.conv_out, emit.silu(emit.group_norm(part.conv_norm_out, x)))
