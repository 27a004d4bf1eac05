"""A model folder of Stable Diffusion XL's shape with random weights, for what depends on memory alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks._models import fill
from danqing.models.diffusers_folders import CHECKPOINT_DIR
from danqing.models.singlefile.facts import CLIP_TOKENIZER, facts_of


def write_sdxl(root: Path, name: str, dtype: torch.dtype = torch.float16) -> Path:
    """Write it as diffusers does; 6.9 GB.

    Args:
        root: Of models.
        name: Of the folder.
        dtype: Number format of the files.
    """
    folder, facts = root / CHECKPOINT_DIR / name, facts_of("sdxl")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(facts["unet"])
        vae = AutoencoderKL.from_config(facts["vae"])
        first = CLIPTextModel(CLIPTextConfig(**facts["texts"][0]["config"]))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**facts["texts"][1]["config"]))
    for part, module in (("unet", unet), ("vae", vae), ("text_encoder", first), ("text_encoder_2", second)):
        fill(module, dtype).save_pretrained(folder / part)
    for tokenizer in ("tokenizer", "tokenizer_2"):
        shutil.copytree(CLIP_TOKENIZER, folder / tokenizer, dirs_exist_ok=True)
    DDIMScheduler(**facts["scheduler"]).save_pretrained(folder / "scheduler")
    about = {"_class_name": "StableDiffusionXLPipeline"}
    (folder / "model_index.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "danqing.json").write_text(
        json.dumps({"family": "sdxl", "defaults": {"size_px": 1024}}), encoding="utf-8"
    )
    return folder
