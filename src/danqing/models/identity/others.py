"""Upscalers, face restorers, annotators and motion modules, by tables of their published names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from danqing.models.identity.evidence import Evidence, Rule, known
from danqing.spec.files import FileIdentity, FileKind

Scale = Callable[[Evidence], int | None]


@dataclass(frozen=True)
class Network:
    """A published network.

    Attributes:
        kind: What it is for.
        variant: Its architecture or what it finds.
        marks: Tensors that are all there.
        scale: Tells how many times it enlarges, where it does.
    """

    kind: FileKind
    variant: str
    marks: tuple[str, ...]
    scale: Scale | None = None


def _shuffled(entry: str, channels: int = 3) -> Scale:
    """The scale of a network that ends in one pixel shuffle: √(channels out / colours)."""

    def scale(names: Evidence) -> int | None:
        out = names.side(entry, 0)
        return math.isqrt(out // channels) if out else None

    return scale


def _new_esrgan(names: Evidence) -> int | None:
    gathered = {12: 2, 48: 4}.get(names.side("conv_first.weight", 1) or 3, 1)
    ups = sum(names.has(f"conv_up{number}.weight") for number in (1, 2, 3))
    return max(1, 2**ups // gathered)


def _old_esrgan(names: Evidence) -> int | None:
    """`model.0`, `model.1.sub`, then one numbered convolution per doubling, then two."""
    numbers = sorted({int(m[1]) for m in (re.match(r"model\.(\d+)\.weight$", name) for name in names.tensors) if m})
    return 2 ** (len(numbers) - 3) if len(numbers) >= 3 else None


def _compact(names: Evidence) -> int | None:
    last = max((int(m[1]) for m in (re.match(r"body\.(\d+)\.bias$", name) for name in names.tensors) if m), default=0)
    return _shuffled(f"body.{last}.weight")(names)


def _residual_scale(names: Evidence) -> int | None:
    """SwinIR and its kin: pixel shuffles by 2 in `upsample.N`, or one at the end."""
    steps = [names.shape(name) for name in names.tensors if re.match(r"upsample\.\d+\.weight$", name)]
    scale = 1
    for shape in steps:
        if len(shape) == 4 and shape[0] % max(1, shape[1]) == 0:
            scale *= math.isqrt(shape[0] // max(1, shape[1])) or 1
    if len(steps) == 1 and len(steps[0]) == 4 and steps[0][0] < steps[0][1]:
        return math.isqrt(steps[0][0] // 3)
    return scale if steps else None


_BODY = "layers.0.residual_group.blocks.0."
_NETWORKS: tuple[Network, ...] = (
    # Face restorers first: CodeFormer and RestoreFormer have an autoencoder inside.
    Network("face_restorer", "gfpgan", ("stylegan_decoder.style_mlp.1.weight",)),
    Network("face_restorer", "gfpgan-bilinear", ("stylegan_decoderdotstyle_mlpdot1dotweight",)),
    Network("face_restorer", "codeformer", ("position_emb", "quantize.embedding.weight", "ft_layers.0.linear1.weight")),
    Network("face_restorer", "restoreformer", ("quantize.embedding.weight", "encoder.conv_in.weight")),
    Network("face_restorer", "gpen", ("generator.style.1.weight", "ecd0.0.0.kernel")),
    Network("upscaler", "esrgan", ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), _old_esrgan),
    Network("upscaler", "esrgan+", ("model.0.weight", "model.1.sub.0.RDB1.conv1x1.weight"), _old_esrgan),
    Network("upscaler", "real-esrgan", ("conv_first.weight", "body.0.rdb1.conv1.weight"), _new_esrgan),
    Network("upscaler", "bsrgan", ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight")),
    Network("upscaler", "hat", (f"{_BODY}conv_block.cab.0.weight",), _residual_scale),
    Network("upscaler", "atd", ("layers.0.residual_group.td",), _residual_scale),
    Network("upscaler", "swin2sr", (f"{_BODY}norm1.weight", "patch_embed.proj.weight"), _residual_scale),
    Network("upscaler", "swinir", (f"{_BODY}norm1.weight", f"{_BODY}mlp.fc1.bias"), _residual_scale),
    Network("upscaler", "drct", ("layers.0.swin1.norm1.weight", "layers.0.adjust1.weight"), _residual_scale),
    Network("upscaler", "dat", ("before_RG.1.weight", "layers.0.blocks.0.ffn.sg.norm.weight"), _residual_scale),
    Network("upscaler", "rgt", ("before_RG.1.weight", "layers.0.blocks.0.gamma"), _residual_scale),
    Network("upscaler", "span", ("conv_1.sk.weight", "block_1.c1_r.sk.weight"), _shuffled("upsampler.0.weight")),
    Network("upscaler", "omnisr", ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight",), _shuffled("up.0.weight")),
    Network("upscaler", "realcugan", ("unet1.conv1.conv.0.weight", "unet2.conv_bottom.weight")),
    Network("upscaler", "plksr", ("feats.0.weight", "feats.1.refine.weight")),
    Network("upscaler", "safmn", ("to_feat.weight", "feats.0.safm.aggr.weight"), _shuffled("to_img.0.weight")),
    Network("upscaler", "aura-sr", ("mid_attn.layers.0.0.to_out.weight", "final_res_block.block1.proj.weights")),
    Network("upscaler", "scunet", ("m_head.0.weight", "m_tail.0.weight")),
    Network("upscaler", "lama (inpainting)", ("generator.model.1.bn_l.running_mean",)),
    Network("upscaler", "lama (inpainting)", ("model.model.1.bn_l.running_mean",)),
    Network("upscaler", "real-esrgan compact", ("body.0.weight", "body.1.weight", "body.2.weight"), _compact),
    Network("annotator", "hed", ("norm", "block1.convs.0.weight", "block1.projection.weight")),
    Network("annotator", "hed", ("netVggOne.0.weight", "netScoreOne.weight")),
    Network("annotator", "hed", ("moduleVggOne.0.weight", "moduleScoreOne.weight")),
    Network("annotator", "pidinet", ("init_block.weight", "block1_1.conv1.weight")),
    Network("annotator", "teed", ("block_cat.DWconv1.weight",)),
    Network("annotator", "mlsd", ("backbone.features.0.0.weight", "block16.conv3.weight")),
    Network("annotator", "mlsd", ("backbone.features.0.0.weight", "block23.conv3.weight")),
    Network("annotator", "lineart", ("model0.1.weight", "model2.0.conv_block.1.weight", "model4.1.weight")),
    Network("annotator", "lineart anime", ("model.model.0.weight", "model.model.1.model.1.weight")),
    Network("annotator", "depth anything", ("pretrained.cls_token", "depth_head.projects.0.weight")),
    Network("annotator", "zoedepth", ("core.core.pretrained.model.cls_token",)),
    Network("annotator", "midas", ("pretrained.model.cls_token", "scratch.refinenet1.out_conv.weight")),
    Network("annotator", "midas", ("pretrained.layer1.0.weight", "scratch.refinenet1.out_conv.weight")),
    Network("annotator", "leres", ("depth_model.encoder_modules.encoder.conv1.weight",)),
    Network("annotator", "normalbae", ("encoder.original_model.conv_stem.weight", "decoder.conv2.weight")),
    Network(
        "annotator", "uniformer segmentation", ("backbone.patch_embed1.proj.weight", "decode_head.conv_seg.weight")
    ),
    Network(
        "annotator", "oneformer", ("backbone.patch_embed.proj.weight", "sem_seg_head.predictor.class_embed.weight")
    ),
    Network("annotator", "openpose body", ("conv1_1.weight", "Mconv1_stage2_L1.weight")),
    Network("annotator", "openpose body", ("model0.conv1_1.weight", "model1_1.conv5_1_CPM_L1.weight")),
    Network("annotator", "openpose hand", ("conv1_1.weight", "conv6_1_CPM.weight", "Mconv7_stage6.weight")),
    Network("annotator", "openpose face", ("conv1_1.weight", "conv5_4_CPM.weight", "Mconv7_stage6.weight")),
    Network("annotator", "segment anything", ("image_encoder.pos_embed", "mask_decoder.iou_token.weight")),
    Network("annotator", "blip captions", ("visual_encoder.cls_token", "text_decoder.cls.predictions.bias")),
    Network("annotator", "deepdanbooru", ("n_Conv_0.weight", "n_Conv_178.weight")),
    Network("annotator", "face detection", ("BboxHead.0.conv1x1.weight", "fpn.output1.0.weight")),
    Network("annotator", "face parsing", ("encoder.0.conv2d.weight", "out_mask_conv.conv2d.weight")),
)


def detect_network(names: Evidence) -> FileIdentity | None:
    """The published network whose marks are all there."""
    found = next((one for one in _NETWORKS if names.has(*one.marks)), None)
    if found is None:
        return None
    facts = known(scale=found.scale(names) if found.scale is not None else None)
    return FileIdentity(kind=found.kind, variant=found.variant, facts=facts, why=" and ".join(found.marks[:2]))


def detect_motion(names: Evidence) -> FileIdentity | None:
    """AnimateDiff's motion modules and their LoRAs."""
    if "motion_modules." not in names.joined or names.has("controlnet_down_blocks.0.weight"):
        return None
    if names.has("input_blocks.0.0.weight") or names.has("model.diffusion_model.input_blocks.0.0.weight"):
        return None
    table = names.first("pos_encoder.pe") or ""
    frames = names.side(table, 1)
    if names.first("lora"):
        variant = "lora"
    elif not names.starts("down_blocks.3."):
        variant = "sdxl"
    elif names.starts("mid_block.motion_modules."):
        variant = "v2"
    else:
        variant = "v1" if frames == 24 else "v3"
    family = "sdxl" if variant == "sdxl" else "sd1"
    return FileIdentity(
        kind="motion_module",
        family=family,
        variant=variant,
        layout="animatediff",
        facts=known(frames=frames),
        why="motion_modules",
    )


MOTION = (Rule("motion module", detect_motion),)
RULES = (Rule("upscalers, face restorers, annotators", detect_network),)
