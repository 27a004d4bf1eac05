"""Layer names of a model for the names that network files give them, and the blocks that block weights count.

A UNet's blocks have two sets of names: diffusers' (`down_blocks_0_attentions_1`) and LDM's (`input_blocks_2_1`).
Everything follows from the paths of the UNet's modules, so any number of levels and layers works, the built-in
family's too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

_RESNET = {
    "norm1": "in_layers_0", "conv1": "in_layers_2", "time_emb_proj": "emb_layers_1",
    "norm2": "out_layers_0", "conv2": "out_layers_3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTER = {
    "conv_in": "input_blocks_0_0", "time_embedding.linear_1": "time_embed_0", "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0", "add_embedding.linear_2": "label_emb_0_2",
    "conv_norm_out": "out_0", "conv_out": "out_2",
}  # fmt: skip
_SELF = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
_CROSS = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
_FORWARD = "ff.net.0.proj"
_ATTENTION_ORDERS = ((*_SELF, _FORWARD, *_CROSS), (*_SELF, *_CROSS, _FORWARD), (*_SELF, *_CROSS))
"""How cloneofsimo's trainer counted a transformer block's layers, with diffusers of its time and after, and without the
feed-forward net; the middle block comes last."""
_TEXT_ORDER = ("k_proj", "v_proj", "q_proj", "out_proj")


@dataclass
class UnetNames:
    """A UNet's names.

    Attributes:
        paths: Flat name (diffusers' and LDM's) → path of the module.
        blocks: Path of a block's module → its name for block weights (`IN04`, `M00`, `OUT11`).
    """

    paths: dict[str, str] = field(default_factory=dict[str, str])
    blocks: dict[str, str] = field(default_factory=dict[str, str])
    _attended: dict[str, bool] = field(default_factory=dict[str, bool])

    def block_of(self, path: str) -> str | None:
        """The block that a layer lies in; None for those before and behind the blocks."""
        return next(
            (name for prefix, name in self.blocks.items() if path == prefix or path.startswith(f"{prefix}.")), None
        )

    def block_names(self, *, attended: bool) -> list[str]:
        """Every block in order, or only those with attention."""
        names = list(dict.fromkeys(self.blocks.values()))
        names.sort(key=lambda name: (("IN", "M0", "OU").index(name[:2]), name))
        return [name for name in names if not attended or self._attended.get(name)]

    def add_block(self, prefix: str, ldm: str, name: str) -> None:
        """Note what a block's module is called."""
        self.paths[ldm] = prefix
        self.blocks[prefix] = name
        self._attended[name] = self._attended.get(name, False) or ".attentions." in prefix


def unet_names(paths: Iterable[str]) -> UnetNames:
    """The names of a UNet whose modules have these paths."""
    known = list(paths)
    there = set(known)
    names = UnetNames()
    _count_blocks(there, names)
    prefixes = {prefix: ldm for ldm, prefix in names.paths.items()}
    names.paths = {}
    for path in known:
        names.paths[path.replace(".", "_")] = path
        if path in _OUTER:
            names.paths[_OUTER[path]] = path
        for cut in (4, 3):
            head = ".".join(path.split(".")[:cut])
            if head in prefixes:
                inner = path[len(head) + 1 :]
                ldm = prefixes[head]
                if ".resnets." in head:
                    inner = _RESNET.get(inner, inner)
                elif head.endswith("downsamplers.0"):
                    inner = "op" if inner == "conv" else inner
                names.paths[f"{ldm}_{inner.replace('.', '_')}"] = path
                break
    return names


def _count_blocks(there: set[str], names: UnetNames) -> None:
    number = 0
    if "conv_in" in there:
        names.blocks["conv_in"] = "IN00"
    for level in range(_count(there, "down_blocks")):
        block = f"down_blocks.{level}"
        for layer in range(_count(there, f"{block}.resnets")):
            number += 1
            _layer(there, names, (block, layer), f"input_blocks_{number}", f"IN{number:02}")
        if f"{block}.downsamplers.0" in there:
            number += 1
            names.add_block(f"{block}.downsamplers.0", f"input_blocks_{number}_0", f"IN{number:02}")
    for part, ldm in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2)):
        if f"mid_block.{part}" in there:
            names.add_block(f"mid_block.{part}", f"middle_block_{ldm}", "M00")
    number = -1
    for level in range(_count(there, "up_blocks")):
        block = f"up_blocks.{level}"
        layers = _count(there, f"{block}.resnets")
        for layer in range(layers):
            number += 1
            inside = _layer(there, names, (block, layer), f"output_blocks_{number}", f"OUT{number:02}")
            if layer == layers - 1 and f"{block}.upsamplers.0" in there:
                names.add_block(f"{block}.upsamplers.0", f"output_blocks_{number}_{inside}", f"OUT{number:02}")


def _layer(there: set[str], names: UnetNames, at: tuple[str, int], ldm: str, name: str) -> int:
    """Note a resnet and its attention; how many modules that are."""
    block, layer = at
    names.add_block(f"{block}.resnets.{layer}", f"{ldm}_0", name)
    if f"{block}.attentions.{layer}" not in there:
        return 1
    names.add_block(f"{block}.attentions.{layer}", f"{ldm}_1", name)
    return 2


def _count(there: set[str], prefix: str) -> int:
    count = 0
    while f"{prefix}.{count}" in there:
        count += 1
    return count


def text_names(paths: Iterable[str]) -> dict[str, str]:
    """Flat name → path of a text encoder's module; `text_model_` in front may be there or not, here and in files."""
    names: dict[str, str] = {}
    for path in paths:
        bare = path.removeprefix("text_model.").replace(".", "_")
        names[bare] = names[f"text_model_{bare}"] = path
    return names


def numbered_unet_layers(paths: Iterable[str]) -> list[list[str]]:
    """The UNet layers that cloneofsimo's layout numbers, in each order that was in use."""
    blocks = {match[0] for path in paths if (match := re.match(r".*transformer_blocks\.\d+", path))}
    ordered = sorted(blocks, key=_block_order)
    return [[f"{block}.{layer}" for block in ordered for layer in order] for order in _ATTENTION_ORDERS]


def numbered_text_layers(paths: Iterable[str]) -> list[str]:
    """The text encoder's layers in cloneofsimo's order."""
    attentions = [path for path in paths if path.endswith(".self_attn")]
    attentions.sort(key=lambda path: [int(part) for part in path.split(".") if part.isdigit()])
    return [f"{attention}.{layer}" for attention in attentions for layer in _TEXT_ORDER]


def _block_order(path: str) -> tuple[int, Sequence[int]]:
    group = ("down_blocks", "up_blocks", "mid_block").index(path.split(".", maxsplit=1)[0])
    return group, [int(part) for part in path.split(".") if part.isdigit()]
