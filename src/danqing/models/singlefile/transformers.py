"""A transformer in one file (FLUX.1, SD3), with or without its text encoders and autoencoder. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from danqing.models.diffusers_folders import FLUX_CHANNELS
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.models.singlefile.facts import VAE_PREFIXES
from danqing.models.singlefile.shapes import Shapes, below, tensors_of
from danqing.models.singlefile.sidecar import Sidecars, read_sidecars
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.files import FileIdentity, Header

FAMILIES = ("flux", "sd3")
"""Families that these files are loaded for."""
ENCODERS = ("clip_l", "clip_g", "t5xxl")
FLUX_PIPELINES = {
    "fill": "FluxFillPipeline",
    "kontext": "FluxKontextPipeline",
    "canny": "FluxControlPipeline",
    "depth": "FluxControlPipeline",
    "control": "FluxControlPipeline",
}
"""FLUX.1 that reads a picture beside words: variant → the class of diffusers that paints it as a whole."""
_PLAIN_FLUX = ("dev", "krea", "schnell")
_FLUX_INPUTS = {"fill": 384, "canny": 128, "depth": 128, "control": 128}
"""Channels that the transformer takes for each patch, where they are not `FLUX_CHANNELS`."""
_ENCODER_PREFIX = "text_encoders.{}.transformer."
_SD3_HEAD = 64
# FLUX turns the three numbers of a place by these parts of a head.
_ROPE_PARTS = (2, 7, 7)


@dataclass(frozen=True)
class TransformerFile:
    """All that is needed to build a transformer from a file.

    Attributes:
        path: The file.
        family: flux or sd3.
        variant: dev, schnell or a key of `FLUX_PIPELINES`; for SD3 as the identity names it.
        layout: Whose names its tensors have: bfl, sai or diffusers.
        prefix: What they begin with.
        config: Of diffusers' class.
        encoders: Text encoders inside the file: clip_l, clip_g or t5xxl → what their names begin with.
        vae_prefix: What the names of the autoencoder inside begin with; None where it has none.
        format: Of the file, as `Header.format`.
        sidecars: What lies beside it.
        metadata: The header's own words.
        variant_from: Where the variant is told by no tensor: what told it.
    """

    path: Path
    family: str
    variant: str
    layout: str
    prefix: str
    config: dict[str, Any]
    encoders: Mapping[str, str] = field(default_factory=dict[str, str])
    vae_prefix: str | None = None
    format: str = "safetensors"
    sidecars: Sidecars = field(default_factory=Sidecars)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    variant_from: str = ""


def describe_transformer(path: Path, header: Header | None = None) -> TransformerFile | None:
    """What a transformer's file holds; None where it is no file of these families.

    Args:
        path: The file.
        header: Its header, if it was read already.

    Raises:
        BadFileError: It is damaged or incomplete, or something beside it is.
        UnsupportedError: It is a FLUX.1 of a kind that is not known, or `variant` beside it is no kind of its shapes.
    """
    header = header or read_header(path)
    identity = identify_header(header, path.name)
    if identity.family not in FAMILIES or identity.kind not in ("checkpoint", "denoiser"):
        return None
    tensors = tensors_of(header)
    prefix = str(identity.facts.get("prefix", ""))
    inner = below(tensors, prefix) if prefix else dict(tensors)
    sidecars = read_sidecars(path)
    said = cast("dict[str, Any]", sidecars.about.get("transformer") or {})
    config = _CONFIGS[identity.family, identity.layout](inner)
    variant, told = identity.variant, str(identity.facts.get("variant_from", ""))
    if identity.family == "flux":
        variant, told = _flux_variant(path, identity, config, sidecars)
    heads = {name: _ENCODER_PREFIX.format(name) for name in ENCODERS}
    vae = next((one for one in VAE_PREFIXES if f"{one}decoder.conv_in.weight" in tensors), None)
    return TransformerFile(
        path=path,
        family=identity.family,
        variant=variant,
        layout=identity.layout,
        prefix=prefix,
        config={**config, **said},
        encoders={name: head for name, head in heads.items() if any(one.startswith(head) for one in tensors)},
        vae_prefix=vae,
        format=header.format,
        sidecars=sidecars,
        metadata=header.metadata,
        variant_from=told,
    )


def _flux_variant(path: Path, identity: FileIdentity, config: Mapping[str, Any], sidecars: Sidecars) -> tuple[str, str]:
    """(dev, schnell or a key of `FLUX_PIPELINES`, what told it where no tensor does).

    Shapes tell fill from the rest and no more: dev is kontext, and canny is depth. The file's name or title decides,
    and `variant` in `NAME.danqing.json` over both.
    """
    plain = "dev" if config["guidance_embeds"] else "schnell"
    said = sidecars.about.get("variant")
    told = str(identity.facts.get("variant_from", "")) if said is None else f"`variant` in {path.stem}.danqing.json"
    found = identity.variant if said is None else str(said)
    found = plain if found in _PLAIN_FLUX else found
    fits = [plain] if config["in_channels"] == FLUX_CHANNELS else []
    fits += [one for one in FLUX_PIPELINES if _FLUX_INPUTS.get(one, FLUX_CHANNELS) == config["in_channels"]]
    if found not in fits:
        raise UnsupportedError(
            f"{path.name} is of no kind of FLUX.1 that this version paints",
            field="model",
            value=f"{found}, {config['in_channels']} channels for each patch",
            allowed=", ".join(fits) or "64 channels (dev, schnell, kontext), 128 (canny, depth) or 384 (fill)",
            next_step=f"take `variant` out of {path.stem}.danqing.json" if said is not None else "use another file",
        )
    return found, told


# --- configs ----------------------------------------------------------------------------------------------------------
def _flux(tensors: Shapes, names: Mapping[str, str]) -> dict[str, Any]:
    hidden, channels = _shape(tensors, names["patch"])
    head = _shape(tensors, names["head"])[0]
    unit = head // sum(_ROPE_PARTS)
    return {
        "in_channels": channels,
        "out_channels": _shape(tensors, names["out"])[0],
        "num_layers": _count(tensors, names["double"]),
        "num_single_layers": _count(tensors, names["single"]),
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": _shape(tensors, names["context"])[1],
        "pooled_projection_dim": _shape(tensors, names["pooled"])[1],
        "guidance_embeds": names["guidance"] in tensors,
        "axes_dims_rope": [unit * part for part in _ROPE_PARTS],
        "patch_size": 1,
    }


def _flux_bfl(tensors: Shapes) -> dict[str, Any]:
    return _flux(
        tensors,
        {
            "patch": "img_in.weight",
            "head": "double_blocks.0.img_attn.norm.query_norm.scale",
            "out": "final_layer.linear.weight",
            "double": r"double_blocks\.(\d+)\.",
            "single": r"single_blocks\.(\d+)\.",
            "context": "txt_in.weight",
            "pooled": "vector_in.in_layer.weight",
            "guidance": "guidance_in.in_layer.weight",
        },
    )


def _flux_diffusers(tensors: Shapes) -> dict[str, Any]:
    return _flux(
        tensors,
        {
            "patch": "x_embedder.weight",
            "head": "transformer_blocks.0.attn.norm_q.weight",
            "out": "proj_out.weight",
            "double": r"transformer_blocks\.(\d+)\.",
            "single": r"single_transformer_blocks\.(\d+)\.",
            "context": "context_embedder.weight",
            "pooled": "time_text_embed.text_embedder.linear_1.weight",
            "guidance": "time_text_embed.guidance_embedder.linear_1.weight",
        },
    )


def _sd3(tensors: Shapes, names: Mapping[str, str]) -> dict[str, Any]:
    hidden, channels, patch, _ = _shape(tensors, names["patch"])
    normed = tensors.get(names["norm"])
    head = normed.shape[0] if normed is not None else _SD3_HEAD
    width, context = _shape(tensors, "context_embedder.weight")
    dual = {int(found[1]) for name in tensors if (found := re.match(names["dual"], name))}
    places = _shape(tensors, names["places"])[-2]
    return {
        "sample_size": 128,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": _shape(tensors, names["out"])[0] // patch**2,
        "num_layers": _count(tensors, names["blocks"]),
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": context,
        "caption_projection_dim": width,
        "pooled_projection_dim": _shape(tensors, names["pooled"])[1],
        "pos_embed_max_size": math.isqrt(places),
        "dual_attention_layers": sorted(dual),
        "qk_norm": None if normed is None else "rms_norm",
    }


def _sd3_sai(tensors: Shapes) -> dict[str, Any]:
    return _sd3(
        tensors,
        {
            "patch": "x_embedder.proj.weight",
            "norm": "joint_blocks.0.x_block.attn.ln_q.weight",
            "dual": r"joint_blocks\.(\d+)\.x_block\.attn2\.",
            "places": "pos_embed",
            "out": "final_layer.linear.weight",
            "blocks": r"joint_blocks\.(\d+)\.",
            "pooled": "y_embedder.mlp.0.weight",
        },
    )


def _sd3_diffusers(tensors: Shapes) -> dict[str, Any]:
    return _sd3(
        tensors,
        {
            "patch": "pos_embed.proj.weight",
            "norm": "transformer_blocks.0.attn.norm_q.weight",
            "dual": r"transformer_blocks\.(\d+)\.attn2\.",
            "places": "pos_embed.pos_embed",
            "out": "proj_out.weight",
            "blocks": r"transformer_blocks\.(\d+)\.",
            "pooled": "time_text_embed.text_embedder.linear_1.weight",
        },
    )


_CONFIGS: dict[tuple[str, str], Callable[[Shapes], dict[str, Any]]] = {
    ("flux", "bfl"): _flux_bfl,
    ("flux", "diffusers"): _flux_diffusers,
    ("sd3", "sai"): _sd3_sai,
    ("sd3", "diffusers"): _sd3_diffusers,
}


def _count(tensors: Shapes, pattern: str) -> int:
    return 1 + max((int(found[1]) for name in tensors if (found := re.match(pattern, name))), default=-1)


def _shape(tensors: Shapes, name: str) -> tuple[int, ...]:
    info = tensors.get(name)
    if info is None:
        raise BadFileError(
            "a transformer's file is incomplete: a tensor that each of its kind has is not there",
            value=name,
            next_step="download the file again",
        )
    return info.shape


def t5_config(tensors: Shapes) -> dict[str, Any]:
    """The config of a `T5EncoderModel` in transformers' names.

    Args:
        tensors: Of the encoder, without their prefix.

    Raises:
        BadFileError: A tensor that every such network has is missing.
        UnsupportedError: It is in llama.cpp's names.
    """
    if "token_embd.weight" in tensors:
        raise UnsupportedError(
            "this T5 is a GGUF file of llama.cpp, which is not read yet",
            value="token_embd.weight",
            allowed="a .safetensors file of T5-XXL",
            next_step="put t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors into models/text_encoders",
        )
    words = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
    vocabulary, width = _shape(tensors, words)
    first = "encoder.block.0.layer."
    buckets, heads = _shape(tensors, f"{first}0.SelfAttention.relative_attention_bias.weight")
    gated = f"{first}1.DenseReluDense.wi_0.weight" in tensors
    inner = _shape(tensors, f"{first}1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight")[0]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": _shape(tensors, f"{first}0.SelfAttention.q.weight")[0] // heads,
        "d_ff": inner,
        "num_layers": _count(tensors, r"encoder\.block\.(\d+)\."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
    }
