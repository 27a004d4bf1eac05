"""Small checkpoints in one file with the names of the published ones, and their twins as diffusers folders.

The twin is built first, with random weights; its tensors are then renamed to latent diffusion's layout by the rules of
the published files: blocks counted through (`input_blocks.4.1`), attention of the autoencoder as 1x1 convolutions,
OpenCLIP's joined q, k, v.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from danqing.models.singlefile.facts import CLIP_TOKENIZER

Tensors = dict[str, Tensor]
WIDTHS = (32, 64)
TEXT_WIDTH = 64
SIZE_PX = 64
ABOUT = {"defaults": {"size_px": SIZE_PX, "steps": 3, "sampler": "Euler", "guidance_scale": 5.0}}


@dataclass
class Tiny:
    """A small model as diffusers' modules.

    Attributes:
        kind: sd1, sd2, sdxl or sdxl-refiner.
        unet: The denoiser.
        vae: The autoencoder.
        texts: The text encoders.
        prediction: What the denoiser predicts.
    """

    kind: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    texts: tuple[nn.Module, ...]
    prediction: str = "epsilon"
    tensors: Tensors = field(default_factory=dict)

    def save_folder(self, folder: Path) -> Path:
        """As diffusers keeps it."""
        self.unet.save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        names = [""] if len(self.texts) == 1 else ["", "_2"]
        if self.kind == "sdxl-refiner":
            names = ["_2"]
        for name, text in zip(names, self.texts, strict=True):
            text.save_pretrained(folder / f"text_encoder{name}")
            shutil.copytree(CLIP_TOKENIZER, folder / f"tokenizer{name}")
            if name or self.kind == "sd2":
                config = folder / f"tokenizer{name}" / "tokenizer_config.json"
                config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": "!"}))
        DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=self.prediction
        ).save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text('{"_class_name": "Pipeline"}')
        (folder / "danqing.json").write_text(json.dumps({**ABOUT, "family": self.kind.partition("-")[0]}))
        return folder

    def published(self) -> Tensors:
        """All tensors under the published names."""
        found = {f"model.diffusion_model.{name}": one for name, one in unet_names(self.unet).items()}
        found |= {f"first_stage_model.{name}": one for name, one in vae_names(self.vae).items()}
        for at, text in enumerate(self.texts):
            found |= self._text(at, text)
        return found

    def _text(self, at: int, text: nn.Module) -> Tensors:
        if self.kind == "sd1":
            return clip_names(text, "cond_stage_model.transformer.")
        if self.kind == "sd2":
            return open_clip_names(text, "cond_stage_model.model.", unused_layer=True)
        if self.kind == "sdxl" and at == 0:
            return clip_names(text, "conditioner.embedders.0.transformer.")
        return open_clip_names(text, f"conditioner.embedders.{at}.model.")

    def save_file(self, path: Path, change: Callable[[Tensors], Tensors] | None = None, **about: Any) -> Path:
        """As the published checkpoints are, with small defaults beside it.

        Args:
            path: `.safetensors` or `.ckpt`.
            change: Made to the tensors before they are saved.
            about: More for `NAME.danqing.json`.
        """
        tensors = change(self.published()) if change else self.published()
        tensors = {name: one.detach().clone().contiguous() for name, one in tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(tensors, path)
        else:
            torch.save({"state_dict": tensors, "global_step": 470000, "epoch": 2}, path)
        path.with_suffix(".danqing.json").write_text(json.dumps({**ABOUT, **about}))
        return path


def make(kind: str = "sd1", *, seed: int = 1, in_channels: int = 4, prediction: str = "epsilon") -> Tiny:
    """A small model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        texts: tuple[nn.Module, ...]
        if kind == "sd1":
            texts, context = (text_tower("quick_gelu"),), TEXT_WIDTH
        elif kind == "sd2":
            texts, context = (text_tower("gelu"),), TEXT_WIDTH
        elif kind == "sdxl":
            texts, context = (text_tower("quick_gelu"), text_tower("gelu", projection=True)), 2 * TEXT_WIDTH
        else:
            texts, context = (text_tower("gelu", projection=True),), TEXT_WIDTH
        return Tiny(kind, _unet(kind, in_channels, context), _vae(kind), texts, prediction)


def _unet(kind: str, in_channels: int, context: int) -> UNet2DConditionModel:
    config: dict[str, Any] = {
        "in_channels": in_channels,
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "cross_attention_dim": context,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 8,
        "sample_size": 8,
    }
    if kind != "sd1":
        config |= {"use_linear_projection": True, "attention_head_dim": [1, 1]}
    if kind.startswith("sdxl"):
        numbers = 5 if kind == "sdxl-refiner" else 6
        config |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": TEXT_WIDTH + numbers * 256,
        }
    unet = UNet2DConditionModel(**config)
    with torch.no_grad():
        # Untrained attention hardly moves the answer; words must matter for the tests to see them.
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_v.weight", "attn1.to_v.weight", "to_out.0.weight")):
                weight.mul_(3.0)
    return unet


def _vae(kind: str) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        sample_size=SIZE_PX,
        scaling_factor=0.13025 if kind.startswith("sdxl") else 0.18215,
    )


def text_tower(act: str, *, projection: bool = False) -> nn.Module:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=TEXT_WIDTH,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=1,
        hidden_act=act,
        projection_dim=TEXT_WIDTH if projection else 768,
        bos_token_id=49406,
        eos_token_id=49407,
        # CLIP's own 0.02 suits widths of 768; here it would leave all words alike.
        initializer_range=0.2,
        initializer_factor=10.0,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


# --- diffusers' names to the published ones ---------------------------------------------------------------------------

_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def unet_names(unet: nn.Module) -> Tensors:
    """The denoiser's tensors as `input_blocks.…`, `middle_block.…`, `output_blocks.…`."""
    state = unet.state_dict()
    layers = 1 + max(int(n.split(".")[3]) for n in state if re.match(r"down_blocks\.\d+\.resnets", n))
    with_attention = {n.split(".")[1] for n in state if re.match(r"up_blocks\.\d+\.attentions", n)}
    return {_unet_name(name, layers, with_attention): one for name, one in state.items()}


def _unet_name(name: str, layers: int, with_attention: set[str]) -> str:
    for ours, theirs in _TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    side, *rest = name.split(".")
    if side == "mid_block":
        part, at, *tail = rest
        return ".".join(["middle_block", "1" if part == "attentions" else str(2 * int(at)), *_inside(part, tail)])
    level, part, at, *tail = rest
    first = int(level) * (layers + 1)
    if part == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{tail[-1]}"
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if level in with_attention else 1}.conv.{tail[-1]}"
    block = f"input_blocks.{first + int(at) + 1}"
    if side == "up_blocks":
        block = f"output_blocks.{int(level) * (layers + 1) + int(at)}"
    return ".".join([block, "1" if part == "attentions" else "0", *_inside(part, tail)])


def _inside(part: str, tail: list[str]) -> list[str]:
    return tail if part == "attentions" else [_RESNET[tail[0]], *tail[1:]]


_VAE_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}


def vae_names(vae: nn.Module) -> Tensors:
    """The autoencoder's tensors as `encoder.down.…`, `decoder.up.…`."""
    state = vae.state_dict()
    levels = 1 + max(int(n.split(".")[2]) for n in state if n.startswith("decoder.up_blocks"))
    found: Tensors = {}
    for name, one in state.items():
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.block.", new
        )
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.upsample", new
        )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in new:
            for ours, theirs in _VAE_ATTENTION.items():
                new = new.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}.")
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
        found[new] = one[:, :, None, None] if "mid.attn_1" in new and one.ndim == 2 else one
    return found


def clip_names(text: nn.Module, prefix: str) -> Tensors:
    """transformers' own names, below `text_model.` as it had them when the files were made."""
    names = {name.removeprefix("text_model."): one for name, one in text.state_dict().items()}
    found = {f"{prefix}text_model.{name}": one for name, one in names.items()}
    return found | {f"{prefix}text_model.embeddings.position_ids": torch.arange(77)[None]}


_OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def open_clip_names(text: nn.Module, prefix: str, *, unused_layer: bool = False) -> Tensors:
    """OpenCLIP's names; with the last layer that Stable Diffusion 2 has and does not read, if wanted."""
    state = {name.removeprefix("text_model."): one for name, one in text.state_dict().items()}
    layers = 1 + max(int(n.split(".")[2]) for n in state if n.startswith("encoder.layers"))
    found: Tensors = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
        "text_projection": state["text_projection.weight"].T
        if "text_projection.weight" in state
        else torch.randn(TEXT_WIDTH, TEXT_WIDTH),
    }
    for layer in range(layers):
        found |= _resblock(state, layer)
    if unused_layer:
        last = f"transformer.resblocks.{layers - 1}."
        unused = last.replace(str(layers - 1), str(layers))
        found |= {name.replace(last, unused): one * 0.5 for name, one in found.items() if last in name}
    return {prefix + name: one for name, one in found.items()}


def _resblock(state: Mapping[str, Tensor], layer: int) -> Tensors:
    ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
    found: Tensors = {}
    for kind in ("weight", "bias"):
        joined = [state[f"{ours}self_attn.{one}_proj.{kind}"] for one in "qkv"]
        found[f"{theirs}attn.in_proj_{kind}"] = torch.cat(joined)
        found[f"{theirs}attn.out_proj.{kind}"] = state[f"{ours}self_attn.out_proj.{kind}"]
        for old, new in _OPEN_CLIP.items():
            found[f"{theirs}{new}.{kind}"] = state[f"{ours}{old}.{kind}"]
    return found
