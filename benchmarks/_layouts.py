"""Headers with the published layouts' tensor names and shapes, and sparse files of them: full size, no weights.

The names are those of CompVis LDM (SD 1.x, 2.x, SDXL), kohya's LoRA trainer, and CLIP in transformers and OpenCLIP.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I64": 8}


@dataclass(frozen=True)
class Unet:
    """A UNet of LDM's kind.

    Attributes:
        channels: Of the first level.
        levels: (multiple of the channels, transformer blocks) of each level.
        middle: Transformer blocks in the middle.
        context: Width of text states.
        entry: Channels that come in.
        pooled: Width of the pooled text and sizes; 0 for none.
        flat: Whether proj_in is a matrix (SD 2 and SDXL) or a convolution (SD 1).
    """

    channels: int
    levels: tuple[tuple[int, int], ...]
    middle: int
    context: int
    entry: int = 4
    pooled: int = 0
    flat: bool = True


SD1 = Unet(320, ((1, 1), (2, 1), (4, 1), (4, 0)), 1, 768, flat=False)
SD2 = Unet(320, ((1, 1), (2, 1), (4, 1), (4, 0)), 1, 1024)
SDXL = Unet(320, ((1, 0), (2, 2), (4, 10)), 10, 2048, pooled=2816)
SDXL_REFINER = Unet(384, ((1, 0), (2, 4), (4, 4), (4, 0)), 4, 1280, pooled=2560)


def _linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def _conv(name: str, out: int, into: int, kernel: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, kernel, kernel), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _res(name: str, into: int, out: int, time: int) -> Shapes:
    shapes = _norm(f"{name}.in_layers.0", into) | _conv(f"{name}.in_layers.2", out, into)
    shapes |= _linear(f"{name}.emb_layers.1", out, time)
    shapes |= _norm(f"{name}.out_layers.0", out) | _conv(f"{name}.out_layers.3", out, out)
    return shapes if into == out else shapes | _conv(f"{name}.skip_connection", out, into, 1)


def _transformer(name: str, width: int, depth: int, unet: Unet) -> Shapes:
    project = _linear if unet.flat else (lambda where, out, into: _conv(where, out, into, 1))
    shapes = _norm(f"{name}.norm", width) | project(f"{name}.proj_in", width, width)
    for index in range(depth):
        block = f"{name}.transformer_blocks.{index}"
        for attention, reads in (("attn1", width), ("attn2", unet.context)):
            shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_k", width, reads, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_v", width, reads, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= _linear(f"{block}.ff.net.0.proj", 8 * width, width) | _linear(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            shapes |= _norm(f"{block}.norm{number}", width)
    return shapes | project(f"{name}.proj_out", width, width)


def ldm_unet(unet: Unet, prefix: str = "model.diffusion_model.") -> Shapes:
    """Every tensor of a UNet in LDM's names."""
    time = 4 * unet.channels
    shapes = _linear("time_embed.0", time, unet.channels) | _linear("time_embed.2", time, time)
    if unet.pooled:
        shapes |= _linear("label_emb.0.0", time, unet.pooled) | _linear("label_emb.0.2", time, time)
    shapes |= _conv("input_blocks.0.0", unet.channels, unet.entry)
    skips, width, index = [unet.channels], unet.channels, 1
    for level, (multiple, depth) in enumerate(unet.levels):
        out = unet.channels * multiple
        for _ in range(2):
            shapes |= _res(f"input_blocks.{index}.0", width, out, time)
            shapes |= _transformer(f"input_blocks.{index}.1", out, depth, unet) if depth else {}
            width, index = out, index + 1
            skips.append(width)
        if level + 1 < len(unet.levels):
            shapes |= _conv(f"input_blocks.{index}.0.op", width, width)
            index += 1
            skips.append(width)
    shapes |= _res("middle_block.0", width, width, time) | _transformer("middle_block.1", width, unet.middle, unet)
    shapes |= _res("middle_block.2", width, width, time)
    index = 0
    for level, (multiple, depth) in reversed(list(enumerate(unet.levels))):
        out = unet.channels * multiple
        for number in range(3):
            shapes |= _res(f"output_blocks.{index}.0", width + skips.pop(), out, time)
            shapes |= _transformer(f"output_blocks.{index}.1", out, depth, unet) if depth else {}
            width = out
            if number == 2 and level:
                shapes |= _conv(f"output_blocks.{index}.{2 if depth else 1}.conv", width, width)
            index += 1
    shapes |= _norm("out.0", unet.channels) | _conv("out.2", 4, unet.channels)
    return {prefix + name: shape for name, shape in shapes.items()}


def clip_text(width: int, layers: int, prefix: str) -> Shapes:
    """A CLIP text tower in transformers' names."""
    shapes: Shapes = {
        "embeddings.position_ids": (1, 77),
        "embeddings.token_embedding.weight": (49408, width),
        "embeddings.position_embedding.weight": (77, width),
    }
    for layer in range(layers):
        block = f"encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{block}.self_attn.{part}", width, width)
        shapes |= _norm(f"{block}.layer_norm1", width) | _norm(f"{block}.layer_norm2", width)
        shapes |= _linear(f"{block}.mlp.fc1", 4 * width, width) | _linear(f"{block}.mlp.fc2", width, 4 * width)
    shapes |= _norm("final_layer_norm", width)
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def open_clip_text(width: int, layers: int, prefix: str) -> Shapes:
    """A CLIP text tower in OpenCLIP's names."""
    shapes: Shapes = {
        "positional_embedding": (77, width),
        "token_embedding.weight": (49408, width),
        "text_projection": (width, width),
        "logit_scale": (),
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= _norm(f"{block}.ln_1", width) | _norm(f"{block}.ln_2", width)
        shapes |= _linear(f"{block}.mlp.c_fc", 4 * width, width) | _linear(f"{block}.mlp.c_proj", width, 4 * width)
    shapes |= _norm("ln_final", width)
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def ldm_vae(prefix: str = "first_stage_model.", latents: int = 4, quantized: bool = True) -> Shapes:
    """The KL autoencoder of SD and, with 16 latent channels, of SD3 and FLUX."""
    double = 2 * latents
    shapes = _conv("encoder.conv_in", 128, 3) | _conv("encoder.conv_out", double, 512)
    shapes |= _conv("decoder.conv_in", 512, latents) | _conv("decoder.conv_out", 3, 128)
    for half, name, blocks in (("encoder", "down", 2), ("decoder", "up", 3)):
        for level, width in enumerate((128, 256, 512, 512)):
            for block in range(blocks):
                where = f"{half}.{name}.{level}.block.{block}"
                shapes |= _norm(f"{where}.norm1", width) | _conv(f"{where}.conv1", width, width)
                shapes |= _norm(f"{where}.norm2", width) | _conv(f"{where}.conv2", width, width)
        for part in ("q", "k", "v", "proj_out"):
            shapes |= _conv(f"{half}.mid.attn_1.{part}", 512, 512, 1)
        shapes |= _norm(f"{half}.norm_out", 128 if half == "decoder" else 512)
    if quantized:
        shapes |= _conv("quant_conv", double, double, 1) | _conv("post_quant_conv", latents, latents, 1)
    return {prefix + name: shape for name, shape in shapes.items()}


def sd1_checkpoint(unet: Unet = SD1) -> Shapes:
    """Stable Diffusion 1.x in one file."""
    text = clip_text(768, 12, "cond_stage_model.transformer.text_model.")
    return ldm_unet(unet) | ldm_vae() | text | {"alphas_cumprod": (1000,)}


def sd2_checkpoint(unet: Unet = SD2) -> Shapes:
    """Stable Diffusion 2.x in one file."""
    return ldm_unet(unet) | ldm_vae() | open_clip_text(1024, 23, "cond_stage_model.model.")


def sdxl_checkpoint(unet: Unet = SDXL) -> Shapes:
    """SDXL in one file."""
    first = clip_text(768, 12, "conditioner.embedders.0.transformer.text_model.")
    return ldm_unet(unet) | ldm_vae() | first | open_clip_text(1280, 32, "conditioner.embedders.1.model.")


# --- LoRA ----------------------------------------------------------------------------------------------------------
_DIFFUSERS_PLACES = {
    **{
        f"input_blocks.{3 * level + 1 + i}.1": f"down_blocks.{level}.attentions.{i}"
        for level in range(3)
        for i in (0, 1)
    },
    "middle_block.1": "mid_block.attentions.0",
    **{
        f"output_blocks.{3 * level + i}.1": f"up_blocks.{level}.attentions.{i}" for level in (1, 2, 3) for i in range(3)
    },
}


def linears(unet: Unet, diffusers: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(module, shape) of everything that LoRA trainers change in a UNet, by LDM's or (SD 1, 2) diffusers' names."""
    for name, shape in ldm_unet(unet, "").items():
        place = re.match(r"((?:input_blocks|output_blocks)\.\d+\.1|middle_block\.1)\.(.+)\.weight$", name)
        if place and place[2] != "conv" and len(shape) >= 2:
            where = _DIFFUSERS_PLACES[place[1]] if diffusers else place[1]
            yield f"{where}.{place[2]}", shape


def _clip_linears(width: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in clip_text(width, layers, "text_model.").items():
        if len(shape) == 2 and "encoder.layers" in name:
            yield name.removesuffix(".weight"), shape


def lora_modules(unet: Unet, *, xl: bool = False) -> dict[str, tuple[int, ...]]:
    """Module names as kohya has them, with the shapes of what they change."""
    modules = {f"lora_unet_{name.replace('.', '_')}": shape for name, shape in linears(unet, diffusers=not xl)}
    towers = (("lora_te1_", 768, 12), ("lora_te2_", 1280, 32)) if xl else (("lora_te_", unet.context, 12),)
    for prefix, width, layers in towers:
        modules |= {prefix + name.replace(".", "_"): shape for name, shape in _clip_linears(width, layers)}
    return modules


def kohya_lora(modules: Mapping[str, tuple[int, ...]], rank: int = 8) -> Shapes:
    """A LoRA of these modules."""
    shapes: Shapes = {}
    for name, (out, into, *kernel) in modules.items():
        shapes[f"{name}.alpha"] = ()
        shapes[f"{name}.lora_down.weight"] = (rank, into, *kernel)
        shapes[f"{name}.lora_up.weight"] = (out, rank, *(1 for _ in kernel))
    return shapes


# --- files ---------------------------------------------------------------------------------------------------------
def header_bytes(shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "F16") -> tuple[bytes, int]:
    """(a safetensors header with its length in front, bytes of the whole file)."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * _BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end


def write_sparse(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None, dtype: str = "F16") -> Path:
    """A safetensors file whose header is true and whose weights are a hole: full size, next to no disk."""
    header, size = header_bytes(shapes, metadata, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    return path
