"""Small pipelines of diffusers with random weights, saved as their makers do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    PixArtTransformer2DModel,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from tiny_models import save_tokenizer

WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "cat", "and", "dog", "blue", "house", "the"]
WIDTH = 32
_SPECIAL = ("pad_token", "eos_token", "unk_token")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words to numbers, an end after each text, as T5 has it."""
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=WORDS[2]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=77, **dict(zip(_SPECIAL, WORDS, strict=False))
    )


def t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(WORDS),
        d_model=WIDTH,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        initializer_factor=3.0,
    )
    return T5EncoderModel(config)


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    save_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def clip_text(tokens: int, *, projected: bool = False, width: int = WIDTH) -> Any:
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=tokens - 1,
        initializer_range=0.2,
        initializer_factor=10.0,
    )
    return kind(config)


def clip_vision(width: int = WIDTH) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=width,
        projection_dim=width,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        image_size=32,
        patch_size=8,
        initializer_factor=10.0,
    )
    return CLIPVisionModelWithProjection(config)


def clip_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def vae(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
    )


def unet(**changes: Any) -> UNet2DConditionModel:
    options: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(options | changes))


def pixart(_: Path) -> dict[str, Any]:
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return {
        "tokenizer": word_tokenizer(),
        "text_encoder": t5(),
        "vae": vae(),
        "transformer": transformer,
        "scheduler": DPMSolverMultistepScheduler(),
    }


def kandinsky22(_: Path) -> dict[str, Any]:
    network = UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        thresholding=False,
    )
    return {"unet": network, "scheduler": scheduler, "movq": _movq()}


def kandinsky22_prior(folder: Path) -> dict[str, Any]:
    tokenizer = clip_tokenizer(folder)
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=WIDTH, num_layers=1, additional_embeddings=4
    )
    with torch.no_grad():
        prior.clip_std.fill_(1.0)
    scheduler = UnCLIPScheduler(
        variance_type="fixed_small_log",
        prediction_type="sample",
        num_train_timesteps=1000,
        clip_sample=True,
        clip_sample_range=10.0,
    )
    return {
        "prior": prior,
        "image_encoder": clip_vision(),
        "text_encoder": clip_text(len(tokenizer), projected=True),
        "tokenizer": tokenizer,
        "scheduler": scheduler,
        "image_processor": clip_processor(),
    }


def _movq() -> VQModel:
    return VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        in_channels=3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        out_channels=3,
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        vq_embed_dim=4,
    )


def unclip_image(folder: Path) -> dict[str, Any]:
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

    tokenizer = clip_tokenizer(folder)
    network = unet(
        class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH, use_linear_projection=True
    )
    return {
        "feature_extractor": clip_processor(),
        "image_encoder": clip_vision(),
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "tokenizer": tokenizer,
        "text_encoder": clip_text(len(tokenizer)),
        "unet": network,
        "scheduler": DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction", steps_offset=1),
        "vae": vae(),
    }


def image_variation(_: Path) -> dict[str, Any]:
    return {
        "vae": vae(),
        "image_encoder": clip_vision(),
        "unet": unet(),
        "scheduler": DDIMScheduler(steps_offset=1),
        "safety_checker": None,
        "feature_extractor": clip_processor(),
        "requires_safety_checker": False,
    }


def deepfloyd(_: Path) -> dict[str, Any]:
    return _deepfloyd(in_channels=3, size=32)


def deepfloyd_larger(_: Path) -> dict[str, Any]:
    made = _deepfloyd(in_channels=6, size=128)
    return made | {"image_noising_scheduler": made["scheduler"]}


def _deepfloyd(in_channels: int, size: int) -> dict[str, Any]:
    larger = in_channels == 6
    network = UNet2DConditionModel(
        sample_size=size,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=in_channels,
        out_channels=6,
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        norm_num_groups=8,
        class_embed_type="timestep" if larger else None,
        mid_block_scale_factor=1.414 if larger else 1,
        time_embedding_act_fn="gelu" if larger else None,
    )
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.0,
        prediction_type="epsilon",
        variance_type="learned_range",
    )
    nothing = dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
    return {
        "tokenizer": word_tokenizer(),
        "text_encoder": t5(),
        "unet": network,
        "scheduler": scheduler,
        "requires_safety_checker": False,
        **nothing,
    }


TINY: dict[str, Callable[[Path], dict[str, Any]]] = {
    "PixArtSigmaPipeline": pixart,
    "KandinskyV22Pipeline": kandinsky22,
    "KandinskyV22PriorPipeline": kandinsky22_prior,
    "StableUnCLIPImg2ImgPipeline": unclip_image,
    "StableDiffusionImageVariationPipeline": image_variation,
    "IFPipeline": deepfloyd,
    "IFSuperResolutionPipeline": deepfloyd_larger,
}


def make(folder: Path, name: str, *, seed: int = 0, **about: Any) -> Path:
    """A folder of a class, with a `danqing.json` that says what a small model needs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = TINY[name](folder.with_name(f"{folder.name}-words"))
        getattr(diffusers, name)(**parts).save_pretrained(folder)
    said = {"multiple_px": 8, "defaults": {"size_px": 32, "steps": 3}, **about}
    (folder / "danqing.json").write_text(json.dumps(said), encoding="utf-8")
    return folder
