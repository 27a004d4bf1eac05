"""Writes the model in diffusers' layout, float16, file by file under temporary names."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import save_file

from danqing.training.builtin.captions import style_words
from danqing.training.builtin.clip import MiniClip
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.latents import encode
from danqing.training.builtin.loop import Run
from danqing.training.builtin.pool import Pool, to_tensor_scale
from danqing.training.builtin.tokenizer import save_tokenizer
from danqing.training.builtin.unet import Models

MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


# transformers' CLIPImageProcessor, written out: saving one of its objects needs torchvision.
PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 3,
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@dataclass(frozen=True)
class PreviewMap:
    """Latent → RGB in [0, 1] at latent size: `factors` `[c][3]`, `bias` `[3]`."""

    factors: list[list[float]]
    bias: list[float]


def fit_preview(vae: AutoencoderKL, pool: Pool, precision: str) -> PreviewMap:
    """Least squares from latents to the pictures reduced eightfold, over up to 256 painted scenes."""
    rows = np.linspace(0, len(pool.rgb) - 1, min(len(pool.rgb), 256)).astype(int)
    variants = np.arange(len(rows)) % pool.rgb.shape[1]
    pictures = to_tensor_scale(np.stack([pool.rgb[r, v] for r, v in zip(rows, variants, strict=True)]))
    latents = encode(vae, pictures, next(vae.parameters()).device, precision)
    n, c, h, w = latents.shape
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(pictures), (h, w)) * 0.5 + 0.5
    a = np.c_[latents.permute(0, 2, 3, 1).reshape(-1, c).numpy(), np.ones(n * h * w)]
    solution = np.linalg.lstsq(a, small.permute(0, 2, 3, 1).reshape(-1, 3).numpy(), rcond=None)[0]
    return PreviewMap(np.round(solution[:-1], 5).tolist(), np.round(solution[-1], 5).tolist())


def make_scheduler(config: TrainConfig) -> DDIMScheduler:
    """The training process as a diffusers scheduler: linear β, v-prediction, 1000 steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def _save_half(module: Any, folder: Path) -> None:
    """Saves a float16 copy; the module itself stays as it is."""
    copy.deepcopy(module).half().save_pretrained(str(folder), safe_serialization=True)


def _widen(path: Path) -> None:
    """Says float32 in a transformers config: its loader, unlike diffusers', would else keep float16 unasked."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def describe(config: TrainConfig, pool: Pool, run: Run, preview: PreviewMap) -> dict[str, Any]:
    """`danqing.json`: what the studio needs to know about the model."""
    return {
        "name": "danqing-mini",
        "family": "sd1",
        "native_size_px": config.data.size_px,
        "styles": sorted({style_words(p.style, "en")[0] for p in pool.pictures}),
        "locales": ["en", "zh-Hans", "zh-Hant"],
        "concepts": len({p.concept.hexcode for p in pool.pictures}),
        "pictures": len(pool.pictures),
        "prediction_type": "v_prediction",
        "config": config.name,
        "config_sha256": config.digest(),
        "samples_seen": run.progress.samples,
        "training_seconds": round(run.progress.seconds, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "latent_rgb_factors": preview.factors,
        "latent_rgb_bias": preview.bias,
    }


def export_clip(clip: MiniClip, vocabulary: str, config: TrainConfig, target: Path) -> None:
    """Writes mini-CLIP: the vision tower in transformers' layout, the text projection, the words it may answer with.

    Its text tower is the model's own text encoder.
    """
    size_px = config.data.size_px
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save_half(clip.vision, folder / "image_encoder")
        _widen(folder / "image_encoder" / "config.json")
        processor = PREPROCESSOR | {
            "size": {"shortest_edge": size_px},
            "crop_size": {"height": size_px, "width": size_px},
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
        tensors = {
            "text_projection.weight": clip.text_projection.weight.detach().half().contiguous(),
            "logit_scale": clip.logit_scale.detach().float(),
            "logit_bias": clip.logit_bias.detach().float(),
        }
        save_file(tensors, folder / "text_projection.safetensors")
        (folder / "vocabulary.json").write_text(vocabulary, encoding="utf-8")
        about = {"name": "danqing-mini-clip", "kind": "clip", "config": config.name, "config_sha256": config.digest()}
        (folder / "danqing.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        publish(folder, target)


def publish(source: Path, target: Path) -> None:
    """Moves every file of `source` over `target`, each by a rename; `model_index.json` and `danqing.json` go last."""
    files = sorted(
        (p for p in source.rglob("*") if p.is_file()),
        key=lambda p: (p.name in {"model_index.json", "danqing.json"}, str(p)),
    )
    for file in files:
        goal = target / file.relative_to(source)
        goal.parent.mkdir(parents=True, exist_ok=True)
        staged = goal.with_name(goal.name + ".tmp")
        shutil.copyfile(file, staged)
        staged.replace(goal)


def export_model(models: Models, vae: AutoencoderKL, about: dict[str, Any], config: TrainConfig, target: Path) -> None:
    """Writes the whole model folder; a reader never sees half a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tokenizer(models.tokenizer, folder / "tokenizer")
        _save_half(models.text, folder / "text_encoder")
        _widen(folder / "text_encoder" / "config.json")
        _save_half(models.unet, folder / "unet")
        _save_half(vae, folder / "vae")
        make_scheduler(config).save_pretrained(str(folder / "scheduler"))
        version = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))["_diffusers_version"]
        index = MODEL_INDEX | {"_diffusers_version": version}
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        (folder / "danqing.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        publish(folder, target)
