"""Small Stable Diffusions with random weights, in diffusers' real layout. Made in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

CONTEXT_WIDTH = 32
TEXT_LAYERS = 3
SIZE_PX = 64
MERGES = ("c a", "ca t</w>", "d o", "do g</w>", "t h", "th e</w>", "r e", "re d</w>", "b l", "bl u", "blu e</w>")


def build_all(root: Path) -> Path:
    """The models folder, with every twin a test wants."""
    home = root / "Stable-diffusion"
    build(home / "tiny", seed=1)
    build(home / "other", seed=2)
    build(home / "tiny-v", seed=3, prediction="v_prediction")
    build(home / "tiny-inpaint", seed=4, in_channels=9)
    return root


def build(folder: Path, *, seed: int, prediction: str = "epsilon", in_channels: int = 4) -> Path:
    """One diffusers folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _unet(in_channels).save_pretrained(folder / "unet")
        _vae().save_pretrained(folder / "vae")
        tokens = save_tokenizer(folder / "tokenizer")
        _text(tokens).save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")
    _write(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    about = {"family": "sd1", "defaults": {"size_px": SIZE_PX, "steps": 6, "sampler": "Euler"}}
    _write(folder / "danqing.json", about)
    return folder


def _unet(in_channels: int) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=CONTEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    with torch.no_grad():
        # Untrained attention hardly moves the answer; words must matter for the tests to see them.
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_v.weight", "attn1.to_v.weight", "to_out.0.weight")):
                weight.mul_(3.0)
    return unet


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIZE_PX,
        scaling_factor=0.5,
    )


def _text(tokens: int) -> CLIPTextModel:
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=CONTEXT_WIDTH,
            intermediate_size=64,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
            pad_token_id=tokens - 1,
            # CLIP's own 0.02 suits widths of 768; here it would leave all words alike.
            initializer_range=0.2,
            initializer_factor=10.0,
        )
    )
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("final_layer_norm.bias"):
                # Trained encoders have no zero mean, which the emphasis mode "Original" divides by.
                weight.copy_(torch.linspace(-0.5, 1.0, len(weight)))
    return encoder


def save_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer of single bytes and a handful of words; returns the size of its vocabulary."""
    alphabet = byte_alphabet()
    vocab = {token: index for index, token in enumerate([*alphabet, *(f"{char}</w>" for char in alphabet)])}
    for merge in MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocab[token] = len(vocab)
    _write(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        **dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>"),
    }
    _write(folder / "special_tokens_map.json", special)
    _write(folder / "tokenizer_config.json", {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    return len(vocab)


def byte_alphabet() -> list[str]:
    """The printable stand-ins of byte-level BPE for the 256 bytes (Radford et al. 2019, GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(rest))]


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
