"""Autoencoders, their tiny stand-ins, and the encoders of text and pictures."""

from __future__ import annotations

from danqing.models.identity.evidence import Evidence, Rule, known
from danqing.spec.files import FileIdentity

_VAE_PREFIXES = ("first_stage_model.", "vae.", "")
_BY_LATENTS: dict[int, tuple[str, ...]] = {4: ("sd1", "sd2", "sdxl"), 16: ("sd3", "flux"), 32: ("flux2",)}
_VAE_WORDS: dict[str, tuple[str, ...]] = {
    "sd1": ("840000", "560000", "sd1", "sd15", "sd-v1", "nai", "anything", "kl-f8", "orangemix"),
    "sdxl": ("sdxl", "xl_vae", "xl-vae", "xlvae"),
    "sd3": ("sd3",),
    "flux": ("flux",),
}
# CLIP's text towers by width: whose they are.
_CLIP_TEXT = {768: "clip_l", 1024: "open_clip_h", 1280: "clip_g"}
_VISION = {1024: "clip_l", 1280: "clip_h", 1664: "clip_g", 768: "clip_b", 1152: "siglip_so400m"}


def detect_vae(names: Evidence) -> FileIdentity | None:
    """An autoencoder in LDM's, diffusers', Wan's or DC-AE's layout."""
    for prefix in _VAE_PREFIXES:
        if prefix and prefix[:-1] not in names.heads:
            continue
        inner = names.under(prefix)
        found = _kl(inner, prefix) or _other_vae(inner)
        if found is not None:
            return found
    return None


def _kl(names: Evidence, prefix: str) -> FileIdentity | None:
    if not names.has("decoder.conv_in.weight", "decoder.conv_out.weight") or names.has("quantize.embedding.weight"):
        return None
    if names.starts("decoder.up_blocks."):
        layout, levels = "diffusers", names.count("decoder.up_blocks.")
    elif names.starts("decoder.up."):
        layout, levels = "ldm", names.count("decoder.up.")
    else:
        return None
    channels = names.side("decoder.conv_in.weight", 1) or 0
    families = _BY_LATENTS.get(channels, ())
    sides = tuple(side for side in ("encoder", "decoder") if side in names.heads)
    facts = known(latent_channels=channels, scale=2 ** (levels - 1), sides=sides)
    family = families[0] if len(families) == 1 else None
    if len(families) > 1:
        facts["families"] = families
        facts["family_from"] = f"the autoencoders of {', '.join(families)} have the same shapes"
        family = _hinted(names, families)
        if family is not None:
            facts["family_from"] = "not told by shapes; taken from the file's name"
    return FileIdentity(
        kind="vae",
        family=family,
        layout=layout,
        parts=("vae",),
        facts=facts,
        why=f"{prefix}decoder.conv_in.weight takes {channels} channels",
    )


def _hinted(names: Evidence, families: tuple[str, ...]) -> str | None:
    if names.name == "ae":
        return "flux"
    return next((family for family in families if names.says(*_VAE_WORDS.get(family, ()))), None)


def _other_vae(names: Evidence) -> FileIdentity | None:
    if names.has("decoder.middle.0.residual.0.gamma"):
        facts = known(latent_channels=names.side("decoder.conv1.weight", 1), scale=8, families=("wan", "qwen_image"))
        return FileIdentity(
            kind="vae",
            family="qwen_image" if names.says("qwen") else "wan",
            layout="wan",
            parts=("vae",),
            facts=facts | {"family_from": "Wan 2.1 and Qwen-Image have the same autoencoder layout"},
            why="decoder.middle.0.residual.0.gamma",
        )
    if names.has("decoder.project_in.main.conv.weight") or names.starts("decoder.stages.0."):
        return FileIdentity(
            kind="vae", family="sana", variant="dc-ae", layout="nvlabs", parts=("vae",), why="decoder.stages", facts={}
        )
    return None


def detect_taesd(names: Evidence) -> FileIdentity | None:
    """Tiny autoencoders by madebyollin: bare halves, both halves, diffusers' renaming; A1111's approximation."""
    for prefix, layout in (("", "madebyollin"), ("decoder.layers.", "diffusers"), ("taesd_decoder.", "comfyui")):
        inner = names.under(prefix)
        if inner.has("1.weight", "3.conv.0.weight", "3.conv.2.weight") and len(inner.shape("1.weight")) == 4:
            return _taesd(names, layout, "decoder", inner.side("1.weight", 1) or 0)
    for prefix, layout in (("", "madebyollin"), ("encoder.layers.", "diffusers"), ("taesd_encoder.", "comfyui")):
        inner = names.under(prefix)
        if inner.has("0.weight", "1.conv.0.weight", "14.weight") and inner.side("0.weight", 1) == 3:
            return _taesd(names, layout, "encoder", inner.side("14.weight", 0) or 0)
    if len(names.tensors) == 16 and names.has("conv1.weight", "conv8.weight") and names.side("conv8.weight", 0) == 3:
        channels = names.side("conv1.weight", 1) or 0
        family = "sdxl" if names.says("xl") else "sd3" if channels == 16 else "sd1"
        return FileIdentity(
            kind="taesd",
            family=family,
            variant="approximation",
            layout="a1111",
            facts={"latent_channels": channels, "half": "decoder"},
            why="conv1 … conv8",
        )
    return None


def _taesd(names: Evidence, layout: str, half: str, channels: int) -> FileIdentity:
    families = _BY_LATENTS.get(channels, ())
    if names.has("encoder.layers.0.weight") and half == "decoder":
        half = "both"
    family = families[0] if len(families) == 1 else None
    if family is None:
        hints = {"taesdxl": "sdxl", "taesd3": "sd3", "taef1": "flux", "taef2": "flux2"}
        word = names.says(*hints)
        family = hints[word] if word else "sd1" if channels == 4 and names.name.startswith("taesd") else None
    facts = known(latent_channels=channels, half=half, families=families or None)
    return FileIdentity(
        kind="taesd", family=family, variant=half, layout=layout, facts=facts, why=f"{channels} latent channels"
    )


def detect_text_encoder(names: Evidence) -> FileIdentity | None:
    """CLIP, OpenCLIP, T5 and the language models that newer families read with."""
    if names.has("text_model.embeddings.token_embedding.weight") and "vision_model" not in names.heads:
        width = names.side("text_model.embeddings.token_embedding.weight", 1) or 0
        return _text(_CLIP_TEXT.get(width, "clip"), "transformers", width, "text_model.embeddings.token_embedding")
    for word in ("shared.weight", "token_embd.weight"):
        blocks = ("encoder.block.0.layer.0.SelfAttention.q.weight", "enc.blk.0.attn_q.weight")
        if names.has(word) and names.any(*blocks):
            variant = "umt5" if (names.side(word, 0) or 0) > 200_000 else "t5"
            width = names.side(word, 1) or 0
            variant = f"{variant}xxl" if width == 4096 else variant
            return _text(variant, "gguf" if word == "token_embd.weight" else "transformers", width, word)
    if names.has("token_embd.weight", "blk.0.attn_q.weight"):
        width = names.side("token_embd.weight", 1) or 0
        variant = names.metadata.get("general.architecture", "language model")
        return _text(variant, "gguf", width, "blk.0.attn_q.weight")
    tokens = next((name for name in names.tensors if name.endswith("embed_tokens.weight")), None)
    query = names.first("layers.0.self_attn.q_proj.weight")
    if tokens and query and "vision_model" not in names.heads:
        return _text(_language_model(names), "transformers", names.side(tokens, 1) or 0, tokens)
    return None


def _language_model(names: Evidence) -> str:
    if names.first("post_feedforward_layernorm"):
        return "gemma2"
    if names.first("self_attn.q_norm.weight"):
        return "qwen3"
    if "visual" in names.heads or names.first("visual.blocks.0"):
        return "qwen2.5-vl"
    return "qwen2" if names.first("self_attn.q_proj.bias") else "llama"


def _text(variant: str, layout: str, width: int, why: str) -> FileIdentity:
    return FileIdentity(kind="text_encoder", variant=variant, layout=layout, facts={"width": width}, why=why)


def detect_image_encoder(names: Evidence) -> FileIdentity | None:
    """CLIP's and SigLIP's picture towers, alone or with the words' one."""
    entry = next(
        (
            name
            for name in (
                "vision_model.embeddings.patch_embedding.weight",
                "visual.conv1.weight",
                "model.visual.conv1.weight",
            )
            if name in names.tensors
        ),
        None,
    )
    if entry is None:
        return None
    width = names.side(entry, 0) or 0
    both = names.starts("text_model.") or names.has("token_embedding.weight")
    facts = known(width=width, patch_px=names.side(entry, -1), projection=names.side("visual_projection.weight", 0))
    return FileIdentity(
        kind="image_encoder",
        variant=_VISION.get(width, "clip"),
        layout="transformers" if entry.startswith("vision_model") else "open_clip",
        parts=("image_encoder", "text_encoder") if both else ("image_encoder",),
        facts=facts,
        why=entry,
    )


RULES = (
    Rule("autoencoder", detect_vae),
    Rule("tiny autoencoder", detect_taesd),
    Rule("image encoder", detect_image_encoder),
    Rule("text encoder", detect_text_encoder),
)
