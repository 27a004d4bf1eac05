"""Further small pipelines of diffusers: priors with their decoders, cascades, flow transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    ChromaTransformer2DModel,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PriorTransformer,
    StableCascadeUNet,
    UNet2DConditionModel,
)
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

from tiny_pipelines import (
    TINY,
    WIDTH,
    WORDS,
    clip_processor,
    clip_text,
    clip_tokenizer,
    clip_vision,
    kandinsky22,
    kandinsky22_prior,
    make,
    t5,
    unclip_image,
    word_tokenizer,
)

__all__ = ["make"]


def kandinsky21(folder: Path) -> dict[str, Any]:
    text = MCLIPConfig(
        numDims=WIDTH,
        transformerDimensions=WIDTH,
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=len(WORDS),
    )
    network = UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="text_image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_image_proj",
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
    )
    words = {"text_encoder": MultilingualCLIP(text).eval(), "tokenizer": word_tokenizer()}
    return {**kandinsky22(folder), "unet": network, **words}


def unclip_text(folder: Path) -> dict[str, Any]:
    made = unclip_image(folder)
    del made["feature_extractor"], made["image_encoder"]
    prior = kandinsky22_prior(folder)
    scheduler = DDPMScheduler(
        variance_type="fixed_small_log",
        prediction_type="sample",
        clip_sample=True,
        clip_sample_range=5.0,
        beta_schedule="squaredcos_cap_v2",
    )
    return made | {
        "prior_tokenizer": prior["tokenizer"],
        "prior_text_encoder": prior["text_encoder"],
        "prior": PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=WIDTH, num_layers=1),
        "prior_scheduler": scheduler,
    }


def cascade(folder: Path) -> dict[str, Any]:
    tokenizer = clip_tokenizer(folder)
    plain = ("SDCascadeResBlock", "SDCascadeTimestepBlock")
    attending = (*plain, "SDCascadeAttnBlock")
    decoder = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=64,
        block_out_channels=(16, 32, 64, 64),
        num_attention_heads=(-1, -1, 1, 2),
        down_num_layers_per_block=(1, 1, 1, 1),
        up_num_layers_per_block=(1, 1, 1, 1),
        down_blocks_repeat_mappers=(1, 1, 1, 1),
        up_blocks_repeat_mappers=(1, 1, 1, 1),
        block_types_per_layer=(plain, plain, attending, attending),
        switch_level=None,
        clip_text_pooled_in_channels=WIDTH,
        dropout=(0.0, 0.0, 0.0, 0.0),
    )
    return {
        "decoder": decoder,
        "tokenizer": tokenizer,
        "text_encoder": clip_text(len(tokenizer), projected=True),
        "scheduler": DDPMWuerstchenScheduler(),
        "vqgan": PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2).eval(),
    }


def cascade_prior(folder: Path) -> dict[str, Any]:
    tokenizer = clip_tokenizer(folder)
    prior = StableCascadeUNet(
        conditioning_dim=64,
        block_out_channels=(64, 64),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_image_in_channels=WIDTH,
        switch_level=(False,),
        clip_text_in_channels=WIDTH,
        clip_text_pooled_in_channels=WIDTH,
        dropout=(0.0, 0.0),
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": clip_text(len(tokenizer), projected=True),
        "prior": prior,
        "scheduler": DDPMWuerstchenScheduler(),
        "feature_extractor": clip_processor(),
        "image_encoder": clip_vision(),
    }


def _flow_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4,),
        latent_channels=2,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
        sample_size=32,
    )


def chroma(_: Path) -> dict[str, Any]:
    transformer = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=WIDTH,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": _flow_vae(),
        "text_encoder": t5(),
        "tokenizer": word_tokenizer(),
        "transformer": transformer,
    }


def _flux(inputs: int) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        tokenizer = clip_tokenizer(folder)
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=inputs,
            out_channels=8,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        )
        return {
            "scheduler": FlowMatchEulerDiscreteScheduler(),
            "vae": _flow_vae(),
            "text_encoder": clip_text(len(tokenizer)),
            "tokenizer": tokenizer,
            "text_encoder_2": t5(),
            "tokenizer_2": word_tokenizer(),
            "transformer": transformer,
        }

    return made


TINY |= {
    "KandinskyPipeline": kandinsky21,
    "KandinskyPriorPipeline": kandinsky22_prior,
    "StableUnCLIPPipeline": unclip_text,
    "StableCascadeDecoderPipeline": cascade,
    "StableCascadePriorPipeline": cascade_prior,
    "ChromaPipeline": chroma,
    "FluxFillPipeline": _flux(20),
    "FluxKontextPipeline": _flux(8),
    "FluxControlPipeline": _flux(16),
}
