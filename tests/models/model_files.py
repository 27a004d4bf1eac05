"""Model files for tests: headers with the published layouts' names and shapes, and GGUF."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import _layouts as layouts  # noqa: E402
from danqing.models.identity import identify_header  # noqa: E402
from danqing.spec.files import Header, TensorInfo  # noqa: E402


def told(shapes, metadata=None, name="file.safetensors", form="safetensors", dtype="float16"):
    """What a header of these shapes is taken for."""
    tensors = {key: TensorInfo(dtype, tuple(shape)) for key, shape in shapes.items()}
    return identify_header(Header(form, tensors, metadata or {}), name)


def under(prefix, shapes):
    return {prefix + name: shape for name, shape in shapes.items()}


def gguf_bytes(tensors, metadata=()):
    """A GGUF file, version 3: tensors name → (sides outermost first, type number); metadata (key, text)."""

    def text(word):
        data = word.encode()
        return struct.pack("<Q", len(data)) + data

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, word in metadata:
        out += text(key) + struct.pack("<I", 8) + text(word)
    for name, (sides, kind) in tensors.items():
        out += text(name) + struct.pack("<I", len(sides))
        out += b"".join(struct.pack("<Q", side) for side in reversed(sides)) + struct.pack("<IQ", kind, 0)
    return out + bytes(64)


# --- layouts that are short to write down -------------------------------------------------------------------------
def flux(entry=64, *, guided=True):
    shapes = {
        "img_in.weight": (3072, entry),
        "txt_in.weight": (3072, 4096),
        "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
        "double_blocks.18.img_attn.qkv.weight": (9216, 3072),
        "single_blocks.0.norm.key_norm.scale": (128,),
        "final_layer.linear.weight": (64, 3072),
    }
    return shapes | ({"guidance_in.in_layer.weight": (3072, 256)} if guided else {})


def flux_diffusers(entry=64, *, guided=True):
    shapes = {
        "x_embedder.weight": (3072, entry),
        "context_embedder.weight": (3072, 4096),
        "time_text_embed.timestep_embedder.linear_1.weight": (3072, 256),
        "transformer_blocks.0.attn.add_q_proj.weight": (3072, 3072),
        "single_transformer_blocks.0.proj_mlp.weight": (12288, 3072),
    }
    return shapes | ({"time_text_embed.guidance_embedder.linear_1.weight": (3072, 256)} if guided else {})


def sd3(width=1536, *, normed=False, dual=False):
    shapes = {
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "pos_embed": (1, 36864, width),
        "context_embedder.weight": (width, 4096),
        "joint_blocks.0.context_block.adaLN_modulation.1.weight": (6 * width, width),
        "joint_blocks.0.x_block.attn.qkv.weight": (3 * width, width),
    }
    shapes |= {"joint_blocks.0.x_block.attn.ln_q.weight": (64,)} if normed else {}
    return shapes | ({"joint_blocks.0.x_block.attn2.qkv.weight": (3 * width, width)} if dual else {})


def sd3_diffusers():
    return {
        "pos_embed.proj.weight": (1536, 16, 2, 2),
        "context_embedder.weight": (1536, 4096),
        "transformer_blocks.0.attn.add_q_proj.weight": (1536, 1536),
        "transformer_blocks.0.attn.to_q.weight": (1536, 1536),
    }


def pixart(*, sized):
    shapes = {
        "x_embedder.proj.weight": (1152, 4, 2, 2),
        "y_embedder.y_proj.fc1.weight": (1152, 4096),
        "blocks.0.cross_attn.q_linear.weight": (1152, 1152),
        "final_layer.linear.weight": (32, 1152),
    }
    return shapes | ({"csize_embedder.mlp.0.weight": (384, 256)} if sized else {})


def pixart_diffusers():
    return {
        "pos_embed.proj.weight": (1152, 4, 2, 2),
        "adaln_single.linear.weight": (6912, 1152),
        "caption_projection.linear_1.weight": (1152, 4096),
        "transformer_blocks.0.attn2.to_k.weight": (1152, 1152),
    }


def sana():
    return {
        "x_embedder.proj.weight": (2240, 32, 1, 1),
        "attention_y_norm.weight": (2240,),
        "y_embedder.y_proj.fc1.weight": (2240, 2304),
        "blocks.0.cross_attn.q_linear.weight": (2240, 2240),
        "blocks.0.mlp.inverted_conv.conv.weight": (11200, 2240, 1, 1),
    }


def sana_diffusers():
    return {
        "patch_embed.proj.weight": (2240, 32, 1, 1),
        "caption_norm.weight": (2240,),
        "caption_projection.linear_1.weight": (2240, 2304),
    }


def qwen(**more):
    shapes = {
        "img_in.weight": (3072, 64),
        "txt_in.weight": (3072, 3584),
        "txt_norm.weight": (3584,),
        "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
        "transformer_blocks.0.txt_mod.1.weight": (18432, 3072),
    }
    return shapes | more


def z_image(width=3840):
    return {
        "x_embedder.weight": (width, 64),
        "cap_embedder.0.weight": (2560,),
        "cap_embedder.1.weight": (width, 2560),
        "noise_refiner.0.attention.qkv.weight": (3 * width, width),
        "layers.0.adaLN_modulation.0.weight": (15360, 256),
    }


def controlnet_ldm(unet=layouts.SD1, hint=3):
    """lllyasviel's ControlNet: the encoder half of the UNet, a hint block, zero convolutions."""
    half = {key: shape for key, shape in layouts.ldm_unet(unet, "").items() if not key.startswith(("output", "out."))}
    more = {"input_hint_block.0.weight": (16, hint, 3, 3), "zero_convs.0.0.weight": (320, 320, 1, 1)}
    return half | more


def controlnet_diffusers(context=768, **more):
    shapes = {
        "conv_in.weight": (320, 4, 3, 3),
        "time_embedding.linear_1.weight": (1280, 320),
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "controlnet_down_blocks.0.weight": (320, 320, 1, 1),
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, context),
    }
    return shapes | more


def ip_adapter(context=768, projection=None):
    projection = projection or {"proj.weight": (4 * context, 1024), "norm.weight": (context,)}
    return under("image_proj.", projection) | {"ip_adapter.1.to_k_ip.weight": (320, context)}


def motion(*, frames=24, middle=False, levels=4, extra=()):
    where = "motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
    names = [f"down_blocks.{level}.{where}" for level in range(levels)]
    names += ["mid_block.motion_modules.0.temporal_transformer.norm.bias"] if middle else []
    return dict.fromkeys(names, (1, frames, 320)) | dict.fromkeys(extra, (4, 320))


def lycoris(**tails):
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    return {f"{module}.{name}": shape for name, shape in tails.items()} | {f"{module}.alpha": ()}
