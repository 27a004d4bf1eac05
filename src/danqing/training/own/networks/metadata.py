"""What a network's file tells of its training, in the words that kohya's scripts write and A1111 shows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.sets.captions import tags_of
from danqing.spec.model import ModelInfo
from danqing.spec.training_methods import DiffusionRequest, NetworkShape
from danqing.spec.training_set import TrainingSet
from danqing.training.own.data import TrainingData
from danqing.training.own.methods.base import Settings

_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "danqing": "danqing-mini"}
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1/lora", "sd2": "stable-diffusion-v2-768-v/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora", "danqing": "danqing-mini/lora",
}  # fmt: skip
BASE_VERSION = "ss_base_model_version"
_OPTIMIZERS = {"adamw": "AdamW", "adamw8bit": "AdamW8bit", "muon": "Muon", "prodigy": "Prodigy"}


@dataclass(frozen=True)
class Told:
    """What there is to tell."""

    request: DiffusionRequest
    shape: NetworkShape
    settings: Settings
    model: ModelInfo
    made: TrainingSet
    data: TrainingData
    name: str
    step: int
    gamma: float = 0.0


def base_version(family: str) -> str:
    """A model's family as kohya's scripts name it, and as our catalogue reads it again."""
    return _VERSIONS.get(family, family)


def metadata_of(told: Told) -> dict[str, str]:
    """`ss_…` and `modelspec.…` for a safetensors header; every value is a string."""
    request, shape, settings, made = told.request, told.shape, told.settings, told.made
    own = [one for one in told.data.examples if not one.picture.regularisation]
    per_epoch = sum(one.picture.repeats for one in own)
    shown = settings.batch * request.accumulate
    side = told.data.options.size_px
    found: dict[str, Any] = {
        **_network(shape),
        "ss_output_name": told.name,
        "ss_sd_model_name": Path(told.model.path).name,
        "ss_new_sd_model_hash": told.model.sha256,
        "ss_sd_model_hash": told.model.sha256[:8],
        BASE_VERSION: base_version(told.model.family),
        "ss_v2": told.model.family == "sd2",
        "ss_resolution": f"({side}, {side})",
        "ss_enable_bucket": request.buckets,
        "ss_num_train_images": per_epoch,
        "ss_num_reg_images": len(told.data.examples) - len(own),
        "ss_num_batches_per_epoch": -(-per_epoch // settings.batch),
        "ss_num_epochs": -(-told.step * shown // max(1, per_epoch)),
        "ss_batch_size_per_device": settings.batch,
        "ss_total_batch_size": shown,
        "ss_gradient_accumulation_steps": request.accumulate,
        "ss_gradient_checkpointing": request.gradient_checkpointing,
        "ss_steps": told.step,
        "ss_max_train_steps": settings.steps,
        "ss_learning_rate": settings.learning_rate,
        "ss_unet_lr": settings.learning_rate,
        "ss_text_encoder_lr": shape.text_learning_rate or (settings.learning_rate if shape.text_encoder else 0.0),
        "ss_lr_scheduler": request.schedule,
        "ss_lr_warmup_steps": request.warmup_steps,
        "ss_optimizer": _OPTIMIZERS[request.optimizer],
        "ss_max_grad_norm": request.grad_clip,
        "ss_mixed_precision": request.precision,
        "ss_seed": request.seed,
        "ss_clip_skip": 1,
        "ss_min_snr_gamma": told.gamma,
        "ss_noise_offset": request.noise_offset,
        "ss_caption_dropout_rate": request.caption_dropout,
        "ss_caption_tag_dropout_rate": request.tag_dropout,
        "ss_shuffle_caption": request.shuffle_tags,
        "ss_keep_tokens": request.keep_tags,
        "ss_prior_loss_weight": told.data.options.prior_weight,
        "ss_dataset_dirs": {made.name: {"n_repeats": 1, "img_count": len(own)}},
        "ss_tag_frequency": {made.name: _tags(told)},
        "ss_training_comment": made.licence_note[:1000],
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": _ARCHITECTURES.get(told.model.family, told.model.family),
        "modelspec.implementation": "danqing",
        "modelspec.title": told.name,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.trigger_phrase": made.trigger,
        "modelspec.license": made.licence_note[:1000],
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
    }


def _network(shape: NetworkShape) -> dict[str, Any]:
    """Module and arguments as kohya's and LyCORIS's trainers name them."""
    arguments: dict[str, Any] = {}
    if shape.conv_rank:
        arguments |= {"conv_dim": shape.conv_rank, "conv_alpha": shape.conv_alpha or float(shape.conv_rank)}
    lycoris = shape.kind != "lora"
    if lycoris:
        arguments["algo"] = {"dora": "lora"}.get(shape.kind, shape.kind)
        if shape.kind == "dora":
            arguments["dora_wd"] = True
        if shape.kind == "lokr":
            arguments["factor"] = shape.lokr_factor
    return {
        "ss_network_module": "lycoris.kohya" if lycoris else "networks.lora",
        "ss_network_dim": shape.rank,
        "ss_network_alpha": float(shape.rank if shape.alpha is None else shape.alpha),
        "ss_network_dropout": shape.dropout or "None",
        "ss_network_args": arguments,
    }


def _tags(told: Told) -> dict[str, int]:
    """How often each tag was shown in an epoch; the trigger word goes first where counts are equal."""
    counts: Counter[str] = Counter()
    for one in told.data.examples:
        if one.picture.regularisation:
            continue
        for tag in tags_of(one.caption):
            counts[tag] += one.picture.repeats
    return dict(counts.most_common())
