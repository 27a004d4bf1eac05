"""The checkpoints that all sides paint with: random weights in the published layouts, and the built-in model.

Weights are random: the numbers do not change the time, and nothing need be downloaded.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks._models import fill
from benchmarks.peers._jobs import Checkpoint
from benchmarks.peers._names import Tensors, clip_names, control_names, lora_names, unet_names, vae_names
from danqing.models.diffusers_folders import BUILTIN_DIR
from danqing.models.singlefile.facts import CLIP_TOKENIZER, facts_of
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.training.builtin.export import MODEL_INDEX

DTYPE = torch.float16
LORA_RANK = 16
INDEX = {**MODEL_INDEX, "_diffusers_version": "0.35.0"}


@dataclass(frozen=True)
class Plan:
    """Arguments of the four modules of a Stable Diffusion 1.

    Attributes:
        unet: Of UNet2DConditionModel.
        vae: Of AutoencoderKL.
        text: Of CLIPTextConfig.
        hint: Widths of a ControlNet's first convolutions.
        published: Whether these are the published shapes.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]
    hint: tuple[int, ...] = (16, 32, 96, 256)
    published: bool = True


def sd15() -> Plan:
    """Stable Diffusion 1.5 in its full size: 860 M + 84 M + 123 M numbers."""
    facts = facts_of("sd1")
    return Plan(facts["unet"], facts["vae"], facts["texts"][0]["config"])


def tiny() -> Plan:
    """The same architecture, tiny: for a quick run."""
    facts = copy.deepcopy(facts_of("sd1"))
    unet = facts["unet"] | {
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "cross_attention_dim": 64,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "sample_size": 8,
    }
    vae = facts["vae"] | {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1, "sample_size": 64}
    text = facts["texts"][0]["config"] | {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
    }
    return Plan(unet, vae, text, (8, 8, 16, 16), published=False)


def made(folder: Path, name: str, small: bool, second: bool) -> Checkpoint:
    """A checkpoint of one of the two shapes; the first of a shape with a ControlNet and a LoRA.

    Args:
        folder: Of models.
        name: Stem of the file.
        small: Tiny instead of Stable Diffusion 1.5's shape.
        second: Another one to change to.
    """
    plan = tiny() if small else sd15()
    written = write(folder, name, plan, seed=2 if second else 1)
    return written if second else with_extras(written, plan)


def write(folder: Path, name: str, plan: Plan, seed: int) -> Checkpoint:
    """A checkpoint in one file, its configs beside it, as every program can read it.

    Args:
        folder: Of models, laid out as A1111 has it; what is there already is kept.
        name: Stem of the file.
        plan: Its shapes.
        seed: Of its weights.
    """
    path = folder / "Stable-diffusion" / f"{name}.safetensors"
    parts = folder / "configs" / name
    if not path.exists():
        _write_parts(parts, plan)
        _save(_tensors(plan, seed), path)
    return Checkpoint(
        name=name,
        path=str(path),
        parts=str(parts),
        models_dir=str(folder),
        size_bytes=path.stat().st_size,
        published_shape=plan.published,
    )


def _tensors(plan: Plan, seed: int) -> Tensors:
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel.from_config(dict(plan.unet)), AutoencoderKL.from_config(dict(plan.vae))
        text = CLIPTextModel(CLIPTextConfig(**plan.text))
    found = unet_names(fill(unet, DTYPE, seed).state_dict())
    found |= vae_names(fill(vae, DTYPE, seed + 1).state_dict())
    return found | clip_names(fill(text, DTYPE, seed + 2).state_dict())


def _write_parts(parts: Path, plan: Plan) -> None:
    """A diffusers folder without weights: what `from_single_file` would otherwise ask a hub for."""
    with torch.device("meta"):
        UNet2DConditionModel.from_config(dict(plan.unet)).save_config(parts / "unet")
        AutoencoderKL.from_config(dict(plan.vae)).save_config(parts / "vae")
    CLIPTextConfig(**plan.text, architectures=["CLIPTextModel"]).save_pretrained(parts / "text_encoder")
    shutil.copytree(CLIP_TOKENIZER, parts / "tokenizer", dirs_exist_ok=True)
    about = json.loads((parts / "tokenizer" / "tokenizer_config.json").read_text(encoding="utf-8"))
    about |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (parts / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    DDIMScheduler(
        **facts_of("sd1")["scheduler"], clip_sample=False, set_alpha_to_one=False, steps_offset=1
    ).save_config(parts / "scheduler")
    (parts / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")


def with_extras(checkpoint: Checkpoint, plan: Plan) -> Checkpoint:
    """The checkpoint with a ControlNet (one file, and a diffusers folder) and a LoRA of its shape."""
    folder = Path(checkpoint.models_dir)
    control = folder / "ControlNet" / f"{checkpoint.name}-control.safetensors"
    control_folder = folder / "configs" / f"{checkpoint.name}-control"
    lora = folder / "Lora" / f"{checkpoint.name}-lora.safetensors"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(plan.unet))
    if not control.exists():
        with torch.device("meta"):
            net = ControlNetModel.from_unet(
                unet, conditioning_embedding_out_channels=plan.hint, load_weights_from_unet=False
            )
        net = fill(net, DTYPE, 5)
        net.save_pretrained(control_folder)
        _save(control_names(net.state_dict()), control)
    if not lora.exists():
        _save(lora_names(unet.state_dict(), LORA_RANK, torch.Generator().manual_seed(6)), lora)
    return Checkpoint(
        **{
            **vars(checkpoint),
            "control_file": str(control),
            "control_folder": str(control_folder),
            "lora_file": str(lora),
        }
    )


def _save(tensors: Tensors, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file({name: one.contiguous() for name, one in tensors.items()}, part)
    part.replace(path)


def builtin(*, few_steps: bool = False) -> Checkpoint | None:
    """The model that comes with Danqing, or its 4-step form; None where the package lacks it."""
    folder = Path(BUILTIN_DIR) / BUILTIN_MODEL
    lora = folder.with_name(f"{BUILTIN_MODEL}-4step") / "pytorch_lora_weights.safetensors"
    if not (folder / "model_index.json").exists() or (few_steps and not lora.exists()):
        return None
    return Checkpoint(
        name=lora.parent.name if few_steps else BUILTIN_MODEL,
        path=str(folder),
        parts=str(folder),
        size_bytes=sum(file.stat().st_size for file in folder.rglob("*.safetensors")),
        published_shape=False,
        fused_lora=str(lora) if few_steps else "",
    )


def pictures(folder: Path, side_px: int) -> tuple[Path, Path]:
    """An init picture and a control map of that size: a house under a sun, and its outline."""
    folder.mkdir(parents=True, exist_ok=True)
    init, control = folder / f"init-{side_px}.png", folder / f"control-{side_px}.png"
    u = side_px / 16
    house = [(3 * u, 9 * u), (8 * u, 4 * u), (13 * u, 9 * u), (13 * u, 14 * u), (3 * u, 14 * u)]
    sun = (11 * u, u, 14 * u, 4 * u)
    painted = Image.new("RGB", (side_px, side_px), (150, 190, 230))
    draw = ImageDraw.Draw(painted)
    draw.polygon(house, fill=(200, 90, 60))
    draw.ellipse(sun, fill=(250, 220, 90))
    painted.save(init)
    lines = Image.new("RGB", (side_px, side_px))
    draw = ImageDraw.Draw(lines)
    draw.polygon(house, outline=(255, 255, 255))
    draw.ellipse(sun, outline=(255, 255, 255))
    lines.save(control)
    return init, control
