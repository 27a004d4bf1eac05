"""Denoisers: whose UNet or transformer it is, told from a few tensors. The tables are the published layouts' names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from danqing.models.identity.evidence import Evidence, Facts, known
from danqing.spec.model import Prediction

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.model.", "unet.", "transformer.", "net.", "")
"""What may stand before a denoiser's names: LDM and ComfyUI checkpoints, exports, diffusers, bare files."""

LABEL = "label_emb.0.0.weight"
_LDM_IN = "input_blocks.0.0.weight"
_BY_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
_BY_CHANNELS = {4: "base", 9: "inpaint", 8: "edit", 5: "depth", 7: "upscale"}
_REFINER_POOLED = 2560
_KOLORS_POOLED = 5632
_LIKE_DEV = ("kontext", "krea")
UNSURE = "not told by shapes; taken from the file's name"


@dataclass(frozen=True)
class Denoiser:
    """What a denoiser is.

    Attributes:
        prefix: What stands before its names.
        why: The names that decided.
    """

    family: str
    variant: str
    layout: str
    prediction: Prediction | None
    prefix: str
    why: str
    facts: Facts = field(default_factory=dict[str, int | float | str | bool | tuple[int, ...] | tuple[str, ...]])


Refine = Callable[[Evidence, Facts], str]


@dataclass(frozen=True)
class Transformer:
    """The layout of one published transformer.

    Attributes:
        family: Its key.
        layout: Whose names these are.
        marks: Tensors that are all there.
        patch: The tensor that takes the latents in; [width, channels, …].
        context: The tensor that takes text states in; [width, context].
        refine: Tells the variant and adds facts.
    """

    family: str
    layout: str
    marks: tuple[str, ...]
    patch: str = ""
    context: str = ""
    prediction: Prediction = "flow_prediction"
    refine: Refine | None = None


def find_denoiser(names: Evidence) -> Denoiser | None:
    """The denoiser in a file, below whichever prefix it stands."""
    for prefix in PREFIXES:
        if prefix and prefix.partition(".")[0] not in names.heads:
            continue
        inner = names.under(prefix)
        found = _unet(inner, prefix, names) or _transformer(inner, prefix)
        if found is not None:
            return found
    return None


# --- UNets ----------------------------------------------------------------------------------------------------------
def _unet(names: Evidence, prefix: str, whole: Evidence) -> Denoiser | None:
    if names.has(_LDM_IN, "out.2.weight") or names.has(_LDM_IN, "time_embed.0.weight"):
        layout, entry, pooled = "ldm", _LDM_IN, LABEL
    elif names.has("conv_in.weight", "time_embedding.linear_1.weight", "conv_norm_out.weight"):
        layout, entry, pooled = "diffusers", "conv_in.weight", "add_embedding.linear_1.weight"
    else:
        return None
    context_name = names.first("attn2.to_k.weight")
    context = names.side(context_name, 1) if context_name else None
    channels, width = names.side(entry, 1), names.side(entry, 0)
    pooled_width = names.side(pooled, 1)
    facts = known(context_width=context, in_channels=channels, model_channels=width, pooled_width=pooled_width)
    family, sure = _unet_family(names, context, pooled_width, whole)
    if not sure:
        facts["unusual_width"] = True
    variant = _unet_variant(names, family, channels or 4, pooled_width)
    prediction = _unet_prediction(whole, family, variant, facts)
    why = f"{prefix}{entry} takes {channels} channels; text states are {context or 'not read'} wide"
    return Denoiser(family, variant, layout, prediction, prefix, why, facts)


def _unet_family(names: Evidence, context: int | None, pooled: int | None, whole: Evidence) -> tuple[str, bool]:
    """(family, whether its published widths said so)."""
    if names.first("time_stack") or names.first("temporal_res_block"):
        return "svd", True
    if pooled == _KOLORS_POOLED or "encoder_hid_proj" in names.heads:
        return "kolors", True
    if context is None:
        return "ldm_unconditional", True
    if context in _BY_CONTEXT:
        return _BY_CONTEXT[context], True
    # Of unusual width: trained from scratch, or made for a test. The structure tells.
    if pooled is not None or "conditioner" in whole.heads or names.first("transformer_blocks.1."):
        return "sdxl", False
    if whole.starts("cond_stage_model.model."):
        return "sd2", False
    projection = names.first("proj_in.weight")
    flat = projection is not None and len(names.shape(projection)) == 2
    return ("sd2" if flat else "sd1"), False


def _unet_variant(names: Evidence, family: str, channels: int, pooled: int | None) -> str:
    if family == "sdxl" and (pooled == _REFINER_POOLED or names.side(_LDM_IN, 0) == 384):
        return "refiner"
    if family == "sd2" and pooled is not None:
        return "unclip"
    return _BY_CHANNELS.get(channels, f"{channels} channels")


def _unet_prediction(whole: Evidence, family: str, variant: str, facts: Facts) -> Prediction | None:
    """What the UNet answers with, where the file can say."""
    if whole.has("v_pred") or whole.has("edm_vpred.sigma_max"):
        facts["prediction_from"] = "the tensor v_pred" if whole.has("v_pred") else "the tensor edm_vpred.sigma_max"
        facts["zero_terminal_snr"] = whole.has("ztsnr")
        return "v_prediction"
    stated = whole.metadata.get("modelspec.prediction_type", "").lower()
    if stated in {"v", "v_prediction", "v-prediction", "epsilon", "eps"}:
        facts["prediction_from"] = "the header's modelspec.prediction_type"
        return "v_prediction" if stated.startswith("v") else "epsilon"
    if whole.has("edm_mean"):
        facts["edm"] = True
    if family == "svd" or variant == "unclip":
        return "v_prediction"
    if family == "sd2" and variant in {"base", "upscale"}:
        facts["prediction_from"] = (
            "cannot be told from shapes: 768-v answers with v, 512-base with ε; put a .yaml with `parameterization` "
            "beside the file"
        )
        return None
    return "epsilon"


# --- transformers ---------------------------------------------------------------------------------------------------
def _flux(names: Evidence, facts: Facts, guided: bool) -> str:
    channels = facts.get("in_channels")
    if channels == 384:
        return "fill"
    if channels == 128:
        hint = names.says("canny", "depth")
        facts["variant_from"] = UNSURE if hint else "canny and depth have the same shapes"
        return hint or "control"
    if not guided:
        return "schnell"
    hint = names.says(*_LIKE_DEV)
    facts["variant_from"] = UNSURE if hint else "dev, kontext and krea have the same shapes"
    return hint or "dev"


def _flux_bfl(names: Evidence, facts: Facts) -> str:
    facts["blocks"] = (names.count("double_blocks."), names.count("single_blocks."))
    return _flux(names, facts, names.has("guidance_in.in_layer.weight"))


def _flux_diffusers(names: Evidence, facts: Facts) -> str:
    facts["blocks"] = (names.count("transformer_blocks."), names.count("single_transformer_blocks."))
    return _flux(names, facts, names.has("time_text_embed.guidance_embedder.linear_1.weight"))


def _sd3(names: Evidence, facts: Facts) -> str:
    blocks = "joint_blocks." if names.starts("joint_blocks.") else "transformer_blocks."
    depth = names.count(blocks)
    facts["blocks"] = (depth,)
    dual = names.any("joint_blocks.0.x_block.attn2.qkv.weight", "transformer_blocks.0.attn2.to_q.weight")
    normed = names.any("joint_blocks.0.x_block.attn.ln_q.weight", "transformer_blocks.0.attn.norm_q.weight")
    if dual:
        return "3.5-medium"
    if not normed:
        return "3-medium"
    facts["variant_from"] = "large and large-turbo have the same shapes"
    return "3.5-large-turbo" if names.says("turbo") else "3.5-large"


def _pixart(names: Evidence, facts: Facts) -> str:
    sized = names.any("csize_embedder.mlp.0.weight", "adaln_single.emb.resolution_embedder.linear_1.weight")
    facts["blocks"] = (max(names.count("blocks."), names.count("transformer_blocks.")),)
    if sized:
        return "alpha"
    facts["variant_from"] = "alpha at 512 px and sigma have the same shapes"
    return "alpha" if names.says("alpha") else "sigma"


def _qwen(names: Evidence, facts: Facts) -> str:
    facts["blocks"] = (names.count("transformer_blocks."),)
    if names.has("time_text_embed.addition_t_embedding.weight"):
        return "layered"
    if names.has("__index_timestep_zero__"):
        return "edit"
    facts["variant_from"] = UNSURE if names.says("edit") else "edit has the same shapes"
    return "edit" if names.says("edit") else "base"


def _z_image(names: Evidence, facts: Facts) -> str:
    facts["blocks"] = (names.count("layers."),)
    facts["variant_from"] = UNSURE if names.says("turbo") else "turbo has the same shapes"
    return "turbo" if names.says("turbo") else "base"


_TRANSFORMERS: tuple[Transformer, ...] = (
    Transformer("flux2", "bfl", ("single_stream_modulation.lin.weight",), "img_in.weight", "txt_in.weight"),
    Transformer(
        "flux2",
        "diffusers",
        ("double_stream_modulation_img.linear.weight",),
        "x_embedder.weight",
        "context_embedder.weight",
    ),
    Transformer("chroma", "bfl", ("distilled_guidance_layer.in_proj.bias",), "img_in.weight", "txt_in.weight"),
    Transformer(
        "flux",
        "bfl",
        ("double_blocks.0.img_attn.norm.key_norm.scale", "single_blocks.0.norm.key_norm.scale"),
        "img_in.weight",
        "txt_in.weight",
        refine=_flux_bfl,
    ),
    Transformer(
        "flux",
        "diffusers",
        ("single_transformer_blocks.0.proj_mlp.weight", "time_text_embed.timestep_embedder.linear_1.weight"),
        "x_embedder.weight",
        "context_embedder.weight",
        refine=_flux_diffusers,
    ),
    Transformer(
        "sd3",
        "sai",
        ("joint_blocks.0.context_block.adaLN_modulation.1.weight", "x_embedder.proj.weight"),
        "x_embedder.proj.weight",
        "context_embedder.weight",
        refine=_sd3,
    ),
    Transformer(
        "sd3",
        "diffusers",
        ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight", "context_embedder.weight"),
        "pos_embed.proj.weight",
        "context_embedder.weight",
        refine=_sd3,
    ),
    Transformer(
        "qwen_image",
        "diffusers",
        ("transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight"),
        "img_in.weight",
        "txt_in.weight",
        refine=_qwen,
    ),
    Transformer(
        "z_image",
        "diffusers",
        ("all_x_embedder.2-1.weight", "cap_embedder.1.weight"),
        "all_x_embedder.2-1.weight",
        "cap_embedder.1.weight",
        refine=_z_image,
    ),
    # Below its width Lumina 2 and Z-Image have one layout: `_transformer` tells them apart.
    Transformer(
        "z_image",
        "alpha-vllm",
        ("cap_embedder.1.weight", "noise_refiner.0.attention.qkv.weight"),
        "x_embedder.weight",
        "cap_embedder.1.weight",
        refine=_z_image,
    ),
    Transformer(
        "sana",
        "nvlabs",
        ("attention_y_norm.weight", "blocks.0.cross_attn.q_linear.weight"),
        "x_embedder.proj.weight",
        "y_embedder.y_proj.fc1.weight",
    ),
    Transformer(
        "sana",
        "diffusers",
        ("caption_norm.weight", "patch_embed.proj.weight"),
        "patch_embed.proj.weight",
        "caption_projection.linear_1.weight",
    ),
    Transformer(
        "pixart",
        "pixart",
        ("y_embedder.y_proj.fc1.weight", "blocks.0.cross_attn.q_linear.weight", "final_layer.linear.weight"),
        "x_embedder.proj.weight",
        "y_embedder.y_proj.fc1.weight",
        "epsilon",
        _pixart,
    ),
    Transformer(
        "pixart",
        "diffusers",
        ("adaln_single.linear.weight", "caption_projection.linear_1.weight", "pos_embed.proj.weight"),
        "pos_embed.proj.weight",
        "caption_projection.linear_1.weight",
        "epsilon",
        _pixart,
    ),
    # Families that are only named, so that a person learns what the file is.
    Transformer("auraflow", "fal", ("double_layers.0.attn.w1q.weight", "cond_seq_linear.weight")),
    Transformer("hunyuan_dit", "tencent", ("mlp_t5.0.weight", "x_embedder.proj.weight")),
    Transformer("hunyuan_video", "tencent", ("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",)),
    Transformer("hidream", "diffusers", ("double_stream_blocks.0.block.adaLN_modulation.1.bias",)),
    Transformer("stable_cascade", "sai", ("clip_txt_mapper.weight",)),
    Transformer("stable_cascade", "sai", ("clip_mapper.weight", "down_blocks.1.0.channelwise.0.weight")),
    Transformer("wan", "wan", ("head.modulation", "patch_embedding.weight"), "patch_embedding.weight"),
    Transformer("ltx_video", "lightricks", ("patchify_proj.weight", "transformer_blocks.0.scale_shift_table")),
    Transformer("mochi", "genmo", ("t5_yproj.weight", "blocks.0.attn.qkv_x.weight")),
    Transformer("cosmos", "nvidia", ("x_embedder.proj.1.weight", "t_embedder.1.linear_1.weight")),
)
_LUMINA_WIDTH = 2304


def _transformer(names: Evidence, prefix: str) -> Denoiser | None:
    layout = next((one for one in _TRANSFORMERS if names.has(*one.marks)), None)
    if layout is None:
        return None
    facts = known(
        in_channels=names.side(layout.patch, 1),
        model_channels=names.side(layout.patch, 0),
        context_width=names.side(layout.context, 1),
    )
    family = layout.family
    if family == "z_image" and names.side(layout.context, 0) == _LUMINA_WIDTH:
        family = "lumina2"
    variant = layout.refine(names, facts) if layout.refine is not None and family == layout.family else "base"
    if names.has("scaled_fp8") or names.first(".scale_weight"):
        facts["scaled_fp8"] = True
    return Denoiser(family, variant, layout.layout, layout.prediction, prefix, f"{prefix}{layout.marks[0]}", facts)
