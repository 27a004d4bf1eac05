"""One row per format: real tensor names and shapes of the published layouts, and what they must be taken for."""

from __future__ import annotations

import pytest
from model_files import (
    controlnet_diffusers,
    controlnet_ldm,
    flux,
    flux_diffusers,
    ip_adapter,
    layouts,
    lycoris,
    motion,
    pixart,
    pixart_diffusers,
    qwen,
    sana,
    sana_diffusers,
    sd3,
    sd3_diffusers,
    told,
    under,
    z_image,
)

from danqing.models.identity import RULES, identify
from testdata import TESTDATA

LDM = "model.diffusion_model."
SD1_TEXT = layouts.clip_text(768, 12, "cond_stage_model.transformer.text_model.")
K = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
P = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
XL_K = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


def unet(base=layouts.SD1, **changes):
    return layouts.Unet(**{**vars(base), **changes})


def pair(name, width=768, rank=8, out=640, down="lora_down.weight", up="lora_up.weight"):
    return {f"{name}.{down}": (rank, width), f"{name}.{up}": (out, rank)}


# (row of docs/formats.md, shapes, file name, kind, family, variant, layout)
ROWS = [
    ("SD 1.x checkpoint", layouts.sd1_checkpoint(), "", "checkpoint", "sd1", "base", "ldm"),
    ("SD 1.x inpainting", layouts.sd1_checkpoint(unet(entry=9)), "", "checkpoint", "sd1", "inpaint", "ldm"),
    ("SD 1.x instruct-pix2pix", layouts.sd1_checkpoint(unet(entry=8)), "", "checkpoint", "sd1", "edit", "ldm"),
    ("SD 2.x checkpoint", layouts.sd2_checkpoint(), "", "checkpoint", "sd2", "base", "ldm"),
    (
        "SD 2.x inpainting",
        layouts.sd2_checkpoint(unet(layouts.SD2, entry=9)),
        "",
        "checkpoint",
        "sd2",
        "inpaint",
        "ldm",
    ),
    ("SD 2.x depth", layouts.sd2_checkpoint(unet(layouts.SD2, entry=5)), "", "checkpoint", "sd2", "depth", "ldm"),
    ("SD 2.x unCLIP", layouts.sd2_checkpoint(unet(layouts.SD2, pooled=2048)), "", "checkpoint", "sd2", "unclip", "ldm"),
    ("SDXL base", layouts.sdxl_checkpoint(), "", "checkpoint", "sdxl", "base", "ldm"),
    (
        "SDXL inpainting",
        layouts.sdxl_checkpoint(unet(layouts.SDXL, entry=9)),
        "",
        "checkpoint",
        "sdxl",
        "inpaint",
        "ldm",
    ),
    ("SDXL edit", layouts.sdxl_checkpoint(unet(layouts.SDXL, entry=8)), "", "checkpoint", "sdxl", "edit", "ldm"),
    (
        "SDXL refiner",
        layouts.ldm_unet(layouts.SDXL_REFINER) | layouts.ldm_vae(),
        "",
        "checkpoint",
        "sdxl",
        "refiner",
        "ldm",
    ),
    ("UNet, LDM names, bare", layouts.ldm_unet(layouts.SD1, ""), "", "denoiser", "sd1", "base", "ldm"),
    (
        "UNet, diffusers names",
        {
            "conv_in.weight": (320, 4, 3, 3),
            "time_embedding.linear_1.weight": (1280, 320),
            "conv_norm_out.weight": (320,),
            "add_embedding.linear_1.weight": (1280, 2816),
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
        },
        "",
        "denoiser",
        "sdxl",
        "base",
        "diffusers",
    ),
    (
        "SD 3 medium",
        under(LDM, sd3()) | layouts.ldm_vae(latents=16, quantized=False),
        "",
        "checkpoint",
        "sd3",
        "3-medium",
        "sai",
    ),
    ("SD 3.5 medium", under(LDM, sd3(normed=True, dual=True)), "", "denoiser", "sd3", "3.5-medium", "sai"),
    ("SD 3.5 large", sd3(2432, normed=True), "", "denoiser", "sd3", "3.5-large", "sai"),
    ("SD 3, diffusers names", sd3_diffusers(), "", "denoiser", "sd3", "3-medium", "diffusers"),
    ("FLUX.1 dev", flux(), "", "denoiser", "flux", "dev", "bfl"),
    (
        "FLUX.1 dev in one file",
        under(LDM, flux()) | under("text_encoders.clip_l.", SD1_TEXT),
        "",
        "checkpoint",
        "flux",
        "dev",
        "bfl",
    ),
    ("FLUX.1 schnell", flux(guided=False), "", "denoiser", "flux", "schnell", "bfl"),
    ("FLUX.1 fill", flux(384), "", "denoiser", "flux", "fill", "bfl"),
    ("FLUX.1 depth, canny", flux(128), "flux1-depth-dev.safetensors", "denoiser", "flux", "depth", "bfl"),
    ("FLUX.1 kontext", flux(), "flux1-kontext-dev.safetensors", "denoiser", "flux", "kontext", "bfl"),
    ("FLUX.1, diffusers names", flux_diffusers(), "", "denoiser", "flux", "dev", "diffusers"),
    ("PixArt-α", pixart(sized=True), "", "denoiser", "pixart", "alpha", "pixart"),
    ("PixArt-Σ", pixart(sized=False), "", "denoiser", "pixart", "sigma", "pixart"),
    ("PixArt, diffusers names", pixart_diffusers(), "", "denoiser", "pixart", "sigma", "diffusers"),
    ("Sana", sana(), "", "denoiser", "sana", "base", "nvlabs"),
    ("Sana, diffusers names", sana_diffusers(), "", "denoiser", "sana", "base", "diffusers"),
    ("Qwen-Image", qwen(), "", "denoiser", "qwen_image", "base", "diffusers"),
    ("Qwen-Image-Edit", qwen(), "qwen_image_edit_fp8.safetensors", "denoiser", "qwen_image", "edit", "diffusers"),
    ("Z-Image", z_image(), "z_image_turbo.safetensors", "denoiser", "z_image", "turbo", "alpha-vllm"),
    ("Lumina 2 (named only)", z_image(2304), "", "denoiser", "lumina2", "base", "alpha-vllm"),
    ("VAE, LDM names", layouts.ldm_vae(""), "", "vae", None, "base", "ldm"),
    ("VAE, LDM names, below first_stage_model", layouts.ldm_vae(), "", "vae", None, "base", "ldm"),
    ("VAE of FLUX", layouts.ldm_vae("", 16, quantized=False), "ae.safetensors", "vae", "flux", "base", "ldm"),
    (
        "VAE, diffusers names",
        {
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "decoder.conv_in.weight": (512, 4, 3, 3),
            "decoder.conv_out.weight": (3, 128, 3, 3),
            "decoder.up_blocks.0.resnets.0.conv1.weight": (512, 512, 3, 3),
        },
        "sdxl_vae.safetensors",
        "vae",
        "sdxl",
        "base",
        "diffusers",
    ),
    (
        "VAE of Qwen-Image",
        {"decoder.middle.0.residual.0.gamma": (384,)},
        "qwen_image_vae.safetensors",
        "vae",
        "qwen_image",
        "base",
        "wan",
    ),
    (
        "TAESD decoder",
        {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3), "3.conv.2.weight": (64, 64, 3, 3)},
        "taesd_decoder.pth",
        "taesd",
        "sd1",
        "decoder",
        "madebyollin",
    ),
    (
        "TAESD, diffusers names",
        {
            "decoder.layers.1.weight": (64, 4, 3, 3),
            "decoder.layers.3.conv.0.weight": (64, 64, 3, 3),
            "decoder.layers.3.conv.2.weight": (64, 64, 3, 3),
            "encoder.layers.0.weight": (64, 3, 3, 3),
        },
        "taesdxl.safetensors",
        "taesd",
        "sdxl",
        "both",
        "diffusers",
    ),
    ("LoRA, kohya, SD 1", layouts.kohya_lora(layouts.lora_modules(layouts.SD1)), "", "lora", "sd1", "lora", "kohya"),
    ("LoRA, kohya, SD 2", layouts.kohya_lora(layouts.lora_modules(layouts.SD2)), "", "lora", "sd2", "lora", "kohya"),
    (
        "LoRA, kohya, SDXL",
        layouts.kohya_lora(layouts.lora_modules(layouts.SDXL, xl=True)),
        "",
        "lora",
        "sdxl",
        "lora",
        "kohya",
    ),
    ("LoRA, kohya, FLUX", pair("lora_unet_double_blocks_0_img_attn_qkv", 3072), "", "lora", "flux", "lora", "kohya"),
    ("LoRA, kohya, SD 3", pair("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536), "", "lora", "sd3", "lora", "kohya"),
    (
        "LoRA with convolutions (LoCon)",
        pair(K) | {"lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight": (8, 320, 3, 3)},
        "",
        "lora",
        "sd1",
        "locon",
        "kohya",
    ),
    ("LoRA, PEFT", pair(P, down="lora_A.weight", up="lora_B.weight"), "", "lora", "sd1", "lora", "peft"),
    ("LoRA, PEFT, SDXL", pair(P, 2048, down="lora_A.weight", up="lora_B.weight"), "", "lora", "sdxl", "lora", "peft"),
    (
        "LoRA, PEFT, FLUX",
        pair("transformer.single_transformer_blocks.0.attn.to_q", 3072, down="lora_A.weight", up="lora_B.weight"),
        "",
        "lora",
        "flux",
        "lora",
        "peft",
    ),
    (
        "LoRA, ComfyUI names, FLUX",
        pair("diffusion_model.double_blocks.0.img_attn.proj", 3072, down="lora_A.weight", up="lora_B.weight"),
        "",
        "lora",
        "flux",
        "lora",
        "comfyui",
    ),
    (
        "LoRA, ComfyUI names, Qwen-Image",
        pair("transformer_blocks.0.img_mlp.net.0.proj", 3072, down="lora_A.default.weight", up="lora_B.default.weight"),
        "",
        "lora",
        "qwen_image",
        "lora",
        "peft",
    ),
    (
        "LoRA, diffusers' first names",
        pair(
            "down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora",
            down="down.weight",
            up="up.weight",
        ),
        "",
        "lora",
        "sd1",
        "lora",
        "diffusers",
    ),
    (
        "LoRA bundle",
        pair(K) | {"bundle_emb.mytoken.string_to_param.*": (4, 768)},
        "",
        "lora",
        "sd1",
        "lora",
        "kohya",
    ),
    ("LoRA, cloneofsimo", {"unet:0:up": (320, 4), "unet:0:down": (4, 320)}, "", "lora", "sd1", "lora", "cloneofsimo"),
    (
        "LoHa",
        lycoris(hada_w1_a=(640, 4), hada_w1_b=(4, 768), hada_w2_a=(640, 4), hada_w2_b=(4, 768)),
        "",
        "lycoris",
        "sd1",
        "loha",
        "kohya",
    ),
    ("LoKr", lycoris(lokr_w1=(16, 16), lokr_w2_a=(40, 4), lokr_w2_b=(4, 48)), "", "lycoris", "sd1", "lokr", "kohya"),
    ("IA3", lycoris(weight=(640,), on_input=()), "", "lycoris", "sd1", "ia3", "kohya"),
    ("LyCORIS full", lycoris(diff=(640, 768)), "", "lycoris", "sd1", "full", "kohya"),
    ("LyCORIS norm", {"lora_unet_down_blocks_0_resnets_0_norm1.w_norm": (320,)}, "", "lycoris", None, "norm", "kohya"),
    ("OFT", lycoris(oft_blocks=(8, 80, 80)), "", "lycoris", "sd1", "oft", "kohya"),
    ("BOFT", lycoris(oft_blocks=(4, 8, 80, 80)), "", "lycoris", "sd1", "boft", "kohya"),
    (
        "Embedding, A1111",
        {"string_to_token.*": (), "string_to_param.*": (8, 768)},
        "",
        "embedding",
        "sd1",
        "base",
        "a1111",
    ),
    ("Embedding, emb_params", {"emb_params": (4, 1024)}, "", "embedding", "sd2", "base", "emb_params"),
    ("Embedding, {token: tensor}", {"<cat-toy>": (768,)}, "", "embedding", "sd1", "base", "token"),
    (
        "Embedding, SDXL",
        {"clip_l": (4, 768), "clip_g": (4, 1280)},
        "",
        "embedding",
        "sdxl",
        "multi-encoder",
        "clip_l/clip_g",
    ),
    (
        "ControlNet, LDM names",
        under("control_model.", controlnet_ldm()),
        "control_v11p_sd15_canny.pth",
        "controlnet",
        "sd1",
        "base",
        "ldm",
    ),
    ("ControlNet, LDM names, bare", controlnet_ldm(layouts.SD2), "", "controlnet", "sd2", "base", "ldm"),
    (
        "ControlNet, difference",
        under("control_model.", controlnet_ldm()) | {"difference": ()},
        "",
        "controlnet",
        "sd1",
        "difference",
        "ldm",
    ),
    ("ControlNet, diffusers names", controlnet_diffusers(), "", "controlnet", "sd1", "base", "diffusers"),
    ("ControlNet, SDXL", controlnet_diffusers(2048), "", "controlnet", "sdxl", "base", "diffusers"),
    (
        "ControlNet union, SDXL",
        controlnet_diffusers(2048, task_embedding=(6, 320), **{"control_add_embedding.linear_1.weight": (1280, 1536)}),
        "",
        "controlnet",
        "sdxl",
        "union",
        "diffusers",
    ),
    (
        "ControlNet, FLUX",
        {"controlnet_blocks.0.weight": (3072, 3072), "controlnet_x_embedder.weight": (3072, 64)},
        "",
        "controlnet",
        "flux",
        "base",
        "diffusers",
    ),
    (
        "ControlNet union, FLUX",
        {"controlnet_blocks.0.weight": (3072, 3072), "controlnet_mode_embedder.weight": (10, 3072)},
        "",
        "controlnet",
        "flux",
        "union",
        "diffusers",
    ),
    (
        "ControlNet, SD 3",
        {"controlnet_blocks.0.weight": (1536, 1536), "pos_embed_input.proj.weight": (1536, 16, 2, 2)},
        "",
        "controlnet",
        "sd3",
        "base",
        "diffusers",
    ),
    (
        "ControlNet-LLLite",
        {
            "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.conditioning1.0.weight": (32, 3, 4, 4),
            "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.down.0.weight": (64, 640),
        },
        "",
        "controlnet_lllite",
        "sdxl",
        "base",
        "kohya",
    ),
    (
        "Control-LoRA",
        {
            "lora_controlnet": (0,),
            "input_hint_block.0.weight": (16, 3, 3, 3),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.up": (640, 128),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (128, 2048),
        },
        "",
        "control_lora",
        "sdxl",
        "base",
        "sai",
    ),
    (
        "T2I-Adapter",
        {
            "conv_in.weight": (320, 192, 3, 3),
            "body.0.block1.weight": (320, 320, 3, 3),
            "body.0.block2.weight": (320, 320, 1, 1),
        },
        "t2iadapter_sketch_sd14v1.pth",
        "t2i_adapter",
        "sd1",
        "full",
        "tencentarc",
    ),
    (
        "T2I-Adapter, diffusers names",
        {"adapter.conv_in.weight": (320, 768, 3, 3), "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3)},
        "",
        "t2i_adapter",
        "sdxl",
        "full",
        "diffusers",
    ),
    ("IP-Adapter", ip_adapter(), "", "ip_adapter", "sd1", "base", "tencent-ailab"),
    ("IP-Adapter, SDXL", ip_adapter(2048), "", "ip_adapter", "sdxl", "base", "tencent-ailab"),
    (
        "IP-Adapter Plus",
        ip_adapter(768, {"latents": (1, 16, 768), "proj_in.weight": (768, 1280)}),
        "",
        "ip_adapter",
        "sd1",
        "plus",
        "tencent-ailab",
    ),
    (
        "IP-Adapter FaceID",
        ip_adapter(768, {"proj.0.weight": (1024, 512)}) | {"ip_adapter.0.to_q_lora.down.weight": (128, 320)},
        "",
        "ip_adapter",
        "sd1",
        "faceid",
        "tencent-ailab",
    ),
    (
        "Upscaler, ESRGAN",
        {
            "model.0.weight": (64, 3, 3, 3),
            "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3),
            "model.3.weight": (64, 64, 3, 3),
            "model.6.weight": (64, 64, 3, 3),
            "model.8.weight": (64, 64, 3, 3),
            "model.10.weight": (3, 64, 3, 3),
        },
        "",
        "upscaler",
        None,
        "esrgan",
        "",
    ),
    (
        "Upscaler, Real-ESRGAN",
        {
            "params_ema.conv_first.weight": (64, 3, 3, 3),
            "params_ema.body.0.rdb1.conv1.weight": (32, 64, 3, 3),
            "params_ema.conv_up1.weight": (64, 64, 3, 3),
            "params_ema.conv_up2.weight": (64, 64, 3, 3),
        },
        "",
        "upscaler",
        None,
        "real-esrgan",
        "",
    ),
    (
        "Upscaler, SwinIR",
        under(
            "params.",
            {
                "layers.0.residual_group.blocks.0.norm1.weight": (180,),
                "layers.0.residual_group.blocks.0.mlp.fc1.bias": (360,),
                "upsample.0.weight": (256, 64, 3, 3),
                "upsample.2.weight": (256, 64, 3, 3),
            },
        ),
        "",
        "upscaler",
        None,
        "swinir",
        "",
    ),
    (
        "GFPGAN",
        {"params_ema.stylegan_decoder.style_mlp.1.weight": (512, 512), "params_ema.toRGB.0.weight": (3, 512, 1, 1)},
        "",
        "face_restorer",
        None,
        "gfpgan",
        "",
    ),
    (
        "CodeFormer",
        {
            "params_ema.position_emb": (256, 512),
            "params_ema.quantize.embedding.weight": (1024, 256),
            "params_ema.ft_layers.0.linear1.weight": (1024, 512),
        },
        "",
        "face_restorer",
        None,
        "codeformer",
        "",
    ),
    (
        "RestoreFormer",
        {
            "quantize.embedding.weight": (1024, 256),
            "encoder.conv_in.weight": (64, 3, 3, 3),
            "decoder.conv_in.weight": (512, 256, 3, 3),
            "decoder.conv_out.weight": (3, 64, 3, 3),
            "decoder.up.0.block.0.conv1.weight": (64, 64, 3, 3),
        },
        "",
        "face_restorer",
        None,
        "restoreformer",
        "",
    ),
    (
        "Annotator, HED",
        {"norm": (1, 3, 1, 1), "block1.convs.0.weight": (64, 3, 3, 3), "block1.projection.weight": (1, 64, 1, 1)},
        "",
        "annotator",
        None,
        "hed",
        "",
    ),
    (
        "Annotator, PiDiNet",
        under("state_dict.module.", {"init_block.weight": (60, 3, 3, 3), "block1_1.conv1.weight": (60, 1, 3, 3)}),
        "",
        "annotator",
        None,
        "pidinet",
        "",
    ),
    (
        "Annotator, OpenPose",
        {"conv1_1.weight": (64, 3, 3, 3), "Mconv1_stage2_L1.weight": (128, 185, 7, 7)},
        "",
        "annotator",
        None,
        "openpose body",
        "",
    ),
    (
        "Annotator, Depth Anything",
        {"pretrained.cls_token": (1, 1, 384), "depth_head.projects.0.weight": (48, 384, 1, 1)},
        "",
        "annotator",
        None,
        "depth anything",
        "",
    ),
    ("Motion module v1", motion(), "", "motion_module", "sd1", "v1", "animatediff"),
    ("Motion module v2", motion(frames=32, middle=True), "", "motion_module", "sd1", "v2", "animatediff"),
    ("Motion module v3", motion(frames=32), "", "motion_module", "sd1", "v3", "animatediff"),
    ("Motion module, SDXL", motion(frames=32, levels=3), "", "motion_module", "sdxl", "sdxl", "animatediff"),
    (
        "Text encoder, CLIP-L",
        layouts.clip_text(768, 12, "text_model."),
        "",
        "text_encoder",
        None,
        "clip_l",
        "transformers",
    ),
    (
        "Text encoder, T5-XXL",
        {"shared.weight": (32128, 4096), "encoder.block.0.layer.0.SelfAttention.q.weight": (4096, 4096)},
        "",
        "text_encoder",
        None,
        "t5xxl",
        "transformers",
    ),
    (
        "Image encoder, CLIP",
        {"vision_model.embeddings.patch_embedding.weight": (1280, 3, 14, 14), "visual_projection.weight": (1024, 1280)},
        "",
        "image_encoder",
        None,
        "clip_h",
        "transformers",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_published_layout_is_known(row):
    _, shapes, name, kind, family, variant, layout = row

    identity = told(shapes, name=name or "some file.safetensors")

    assert (identity.kind, identity.family, identity.variant, identity.layout) == (kind, family, variant, layout)
    assert identity.why
    assert identity.precision == "float16"


def test_the_rows_are_all_different():
    assert len({row[0] for row in ROWS}) == len(ROWS)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_parts_of_a_checkpoint_are_told():
    whole = layouts.sd1_checkpoint() | {"model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3)}

    assert told(whole).parts == ("denoiser", "vae", "text_encoder", "ema")
    assert told(layouts.sdxl_checkpoint()).parts == ("denoiser", "vae", "text_encoder", "text_encoder_2")
    assert told(layouts.ldm_unet(layouts.SD1)).parts == ("denoiser",)
    refiner = layouts.ldm_unet(layouts.SDXL_REFINER) | layouts.open_clip_text(1280, 2, "conditioner.embedders.0.model.")
    assert told(refiner).parts == ("denoiser", "text_encoder_2")


def test_what_a_unet_answers_with_is_said_only_where_the_file_says_it():
    assert told(layouts.sd1_checkpoint()).prediction == "epsilon"
    second = told(layouts.sd2_checkpoint())
    assert second.prediction is None
    assert "cannot be told" in str(second.facts["prediction_from"])
    assert told(layouts.sd2_checkpoint(), {"modelspec.prediction_type": "v"}).prediction == "v_prediction"
    marked = told(layouts.sdxl_checkpoint() | {"v_pred": (0,), "ztsnr": (0,)})
    assert (marked.prediction, marked.facts["zero_terminal_snr"]) == ("v_prediction", True)
    assert told(flux()).prediction == "flow_prediction"


@pytest.mark.parametrize(("words", "prediction"), [("parameterization: v", "v_prediction"), ("eps", "epsilon")])
def test_a_config_beside_sd2_says_what_it_answers_with(tmp_path, words, prediction):
    path = layouts.write_sparse(tmp_path / "768.safetensors", layouts.sd2_checkpoint())
    inner = "    linear_start: 0.00085\n" + (f"    {words}\n" if ":" in words else "")
    (tmp_path / "768.yaml").write_text(f"model:\n  target: ldm.LatentDiffusion\n  params:\n{inner}", encoding="utf-8")

    identity = identify(path)

    assert identity.prediction == prediction
    assert identity.facts["prediction_from"] == "768.yaml"


def test_what_shapes_cannot_tell_is_said():
    assert "kontext" in str(told(flux()).facts["variant_from"])
    assert "same shapes" in str(told(layouts.ldm_vae("")).facts["family_from"])


def test_facts_of_adapters():
    lora = told(layouts.kohya_lora(layouts.lora_modules(layouts.SD1), rank=16))
    assert lora.facts["rank"] == 16
    assert lora.facts["context_width"] == 768
    assert lora.facts["targets"] == ("denoiser", "text_encoder")
    dora = told(pair(K) | {f"{K}.dora_scale": (1, 768)})
    assert dora.facts["dora"] is True
    bundle = told(pair(K) | {"bundle_emb.mytoken.string_to_param.*": (4, 768)})
    assert bundle.facts["tokens"] == ("mytoken",)
    assert told(controlnet_ldm(), name="control_v11p_sd15_lineart.pth").facts["control_type"] == "lineart"
    assert told(ip_adapter()).facts["tokens_per_picture"] == 4
    assert told(ROWS[[row[0] for row in ROWS].index("Upscaler, ESRGAN")][1]).facts["scale"] == 4
    assert told({"emb_params": (4, 768)}).facts["vectors"] == 4


def test_hypernetwork_says_its_structure():
    shapes = {}
    for width in (320, 640, 768, 1280):
        for side in (0, 1):
            shapes |= {
                f"{width}.{side}.linear.0.weight": (2 * width, width),
                f"{width}.{side}.linear.0.bias": (2 * width,),
                f"{width}.{side}.linear.2.weight": (width, 2 * width),
            }
    words = {"layer_structure": "[1, 2, 1]", "activation_func": "relu", "is_layer_norm": "False", "step": "5000"}

    identity = told(shapes, words, form="pickle")

    assert (identity.kind, identity.family, identity.layout) == ("hypernetwork", "sd1", "a1111")
    assert identity.facts["widths"] == (320, 640, 768, 1280)
    assert identity.facts["layer_structure"] == ("1", "2", "1")
    assert identity.facts["is_layer_norm"] is False
    assert told(shapes, form="pickle").facts["layer_structure"] == ("1", "2", "1")


def hypernetwork(*widths):
    return {f"{width}.{side}.linear.0.weight": (width, width) for width in widths for side in (0, 1)}


def test_a_hypernetwork_or_a_word_is_told_by_what_its_file_says_before_its_widths():
    own = {"sd_checkpoint_name": "danqing-mini", "sd_checkpoint": "d387ae8a97"}
    assert told(hypernetwork(192, 224, 256), own, form="pickle").family == "danqing"
    assert told({"emb_params": (4, 256)}, own).family == "danqing"
    assert told(hypernetwork(320, 768), {"ss_base_model_version": "sd_v2"}, form="pickle").family == "sd2"
    assert told({"emb_params": (4, 1024)}, {"ss_base_model_version": "sdxl_base_v1-0"}).family == "sdxl"


def test_a_checkpoints_name_tells_no_family():
    other = {"sd_checkpoint_name": "flux-of-sdxl"}
    assert told(hypernetwork(320, 768), other, form="pickle").family == "sd1"
    assert told({"emb_params": (4, 1024)}, other).family == "sd2"


def test_a_hypernetwork_of_widths_that_nobody_has_is_for_nobody():
    identity = told(hypernetwork(192, 224, 256), form="pickle")
    assert (identity.kind, identity.family) == ("hypernetwork", None)
    assert told(hypernetwork(320, 640), form="pickle").family == "sd1"


def test_tiny_models_of_unusual_width_are_told_by_their_structure():
    tiny = unet(channels=32, context=64)
    assert told(layouts.ldm_unet(tiny)).family == "sd1"
    assert told(layouts.ldm_unet(tiny)).facts["unusual_width"] is True
    assert told(layouts.ldm_unet(unet(layouts.SDXL, channels=32, context=64, pooled=96))).family == "sdxl"


def test_an_unknown_file_is_explained():
    identity = told({"exp_avg.0": (3, 3), "step": ()})

    assert identity.kind == "unknown"
    assert "exp_avg.0 [3, 3]" in identity.why
    assert "optimizer" in identity.why
    assert told({}).why.startswith("no tensors")


REAL = [
    ("lora/cloneofsimo_analog_svd_rank4.safetensors", "lora", "sd1", "cloneofsimo"),
    ("lora/cloneofsimo_lora_disney.safetensors", "lora", "sd1", "cloneofsimo"),
    ("embeddings/fastai_learned_embeds.bin", "embedding", "sd1", "token"),
    ("mlsd/mlsd_tiny_512_fp32.pth", "annotator", None, ""),
    ("taesd/taef2_decoder.pth", "taesd", "flux2", "madebyollin"),
    ("taesd/taef2_encoder.pth", "taesd", "flux2", "madebyollin"),
]


@pytest.mark.parametrize(("name", "kind", "family", "layout"), REAL)
def test_real_files(name, kind, family, layout):
    path = TESTDATA / name
    if not path.is_file():
        pytest.skip(f"REAL FILE MISSING, NOT TESTED: {path}")

    identity = identify(path)

    assert (identity.kind, identity.family, identity.layout) == (kind, family, layout)


def test_real_lora_carries_its_tokens():
    path = TESTDATA / "lora/cloneofsimo_lora_disney.safetensors"
    if not path.is_file():
        pytest.skip(f"REAL FILE MISSING, NOT TESTED: {path}")

    assert identify(path).facts["tokens"] == ("<s1>", "<s2>")
