"""A small mini-CLIP with random weights, in the built-in family's layout. Made in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tiny_models import save_tokenizer

DIM = 24
SIZE_PX = 32
VOCABULARY: list[dict[str, Any]] = [
    {
        "hexcode": "1F34E",
        "group": "food-drink",
        "subgroup": "food-fruit",
        "en": ["red apple", "apple", "fruit", "red"],
        "zh": ["红苹果", "苹果", "水果"],
        "zh-hant": ["紅蘋果", "蘋果", "水果"],
    },
    {
        "hexcode": "1F408",
        "group": "animals-nature",
        "subgroup": "animal-mammal",
        "en": ["cat", "pet", "animal"],
        "zh": ["猫", "宠物", "动物"],
        "zh-hant": ["貓", "寵物，動物"],
    },
    {
        "hexcode": "1F697",
        "group": "travel-places",
        "subgroup": "transport-ground",
        "en": ["automobile", "car"],
        "zh": [],
    },
]


def build_clip(
    folder: Path, *, seed: int = 1, width: int = DIM, vocabulary: list[dict[str, Any]] | None = None
) -> Path:
    """A folder that holds both towers; the text tower lies inside it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                image_size=SIZE_PX,
                patch_size=8,
                projection_dim=DIM,
                initializer_factor=4.0,
            )
        )
        tokens = save_tokenizer(folder / "tokenizer")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=tokens,
                hidden_size=width,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=77,
                bos_token_id=tokens - 2,
                eos_token_id=tokens - 1,
                pad_token_id=tokens - 1,
                initializer_range=0.2,
                initializer_factor=4.0,
            )
        )
        head = {
            "text_projection.weight": torch.randn(DIM, width).half(),
            "logit_scale": torch.tensor(2.0).half(),
            "logit_bias": torch.tensor(-1.0).half(),
        }
    vision.half().save_pretrained(folder / "image_encoder")
    text.half().save_pretrained(folder / "text_encoder")
    save_file(head, folder / "text_projection.safetensors")
    CLIPImageProcessor(
        size={"shortest_edge": SIZE_PX},
        crop_size={"height": SIZE_PX, "width": SIZE_PX},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)
    words = VOCABULARY if vocabulary is None else vocabulary
    (folder / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    (folder / "danqing.json").write_text(json.dumps({"name": "danqing-mini-clip", "kind": "clip"}), encoding="utf-8")
    return folder
