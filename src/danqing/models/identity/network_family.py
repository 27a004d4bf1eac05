"""Which model a LoRA or LyCORIS was trained on: by the width of the text states, by block names, by its metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping

from danqing.models.identity.evidence import Evidence, Facts

_BY_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_INPUTS = (
    *("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "_lora.down.weight"),
    *("lora_linear_layer.down.weight", ".diff", ".hada_w1_b"),
)
# A piece of a module's name (dots as underscores) that only this family has.
_PIECES: tuple[tuple[str, str], ...] = (
    ("single_stream_modulation", "flux2"),
    ("to_qkv_mlp_proj", "flux2"),
    ("distilled_guidance_layer", "chroma"),
    ("txt_in_individual_token_refiner", "hunyuan_video"),
    ("double_blocks_", "flux"),
    ("single_transformer_blocks_", "flux"),
    ("joint_blocks_", "sd3"),
    ("_img_mlp_", "qwen_image"),
    ("_img_mod_", "qwen_image"),
    ("_txt_mlp_", "qwen_image"),
    ("noise_refiner_", "z_image"),
    ("_attention_to_q", "z_image"),
    ("_attention_qkv", "z_image"),
    ("_ff_conv_inverted", "sana"),
)
_SDXL_DEPTH = re.compile(
    r"down_blocks_2_attentions_\d_transformer_blocks_[1-9]|input_blocks_[78]_1_transformer_blocks_[1-9]"
    r"|mid(dle)?_block_(attentions_0|1)_transformer_blocks_[1-9]"
)
_SD1_PLACES = re.compile(
    r"down_blocks_0_attentions|input_blocks_[12]_1_|up_blocks_3_attentions|output_blocks_(9|1\d)_1_"
)
_SAID: tuple[tuple[str, str], ...] = (
    ("danqing-mini", "danqing"),
    ("flux2", "flux2"),
    ("flux-2", "flux2"),
    ("flux.2", "flux2"),
    ("flux", "flux"),
    ("sdxl", "sdxl"),
    ("stable-diffusion-xl", "sdxl"),
    ("sd3", "sd3"),
    ("stable-diffusion-3", "sd3"),
    ("stable-diffusion-v2", "sd2"),
    ("sd_v2", "sd2"),
    ("stable-diffusion-v1", "sd1"),
    ("sd_v1", "sd1"),
    ("sd_1.5", "sd1"),
    ("qwen", "qwen_image"),
    ("zimage", "z_image"),
    ("z-image", "z_image"),
    ("pixart", "pixart"),
    ("sana", "sana"),
)


def family_of(names: Evidence) -> tuple[str | None, Facts]:
    """(family or None, the widths that were seen)."""
    facts: Facts = {}
    context = _context_width(names)
    if context is not None:
        facts["context_width"] = context
    text = _text_width(names)
    if text is not None:
        facts["text_width"] = text
    unet = "down_blocks" in names.joined or "input_blocks" in names.joined
    if unet and context in _BY_CONTEXT:
        return _BY_CONTEXT[context], facts
    return _by_pieces(names) or _unet_family(names, context, text, facts), facts


def _by_pieces(names: Evidence) -> str | None:
    joined = names.joined.replace(".", "_")
    found = next((family for piece, family in _PIECES if piece in joined), None)
    if found is not None:
        return found
    unet = "down_blocks_" in joined or "input_blocks_" in joined
    if "transformer_blocks_" in joined and not unet:
        if "_add_q_proj" in joined or "_to_add_out" in joined:
            return _joint_width(names)
        if "attn2_to_k" in joined:
            return "pixart"
    return "wan" if "_cross_attn_k" in joined and "_self_attn_" in joined else None


def _joint_width(names: Evidence) -> str:
    """SD3 and Qwen-Image have the same attention; the width tells."""
    name = names.first("to_q", "lora_A") or names.first("to_q", "lora_down") or ""
    return "qwen_image" if names.side(name, 1) == 3072 else "sd3"


def _unet_family(names: Evidence, context: int | None, text: int | None, facts: Facts) -> str | None:
    if context in _BY_CONTEXT:
        return _BY_CONTEXT[context]
    if context == 1280:
        return "sdxl"
    two = names.starts("lora_te2_") or names.starts("text_encoder_2.")
    if two or any(_SDXL_DEPTH.search(name.replace(".", "_")) for name in names.tensors):
        return "sdxl"
    if context is None and text in _BY_CONTEXT:
        return _BY_CONTEXT[text]
    said = said_family(names.metadata)
    if said is not None:
        facts["family_from"] = "the file's metadata"
        return said
    projection = names.first("proj_in", "down") or names.first("proj_in", "lora_A")
    if projection is not None:
        return "sd1" if len(names.shape(projection)) == 4 else "sd2"
    if any(_SD1_PLACES.search(name.replace(".", "_")) for name in names.tensors):
        facts["family_from"] = "its places in the UNet are those of SD 1.x and 2.x"
        return "sd1"
    return None


def said_family(metadata: Mapping[str, str]) -> str | None:
    """The family that a file names in its own metadata; None where it names none.

    The name of a checkpoint, which A1111 writes into hypernetworks and embeddings, is anybody's choice: only the
    built-in model's tells something.
    """
    keys = ("ss_base_model_version", "modelspec.architecture", "base_model")
    words = " ".join(metadata.get(key, "") for key in keys).lower()
    found = next((family for word, family in _SAID if word in words), None) if words.strip() else None
    if found is None and metadata.get("sd_checkpoint_name", "").lower().startswith("danqing-mini"):
        return "danqing"
    return found


def _context_width(names: Evidence) -> int | None:
    """Width of the text states, from a module that reads them."""
    for name in names.containing("attn2"):
        if "to_k" in name or "to_v" in name:
            width = _input_width(names, name)
            if width is not None:
                return width
    return None


def _text_width(names: Evidence) -> int | None:
    for name in names.containing("q_proj"):
        if name.startswith(("lora_te_", "lora_te1_", "text_encoder.", "lycoris_text_model")):
            width = _input_width(names, name)
            if width is not None:
                return width
    return None


def _input_width(names: Evidence, name: str) -> int | None:
    """Width of what a module reads, from whichever of its tensors has it."""
    if name.endswith(_INPUTS):
        return names.side(name, 1)
    if ".lokr_" in name:
        base = name.rpartition(".")[0]
        outer = names.side(f"{base}.lokr_w1", 1) or names.side(f"{base}.lokr_w1_b", 1)
        inner = names.side(f"{base}.lokr_w2", 1) or names.side(f"{base}.lokr_w2_b", 1)
        return outer * inner if outer and inner else None
    return None
