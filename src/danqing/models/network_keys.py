"""The tensor names of LoRA and LyCORIS files: which layer of which part of the model, and which number of its change.

Layouts: kohya's (`lora_unet_down_blocks_0_….lora_down.weight`, blocks also by their LDM names), LyCORIS's
(`lycoris_…`, same endings of its own), diffusers' and PEFT's (`unet.….lora_A.weight`), cloneofsimo's first one
(`unet:12:down`), and bundles, which carry embeddings along (`bundle_emb.name.string_to_param.*`). No torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

UNET: Final = "unet"
TEXT: Final = "te"
SECOND_TEXT: Final = "te2"

_KOHYA = re.compile(r"(lora_unet|lora_te1|lora_te2|lora_te|oft_unet|oft_te|lycoris)_([^.]+)\.(.+)")
_KOHYA_PARTS = {
    "lora_unet": UNET, "oft_unet": UNET, "lora_te": TEXT, "lora_te1": TEXT, "oft_te": TEXT, "lora_te2": SECOND_TEXT,
}  # fmt: skip
_FIRST = re.compile(r"(unet|text_encoder):(\d+):(down|up)")
_BUNDLE = re.compile(r"bundle_emb\.([^.]+)\.(.+)")
_DOTTED_PARTS = {"unet": UNET, "transformer": UNET, "text_encoder": TEXT, "text_encoder_2": SECOND_TEXT}
_ENDINGS: Final = {
    "lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid",
    "lora_A.weight": "down", "lora_B.weight": "up", "lora_A.default.weight": "down", "lora_B.default.weight": "up",
    "lora.down.weight": "down", "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down", "lora_linear_layer.up.weight": "up",
    "lora_magnitude_vector.weight": "magnitude", "lora_magnitude_vector.default.weight": "magnitude",
    "lora_magnitude_vector": "magnitude",
}  # fmt: skip
_PLAIN: Final = frozenset((
    "alpha", "dora_scale", "scale", "rescale", "diff", "diff_b", "w_norm", "b_norm", "weight", "on_input",
    "oft_blocks", "oft_diag",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
))  # fmt: skip
_PROCESSOR = re.compile(r"(?:\.processor)?\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight$")


@dataclass(frozen=True, slots=True)
class NetworkKey:
    """What one tensor of a file is.

    Attributes:
        part: `unet`, `te` or `te2`.
        layer: Its layer's path with `_` for `.`, in LDM's or diffusers' names; a number in cloneofsimo's layout.
        number: Which number of the layer's change: `down`, `up`, `alpha`, `hada_w1_a`, …
    """

    part: str
    layer: str
    number: str


@dataclass(frozen=True, slots=True)
class EmbeddingKey:
    """A tensor that is an embedding.

    Attributes:
        name: The word.
        encoder: `clip_l`, `clip_g`, or "" where the file names none.
    """

    name: str
    encoder: str


def read_key(key: str, shape: tuple[int, ...] = ()) -> NetworkKey | EmbeddingKey | None:
    """What a tensor's name says; None for a name of no known layout.

    Args:
        key: The name.
        shape: Its shape; a vector under a bare word is an embedding, as cloneofsimo's trainer keeps it.

    >>> read_key("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight")
    NetworkKey(part='te', layer='text_model_encoder_layers_0_mlp_fc1', number='down')
    >>> read_key("unet.mid_block.attentions.0.proj_in.lora_A.weight").layer
    'mid_block_attentions_0_proj_in'
    >>> read_key("bundle_emb.ink.string_to_param.*")
    EmbeddingKey(name='ink', encoder='')
    """
    if bundled := _BUNDLE.fullmatch(key):
        encoder = bundled[2] if bundled[2] in ("clip_l", "clip_g") else ""
        return EmbeddingKey(bundled[1], encoder)
    if first := _FIRST.fullmatch(key):
        return NetworkKey(_DOTTED_PARTS[first[1]], first[2], first[3])
    if kohya := _KOHYA.fullmatch(key):
        number = _number(kohya[3])
        part = _KOHYA_PARTS.get(kohya[1]) or (TEXT if kohya[2].startswith("text_model") else UNET)
        return None if number is None else NetworkKey(part, kohya[2], number)
    if found := _dotted(key):
        return found
    return EmbeddingKey(key, "") if "." not in key and len(shape) in (1, 2) and key.startswith("<") else None


def _dotted(key: str) -> NetworkKey | None:
    name = key.removeprefix("base_model.model.")
    head, _, rest = name.partition(".")
    part, path = (_DOTTED_PARTS[head], rest) if head in _DOTTED_PARTS else (UNET, name)
    if old := _PROCESSOR.search(path):
        layer = f"{path[: old.start()]}.{old[1]}" + (".0" if old[1] == "to_out" else "")
        return NetworkKey(part, layer.replace(".", "_"), old[2])
    cut = path.rfind(".")
    while cut > 0:
        number = _number(path[cut + 1 :])
        if number is not None and path[cut + 1 :] != "weight":
            return NetworkKey(part, path[:cut].replace(".", "_"), number)
        cut = path.rfind(".", 0, cut)
    return None


def _number(ending: str) -> str | None:
    return _ENDINGS.get(ending) or (ending if ending in _PLAIN else None)
