"""UNet and text encoder, and the starting values from which a short run learns to read captions."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.tokenizer import MAX_LENGTH


def build_unet(config: TrainConfig, size_px: int) -> UNet2DConditionModel:
    """A small UNet2DConditionModel; levels without attention have plain blocks."""
    u = config.unet
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in u.attention_levels)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(u.attention_levels))
    return UNet2DConditionModel(
        sample_size=size_px // 8,
        in_channels=config.vae.latent_channels,
        out_channels=config.vae.latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=u.block_out_channels,
        layers_per_block=u.layers_per_block,
        attention_head_dim=u.heads,
        cross_attention_dim=config.text.hidden_size,
        addition_embed_type="text" if u.pooled_text else None,
        addition_embed_type_num_heads=config.text.num_heads,
        norm_num_groups=32 if u.block_out_channels[0] % 32 == 0 else 8,
    )


def build_text_encoder(config: TrainConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIPTextModel for 77 tokens, its tokens spread wide.

    With CLIP's own start (tokens and positions alike, standard deviation 0.02) and the UNet's learning rate the states
    of all captions ran together within 700 steps (spread 0.45 to 0.02), since at first text is only noise to the UNet.
    """
    t = config.text
    settings = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=t.hidden_size,
        intermediate_size=4 * t.hidden_size,
        projection_dim=t.hidden_size,
        num_hidden_layers=t.num_layers,
        num_attention_heads=t.num_heads,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = CLIPTextModel(settings)
    with torch.no_grad():
        text.get_input_embeddings().weight.normal_(0.0, t.token_std)
        text.embeddings.position_embedding.weight.normal_(0.0, t.position_std)
    return text


@torch.no_grad()
def ignore_padding(unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer, logit: float) -> None:
    """Starts every cross-attention with padding at `logit` and value 0, so that words are not drowned in it.

    A caption has some 8 tokens of 77; with even attention the padding takes nine tenths. The queries get a constant
    part through their layer norm's bias; keys and values lose the padding's direction; the keys then give it `logit`
    against that constant part. All of it is only a starting point: every weight is trained.
    """
    device = next(text.parameters()).device
    ids = tokenizer("", padding="max_length", max_length=MAX_LENGTH, return_tensors="pt").input_ids.to(device)
    padding = text(ids).last_hidden_state[0, 2:].mean(0)
    direction = padding / padding.norm()
    pooled = getattr(unet, "add_embedding", None)
    if pooled is not None:
        values = pooled.pool.v_proj.weight
        values -= torch.outer(values @ direction, direction)
        pooled.norm2.weight.fill_(0.5)
    for block in unet.modules():
        if not isinstance(block, BasicTransformerBlock) or block.attn2 is None:
            continue
        attention = block.attn2
        block.norm2.bias.normal_(0.0, 1.0)
        query = (attention.to_q.weight @ block.norm2.bias).view(attention.heads, -1)
        key = query * (logit * query.shape[1] ** 0.5 / query.square().sum(1, keepdim=True))
        for projection in (attention.to_k, attention.to_v):
            projection.weight -= torch.outer(projection.weight @ direction, direction)
        attention.to_k.weight += torch.outer(key.flatten(), direction / padding.norm())
