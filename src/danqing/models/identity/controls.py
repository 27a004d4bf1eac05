"""What steers a denoiser from beside it: ControlNets of all layouts, T2I-Adapters, IP-Adapters."""

from __future__ import annotations

from danqing.models.identity.evidence import Evidence, Facts, Rule, known
from danqing.spec.files import FileIdentity
from danqing.spec.registry.controls import WORDS

_BY_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}


def _type_facts(names: Evidence) -> Facts:
    """The control type that the file's name gives, said to be a hint."""
    for word, kind in WORDS:
        if names.says(word):
            return {"control_type": kind, "control_type_from": "the file's name"}
    return {}


def _context(names: Evidence) -> int | None:
    name = names.first("attn2.to_k.weight") or names.first("attn2.to_k.down") or names.first("attn2.to_v.weight")
    return names.side(name, -1) if name else None


def _of(names: Evidence, *, layout: str, variant: str, why: str, hint: str = "") -> FileIdentity:
    """A ControlNet for a UNet."""
    context = _context(names)
    facts = known(context_width=context, hint_channels=names.side(hint, 1)) | _type_facts(names)
    family = _BY_CONTEXT.get(context or 0)
    if family is None:
        label = names.any("label_emb.0.0.weight", "control_model.label_emb.0.0.weight", "add_embedding.linear_1.weight")
        family = "sdxl" if label else "sd1" if context is not None else None
    return FileIdentity(kind="controlnet", family=family, variant=variant, layout=layout, facts=facts, why=why)


def detect_lllite(names: Evidence) -> FileIdentity | None:
    """Kohya's ControlNet-LLLite: small modules in front of the attentions."""
    if not names.starts("lllite_"):
        return None
    first = next(names.starting("lllite_"))
    hint = next((name for name in names.tensors if name.endswith("conditioning1.0.weight")), "")
    depth = names.first("_transformer_blocks_1_") is not None or names.starts("lllite_unet_input_blocks_4_1_")
    facts = known(hint_channels=names.side(hint, 1), embedding_width=names.side(hint, 0)) | _type_facts(names)
    return FileIdentity(
        kind="controlnet_lllite",
        family="sdxl" if depth else "sd1",
        layout="kohya",
        facts=facts,
        why=f"names like {first}",
    )


def detect_control_lora(names: Evidence) -> FileIdentity | None:
    """Stability's Control-LoRA: a ControlNet whose weights are low-rank changes of the UNet's."""
    marked = "lora_controlnet" in names.heads
    if not marked and not (names.has("input_hint_block.0.weight") and {"up", "down"} <= names.tails):
        return None
    down = next((name for name in names.tensors if name.endswith(".down")), None)
    context = _context(names)
    family = _BY_CONTEXT.get(context or 0) or ("sdxl" if names.starts("label_emb.") else None)
    facts = known(rank=names.side(down, 0) if down else None, context_width=context) | _type_facts(names)
    return FileIdentity(
        kind="control_lora",
        family=family,
        layout="sai",
        facts=facts,
        why="the tensor lora_controlnet" if marked else str(down),
    )


def detect_controlnet_ldm(names: Evidence) -> FileIdentity | None:
    """The layout of lllyasviel, bare or below `control_model.`; differences only where `difference` is there."""
    prefix = "control_model." if "control_model" in names.heads else ""
    hint = f"{prefix}input_hint_block.0.weight"
    if not names.has(hint) or not names.has(f"{prefix}zero_convs.0.0.weight"):
        return None
    variant = "difference" if "difference" in names.heads else "base"
    return _of(names, layout="ldm", variant=variant, why=hint, hint=hint)


def detect_controlnet_diffusers(names: Evidence) -> FileIdentity | None:
    """Diffusers' layout for UNets, with the union and ControlNet++ layouts that grew from it."""
    hint = "controlnet_cond_embedding.conv_in.weight"
    if not names.has("controlnet_down_blocks.0.weight"):
        return None
    union = names.any("task_embedding", "control_add_embedding.linear_1.weight")
    if names.first("motion_modules"):
        found = _of(names, layout="diffusers", variant="sparsectrl", why="motion_modules in a ControlNet")
        return found.model_copy(update={"family": found.family or "sd1"})
    variant = "union" if union else "base"
    why = "task_embedding and control_add_embedding" if union else "controlnet_down_blocks.0.weight"
    identity = _of(names, layout="diffusers", variant=variant, why=why, hint=hint)
    if union:
        facts = {**identity.facts, **known(control_types=names.side("task_embedding", 0))}
        identity = identity.model_copy(update={"facts": facts})
    return identity


def detect_controlnet_transformer(names: Evidence) -> FileIdentity | None:
    """ControlNets of FLUX, SD3, Qwen-Image and Z-Image."""
    if names.starts("control_all_x_embedder.") or names.starts("control_layers."):
        return FileIdentity(
            kind="controlnet",
            family="z_image",
            variant="union",
            layout="diffusers",
            facts=_type_facts(names),
            why="control_all_x_embedder" if names.starts("control_all_x_embedder.") else "control_layers",
        )
    if not names.any("controlnet_blocks.0.weight", "controlnet_single_blocks.0.weight"):
        return None
    facts = _type_facts(names)
    if names.first("img_mod.1.weight"):
        family = "qwen_image"
    elif names.any("pos_embed_input.proj.weight", "pos_embed.proj.weight") or names.starts("joint_blocks."):
        family = "sd3"
    else:
        family = "flux"
    modes = names.side("controlnet_mode_embedder.weight", 0)
    xlabs = names.starts("double_blocks.") or names.starts("input_hint_block.")
    facts |= known(control_types=modes)
    return FileIdentity(
        kind="controlnet",
        family=family,
        variant="union" if modes else "base",
        layout="xlabs" if xlabs else "diffusers",
        facts=facts,
        why="controlnet_blocks.0.weight",
    )


def detect_t2i_adapter(names: Evidence) -> FileIdentity | None:
    """TencentARC's adapters: full, light, style; and diffusers' renaming of them."""
    inner = names.under("adapter.") if names.heads == frozenset(("adapter",)) else names
    diffusers = inner.has("body.0.resnets.0.block1.weight")
    if inner.has("style_embedding", "ln_post.weight"):
        return FileIdentity(
            kind="t2i_adapter",
            family="sd1",
            variant="style",
            layout="tencentarc",
            facts=known(context_width=inner.side("proj", 1)),
            why="style_embedding",
        )
    if inner.has("body.0.in_conv.weight"):
        variant, entry = "light", "body.0.in_conv.weight"
    elif inner.has("conv_in.weight") and (diffusers or inner.has("body.0.block1.weight", "body.0.block2.weight")):
        variant, entry = "full", "conv_in.weight"
    else:
        return None
    channels = inner.side(entry, 1) or 0
    # XL's adapters gather 16×16 pixels where the older ones gather 8×8.
    large = channels in {256, 768}
    facts = known(in_channels=channels, map_channels=channels // (256 if large else 64), width=inner.side(entry, 0))
    return FileIdentity(
        kind="t2i_adapter",
        family="sdxl" if large else "sd1",
        variant=variant,
        layout="diffusers" if diffusers else "tencentarc",
        facts=facts | _type_facts(names),
        why=f"{entry} takes {channels} channels",
    )


def detect_ip_adapter(names: Evidence) -> FileIdentity | None:
    """Image prompts: plain, plus, full face, FaceID and its kin; FLUX's."""
    if "double_blocks" in names.heads and names.first("processor.ip_adapter_double_stream_k_proj"):
        return FileIdentity(
            kind="ip_adapter", family="flux", layout="xlabs", why="ip_adapter_double_stream_k_proj", facts={}
        )
    keys = names.first("to_k_ip.weight") if "image_proj" in names.heads else None
    if keys is None:
        return None
    context = names.side(keys, 1)
    faces = names.first("lora.down") is not None
    variant, entry = _ip_variant(names, faces=faces)
    tokens = names.side("image_proj.latents", 1)
    norm = names.side("image_proj.norm.weight", 0)
    if tokens is None and norm and variant == "base":
        tokens = (names.side("image_proj.proj.weight", 0) or 0) // norm
    facts = known(
        context_width=context, embedding_width=names.side(entry, 1), tokens_per_picture=tokens, face_lora=faces
    )
    return FileIdentity(
        kind="ip_adapter",
        family=_BY_CONTEXT.get(context or 0),
        variant=variant,
        layout="tencent-ailab",
        facts=facts,
        why=f"{entry} and {keys}",
    )


def _ip_variant(names: Evidence, *, faces: bool) -> tuple[str, str]:
    """(variant, the tensor that takes the picture's embedding in)."""
    if names.has("image_proj.perceiver_resampler.proj_in.weight"):
        return "faceid-plusv2" if names.says(
            "plusv2"
        ) else "faceid-plus", "image_proj.perceiver_resampler.proj_in.weight"
    if names.has("image_proj.latents"):
        entry = "image_proj.proj_in.weight"
        # Face recognition gives 512 numbers, CLIP's towers 768 and more.
        return ("instantid" if names.side(entry, 1) == 512 else "plus"), entry
    if names.has("image_proj.proj.weight"):
        return "base", "image_proj.proj.weight"
    entry = "image_proj.proj.0.weight"
    return ("faceid" if faces or names.side(entry, 1) == 512 else "full-face"), entry


RULES = (
    Rule("ControlNet-LLLite", detect_lllite),
    Rule("Control-LoRA", detect_control_lora),
    Rule("ControlNet, ldm names", detect_controlnet_ldm),
    Rule("ControlNet, diffusers names", detect_controlnet_diffusers),
    Rule("ControlNet of a transformer", detect_controlnet_transformer),
    Rule("T2I-Adapter", detect_t2i_adapter),
    Rule("IP-Adapter", detect_ip_adapter),
)
