"""FLUX.1's published names (Black Forest Labs') to those of diffusers' class.

The diffusers library has such a table with the published width in it; here the widths are the tensors' own, so that
small and packed (GGUF) ones are renamed too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_TOP = {
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_JOINED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_SINGLE_JOINED = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
_PARTS_OF_SINGLE = 7
"""Rows of `linear1` in widths of the model: q, k and v of one, and four for the hidden layer beside them."""
_NAME = re.compile(r"(?:(double|single)_blocks\.(\d+)\.)?(.+)\.(weight|bias|scale)")
_MARKS = ("scaled_fp8", "comfy_quant", "__")


def to_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under diffusers' names; what is not known keeps its name, for a message.

    Args:
        tensors: In the published names, without a prefix. Packed ones must have a row for each output.
    """
    return {new: one for name, tensor in tensors.items() for new, one in _renamed(name, tensor)}


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    found = _NAME.fullmatch(name)
    if found is None or name.startswith(_MARKS):
        if not name.startswith(_MARKS):
            yield name, tensor
        return
    kind, at, layer, ending = found.groups()
    ending = "weight" if ending == "scale" else ending
    if kind == "double":
        head = f"transformer_blocks.{at}."
        if layer in _JOINED:
            yield from _split(head, _JOINED[layer], ending, torch.chunk(tensor, 3, dim=0))
            return
        new = head + _DOUBLE[layer] if layer in _DOUBLE else None
    elif kind == "single":
        head = f"single_transformer_blocks.{at}."
        if layer == "linear1":
            width = tensor.shape[0] // _PARTS_OF_SINGLE
            sizes = [width, width, width, tensor.shape[0] - 3 * width]
            yield from _split(head, _SINGLE_JOINED, ending, torch.split(tensor, sizes, dim=0))
            return
        new = head + _SINGLE[layer] if layer in _SINGLE else None
    else:
        new = _TOP.get(layer)
        if layer.startswith("final_layer.adaLN"):
            # The published layer answers with shift and scale, diffusers' with scale and shift.
            shift, scale = torch.chunk(tensor, 2, dim=0)
            tensor = torch.cat([scale, shift], dim=0)
    yield (name if new is None else f"{new}.{ending}"), tensor


def _split(head: str, layers: tuple[str, ...], ending: str, parts: tuple[Tensor, ...]) -> Iterator[tuple[str, Tensor]]:
    for layer, part in zip(layers, parts, strict=True):
        yield f"{head}{layer}.{ending}", part
