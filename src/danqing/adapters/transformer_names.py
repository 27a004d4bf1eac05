"""Layers of kohya's FLUX.1 and SD 3 networks under the names that diffusers' transformers have.

kohya's trainer names layers as the models' makers do. There q, k and v are one layer, and so is what a single block of
FLUX makes at once; diffusers has a layer for each. A low-rank change of the joined layer is one of each part: the same
`down`, its own rows of `up`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from danqing.spec.errors import UnsupportedError

Numbers = dict[str, Tensor]
_BLOCK = re.compile(r"(double|single|joint)_blocks_(\d+)_(.+)")
_PLACES: Final = {
    "double": "transformer_blocks",
    "joint": "transformer_blocks",
    "single": "single_transformer_blocks",
}
_OUTER: Final = {
    "time_in_in_layer": "time_text_embed_timestep_embedder_linear_1",
    "time_in_out_layer": "time_text_embed_timestep_embedder_linear_2",
    "vector_in_in_layer": "time_text_embed_text_embedder_linear_1",
    "vector_in_out_layer": "time_text_embed_text_embedder_linear_2",
    "guidance_in_in_layer": "time_text_embed_guidance_embedder_linear_1",
    "guidance_in_out_layer": "time_text_embed_guidance_embedder_linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    "final_layer_linear": "proj_out",
    "final_layer_adaLN_modulation_1": "norm_out_linear",
    "t_embedder_mlp_0": "time_text_embed_timestep_embedder_linear_1",
    "t_embedder_mlp_2": "time_text_embed_timestep_embedder_linear_2",
    "y_embedder_mlp_0": "time_text_embed_text_embedder_linear_1",
    "y_embedder_mlp_2": "time_text_embed_text_embedder_linear_2",
}
_INNER: Final = {
    "img_mod_lin": "norm1_linear",
    "txt_mod_lin": "norm1_context_linear",
    "img_attn_proj": "attn_to_out_0",
    "txt_attn_proj": "attn_to_add_out",
    "img_mlp_0": "ff_net_0_proj",
    "img_mlp_2": "ff_net_2",
    "txt_mlp_0": "ff_context_net_0_proj",
    "txt_mlp_2": "ff_context_net_2",
    "modulation_lin": "norm_linear",
    "linear2": "proj_out",
    "x_block_adaLN_modulation_1": "norm1_linear",
    "context_block_adaLN_modulation_1": "norm1_context_linear",
    "x_block_attn_proj": "attn_to_out_0",
    "x_block_attn2_proj": "attn2_to_out_0",
    "context_block_attn_proj": "attn_to_add_out",
    "x_block_mlp_fc1": "ff_net_0_proj",
    "x_block_mlp_fc2": "ff_net_2",
    "context_block_mlp_fc1": "ff_context_net_0_proj",
    "context_block_mlp_fc2": "ff_context_net_2",
}
_OWN, _ADDED = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
_JOINED: Final = {
    "img_attn_qkv": tuple(f"attn_{one}" for one in _OWN),
    "txt_attn_qkv": tuple(f"attn_{one}" for one in _ADDED),
    "x_block_attn_qkv": tuple(f"attn_{one}" for one in _OWN),
    "x_block_attn2_qkv": tuple(f"attn2_{one}" for one in _OWN),
    "context_block_attn_qkv": tuple(f"attn_{one}" for one in _ADDED),
    "linear1": (*(f"attn_{one}" for one in _OWN), "proj_mlp"),
}
_SWAPPED: Final = frozenset(("norm_out_linear", "norm1_context_linear"))
"""Where the makers' layer answers with shift and scale, and diffusers' with scale and shift, if it answers with two."""


def to_diffusers(layer: str, numbers: Mapping[str, Tensor], where: str) -> Iterator[tuple[str, Numbers]]:
    """(a layer's name in diffusers, the numbers of its change) for one layer of a file; other names stay as they are.

    Args:
        layer: Flat name, as in kohya's files.
        numbers: Of its change.
        where: For messages.

    Raises:
        UnsupportedError: A joined layer is changed in a way that cannot be taken apart.
    """
    own = dict(numbers)
    found = _BLOCK.fullmatch(layer)
    if found is None:
        new = _OUTER.get(layer, layer)
        yield new, _swapped(own, where) if new in _SWAPPED and new != layer else own
        return
    head = f"{_PLACES[found[1]]}_{found[2]}_"
    if found[3] in _JOINED:
        names = _JOINED[found[3]]
        for name, part in zip(names, _taken_apart(own, len(names), where), strict=True):
            yield head + name, part
        return
    new = _INNER.get(found[3], found[3])
    yield head + new, _swapped(own, where) if new in _SWAPPED and _is_pair(own) else own


def _taken_apart(numbers: Numbers, count: int, where: str) -> list[Numbers]:
    """The change of each part: three alike, or three alike and the four times wider rest."""
    up = _up(numbers, where)
    width = up.shape[0] // (3 if count == 3 else 7)
    sizes = [width] * 3 + ([up.shape[0] - 3 * width] if count == 4 else [])
    parts = torch.split(up, sizes, dim=0)
    scales: list[dict[str, Tensor]] = [{} for _ in parts]
    if "dora_scale" in numbers and numbers["dora_scale"].shape[0] == up.shape[0]:
        lengths = torch.split(numbers["dora_scale"], sizes, dim=0)
        scales = [{"dora_scale": one} for one in lengths]
    return [{**numbers, **scale, "up": part.contiguous()} for part, scale in zip(parts, scales, strict=True)]


def _is_pair(numbers: Numbers) -> bool:
    """Whether a layer answers with two vectors as wide as what it reads: the last block's words have no more."""
    return "up" in numbers and "down" in numbers and numbers["up"].shape[0] == 2 * numbers["down"].shape[1]


def _swapped(numbers: Numbers, where: str) -> Numbers:
    shift, scale = torch.chunk(_up(numbers, where), 2, dim=0)
    return {**numbers, "up": torch.cat([scale, shift], dim=0)}


def _up(numbers: Numbers, where: str) -> Tensor:
    if "up" in numbers and "mid" not in numbers:
        return numbers["up"]
    raise UnsupportedError(
        f"a joined layer of a transformer is changed in a way that cannot be taken apart ({where})",
        field="prompt",
        value=", ".join(sorted(numbers)),
        allowed="LoRA and DoRA",
        next_step="use the same network as a plain LoRA, or in diffusers' layout",
    )
