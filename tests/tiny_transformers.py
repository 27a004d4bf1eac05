"""Small FLUX.1 and SD3 models with random weights: as diffusers folders, and as files with the published names.

The published names are written down here by hand, from the models' own layouts, so that the tests do not compare the
project's tables with themselves.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, SD3Transformer2DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from danqing.models.singlefile.facts import CLIP_TOKENIZER
from tiny_checkpoints import SIZE_PX, TEXT_WIDTH, clip_names, text_tower, vae_names

Tensors = dict[str, Tensor]
T5_WIDTH = 160
"""At least as wide as SD3's two CLIP towers side by side."""
WORDS = ["<pad>", "</s>", "<unk>", "a", "red", "cat", "and", "dog", "blue", "house"]
_SCALES = {"flux": (0.3611, 0.1159), "sd3": (1.5305, 0.0609)}


@dataclass
class TinyTransformer:
    """A small model.

    Attributes:
        family: flux or sd3.
        transformer: The denoiser.
        vae: The autoencoder.
        clips: Its CLIP text encoders.
        t5: Its T5.
        dynamic: Whether its schedule follows the picture's size (FLUX dev).
    """

    family: str
    transformer: nn.Module
    vae: AutoencoderKL
    clips: tuple[nn.Module, ...]
    t5: T5EncoderModel | None
    dynamic: bool = False
    about: dict[str, Any] = field(default_factory=lambda: {"defaults": {"size_px": SIZE_PX, "steps": 3}})

    def save_folder(self, folder: Path, *, pipeline: str = "") -> Path:
        """As diffusers keeps it."""
        self.transformer.save_pretrained(folder / "transformer")
        self.vae.save_pretrained(folder / "vae")
        for at, clip in zip(("", "_2"), self.clips, strict=False):
            clip.save_pretrained(folder / f"text_encoder{at}")
            shutil.copytree(CLIP_TOKENIZER, folder / f"tokenizer{at}")
        if self.family == "sd3":
            pad = folder / "tokenizer_2" / "tokenizer_config.json"
            pad.write_text(json.dumps({**json.loads(pad.read_text()), "pad_token": "!"}))
        if self.t5 is not None:
            number = len(self.clips) + 1
            self.t5.save_pretrained(folder / f"text_encoder_{number}")
            save_t5_tokenizer(folder / f"tokenizer_{number}")
        shift = 3.0 if self.family == "sd3" or self.dynamic else 1.0
        FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=self.dynamic).save_pretrained(
            folder / "scheduler"
        )
        name = pipeline or {"flux": "FluxPipeline", "sd3": "StableDiffusion3Pipeline"}[self.family]
        (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
        (folder / "danqing.json").write_text(json.dumps(self.about))
        return folder

    def published(self) -> Tensors:
        """The transformer's tensors under the published names, without a prefix."""
        names = {"flux": flux_names, "sd3": sd3_names}[self.family]
        return names({name: one.detach() for name, one in self.transformer.state_dict().items()})

    def inside(self) -> Tensors:
        """Text encoders and autoencoder as they lie in whole checkpoints."""
        found = {f"first_stage_model.{name}": one for name, one in vae_names(self.vae).items()}
        for name, clip in zip(("clip_l", "clip_g"), self.clips, strict=False):
            found |= clip_names(clip, f"text_encoders.{name}.transformer.")
        for name in [name for name in found if name.endswith("text_model.text_projection.weight")]:
            found[name.replace("text_model.text_projection", "text_projection")] = found.pop(name)
        if self.t5 is not None:
            found |= {f"text_encoders.t5xxl.transformer.{name}": one for name, one in self.t5.state_dict().items()}
        return found

    def save_file(
        self,
        path: Path,
        *,
        prefix: str = "",
        whole: bool = False,
        change: Callable[[Tensors], Tensors] | None = None,
        **about: Any,
    ) -> Path:
        """The transformer's file, with small defaults beside it."""
        tensors = {prefix + name: one for name, one in self.published().items()}
        tensors |= self.inside() if whole else {}
        save_tensors(change(tensors) if change else tensors, path)
        path.with_suffix(".danqing.json").write_text(json.dumps({**self.about, **about}))
        return path

    def save_companions(self, models_dir: Path, dtype: torch.dtype = torch.float32) -> None:
        """Text encoders, tokenizer and autoencoder in ComfyUI's folders under their usual names."""
        home = models_dir / "text_encoders"
        inside = {name: one.to(dtype) if one.is_floating_point() else one for name, one in self.inside().items()}
        for name in ("clip_l", "clip_g", "t5xxl"):
            head = f"text_encoders.{name}.transformer."
            own = {key[len(head) :]: one for key, one in inside.items() if key.startswith(head)}
            if own:
                save_tensors(own, home / f"{name if name != 't5xxl' else 't5xxl_fp16'}.safetensors")
        if self.t5 is not None:
            save_t5_tokenizer(home / "t5")
        name = {"flux": "ae", "sd3": "sd3_vae"}[self.family]
        save_tensors(vae_names(self.vae), models_dir / "vae" / f"{name}.safetensors")


def save_tensors(tensors: Tensors, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.detach().clone().contiguous() for name, one in tensors.items()}, path)
    return path


def make_flux(variant: str = "dev", *, seed: int = 1, in_channels: int = 64) -> TinyTransformer:
    """A small FLUX.1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = FluxTransformer2DModel(
            in_channels=in_channels,
            out_channels=64,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=variant == "dev",
            axes_dims_rope=(4, 14, 14),
        )
        _louder(transformer)
        return TinyTransformer(
            "flux", transformer, _vae("flux"), (text_tower("quick_gelu"),), _t5(), dynamic=variant == "dev"
        )


def make_sd3(*, t5: bool = True, seed: int = 1, dual: bool = True, normed: bool = True) -> TinyTransformer:
    """A small SD3 (no dual attention, nothing normed), 3.5 large (normed) or 3.5 medium (both)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = 32 if normed else 64
        transformer = SD3Transformer2DModel(
            sample_size=128,
            num_layers=2,
            attention_head_dim=head,
            num_attention_heads=64 // head,
            joint_attention_dim=T5_WIDTH,
            caption_projection_dim=64,
            pooled_projection_dim=2 * TEXT_WIDTH,
            pos_embed_max_size=24,
            dual_attention_layers=(0,) if dual else (),
            qk_norm="rms_norm" if normed else None,
        )
        _louder(transformer)
        clips = (text_tower("quick_gelu", projection=True), text_tower("gelu", projection=True))
        with torch.no_grad():
            # Published files have no projection of CLIP-L: SD3 reads its pooled text as it is.
            clips[0].text_projection.weight.copy_(torch.eye(TEXT_WIDTH))
        return TinyTransformer("sd3", transformer, _vae("sd3"), clips, _t5() if t5 else None)


def _louder(transformer: nn.Module) -> None:
    """Untrained, the words hardly reach the picture."""
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if name.startswith(("context_embedder", "time_text_embed", "transformer_blocks")) and weight.ndim == 2:
                weight.mul_(2.0)


def _vae(family: str) -> AutoencoderKL:
    scale, shift = _SCALES[family]
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        scaling_factor=scale,
        shift_factor=shift,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _t5() -> T5EncoderModel:
    config = T5Config(
        d_model=T5_WIDTH,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        vocab_size=16,
        feed_forward_proj="gated-gelu",
        initializer_factor=5.0,
    )
    return T5EncoderModel(config).eval()


def save_t5_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


# --- diffusers' names to the published ones ---------------------------------------------------------------------------
def flux_names(state: Tensors) -> Tensors:
    """Black Forest Labs' names: `double_blocks.0.img_attn.qkv.weight`, …"""
    found: Tensors = {}
    blocks = {name.split(".")[1] for name in state if name.startswith("transformer_blocks.")}
    singles = {name.split(".")[1] for name in state if name.startswith("single_transformer_blocks.")}
    for kind in ("weight", "bias"):
        for at in blocks:
            ours, theirs = f"transformer_blocks.{at}.", f"double_blocks.{at}."
            for side, names, norm, mlp, out, attention in (
                ("img", ("to_q", "to_k", "to_v"), "norm1", "ff", "to_out.0", ("norm_q", "norm_k")),
                (
                    "txt",
                    ("add_q_proj", "add_k_proj", "add_v_proj"),
                    "norm1_context",
                    "ff_context",
                    "to_add_out",
                    ("norm_added_q", "norm_added_k"),
                ),
            ):
                found[f"{theirs}{side}_attn.qkv.{kind}"] = torch.cat([state[f"{ours}attn.{n}.{kind}"] for n in names])
                found[f"{theirs}{side}_mod.lin.{kind}"] = state[f"{ours}{norm}.linear.{kind}"]
                found[f"{theirs}{side}_mlp.0.{kind}"] = state[f"{ours}{mlp}.net.0.proj.{kind}"]
                found[f"{theirs}{side}_mlp.2.{kind}"] = state[f"{ours}{mlp}.net.2.{kind}"]
                found[f"{theirs}{side}_attn.proj.{kind}"] = state[f"{ours}attn.{out}.{kind}"]
                for word, name in zip(("query", "key"), attention, strict=True):
                    found[f"{theirs}{side}_attn.norm.{word}_norm.scale"] = state[f"{ours}attn.{name}.weight"]
        for at in singles:
            ours, theirs = f"single_transformer_blocks.{at}.", f"single_blocks.{at}."
            joined = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            found[f"{theirs}linear1.{kind}"] = torch.cat([state[f"{ours}{n}.{kind}"] for n in joined])
            found[f"{theirs}linear2.{kind}"] = state[f"{ours}proj_out.{kind}"]
            found[f"{theirs}modulation.lin.{kind}"] = state[f"{ours}norm.linear.{kind}"]
            for word, name in (("query", "norm_q"), ("key", "norm_k")):
                found[f"{theirs}norm.{word}_norm.scale"] = state[f"{ours}attn.{name}.weight"]
        for theirs, ours in (
            ("time_in", "timestep_embedder"),
            ("vector_in", "text_embedder"),
            ("guidance_in", "guidance_embedder"),
        ):
            for layer, number in (("in_layer", 1), ("out_layer", 2)):
                name = f"time_text_embed.{ours}.linear_{number}.{kind}"
                if name in state:
                    found[f"{theirs}.{layer}.{kind}"] = state[name]
        found[f"txt_in.{kind}"] = state[f"context_embedder.{kind}"]
        found[f"img_in.{kind}"] = state[f"x_embedder.{kind}"]
        found[f"final_layer.linear.{kind}"] = state[f"proj_out.{kind}"]
        found[f"final_layer.adaLN_modulation.1.{kind}"] = _swapped(state[f"norm_out.linear.{kind}"])
    return found


def sd3_names(state: Tensors) -> Tensors:
    """Stability AI's names: `joint_blocks.0.x_block.attn.qkv.weight`, …"""
    found: Tensors = {"pos_embed": state["pos_embed.pos_embed"]}
    last = max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    for kind in ("weight", "bias"):
        for at in range(last + 1):
            found |= _joint_block(state, at, kind, last=at == last)
        for theirs, ours in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
            for layer, number in ((0, 1), (2, 2)):
                found[f"{theirs}.mlp.{layer}.{kind}"] = state[f"time_text_embed.{ours}.linear_{number}.{kind}"]
        found[f"x_embedder.proj.{kind}"] = state[f"pos_embed.proj.{kind}"]
        found[f"context_embedder.{kind}"] = state[f"context_embedder.{kind}"]
        found[f"final_layer.linear.{kind}"] = state[f"proj_out.{kind}"]
        found[f"final_layer.adaLN_modulation.1.{kind}"] = _swapped(state[f"norm_out.linear.{kind}"])
    return found


def _joint_block(state: Tensors, at: int, kind: str, *, last: bool) -> Tensors:
    ours, theirs = f"transformer_blocks.{at}.", f"joint_blocks.{at}."
    picture, words = f"{theirs}x_block.", f"{theirs}context_block."
    found: Tensors = {}
    for attention in ("attn", "attn2"):
        if f"{ours}{attention}.to_q.weight" not in state:
            continue
        joined = [state[f"{ours}{attention}.to_{one}.{kind}"] for one in "qkv"]
        found[f"{picture}{attention}.qkv.{kind}"] = torch.cat(joined)
        found[f"{picture}{attention}.proj.{kind}"] = state[f"{ours}{attention}.to_out.0.{kind}"]
        for one in "qk":
            if f"{ours}{attention}.norm_{one}.weight" in state:
                found[f"{picture}{attention}.ln_{one}.weight"] = state[f"{ours}{attention}.norm_{one}.weight"]
    found[f"{words}attn.qkv.{kind}"] = torch.cat([state[f"{ours}attn.add_{one}_proj.{kind}"] for one in "qkv"])
    for one in "qk":
        if f"{ours}attn.norm_added_{one}.weight" in state:
            found[f"{words}attn.ln_{one}.weight"] = state[f"{ours}attn.norm_added_{one}.weight"]
    found[f"{picture}adaLN_modulation.1.{kind}"] = state[f"{ours}norm1.linear.{kind}"]
    context = state[f"{ours}norm1_context.linear.{kind}"]
    found[f"{words}adaLN_modulation.1.{kind}"] = _swapped(context) if last else context
    for layer, name in (("mlp.fc1", "net.0.proj"), ("mlp.fc2", "net.2")):
        found[f"{picture}{layer}.{kind}"] = state[f"{ours}ff.{name}.{kind}"]
        if not last:
            found[f"{words}{layer}.{kind}"] = state[f"{ours}ff_context.{name}.{kind}"]
    if not last:
        found[f"{words}attn.proj.{kind}"] = state[f"{ours}attn.to_add_out.{kind}"]
    return found


def _swapped(tensor: Tensor) -> Tensor:
    first, second = tensor.chunk(2)
    return torch.cat([second, first])
