"""Writes models that are a small change of danqing-mini: a LoRA, another first convolution, danqing.json."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.export import publish
from danqing.training.builtin.loop import Progress
from danqing.training.builtin.lora import Lora

LORA_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' own name, which its loader takes unasked."""
CONV_IN_FILE = "conv_in.safetensors"


def _about(target: Path, base: str, config: TrainConfig, progress: Progress) -> dict[str, Any]:
    return {
        "name": target.name,
        "kind": "derived",
        "base": base,
        "lora": LORA_FILE,
        "config": config.name,
        "config_sha256": config.digest(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "samples": progress.samples,
        "training_seconds": round(progress.seconds, 1),
    }


def export_few_step(lora: Lora, config: TrainConfig, progress: Progress, target: Path) -> None:
    """Writes the few-step variant; `target` is `<base>-4step`, beside its base."""
    about = _about(target, target.name.rpartition("-")[0], config, progress) | {
        "made_by": "danqing.training.builtin.distill",
        "description": f"Drafts in {config.distill.steps} steps, without guidance.",
        "sampler": "Euler",
        "schedule": "KL Optimal",
        "steps": config.distill.steps,
        "guidance_scale": 1.0,
    }
    _write(about, {LORA_FILE: lora.tensors()}, target)


def export_inpaint(lora: Lora, conv_in: nn.Conv2d, config: TrainConfig, progress: Progress, target: Path) -> None:
    """Writes the inpainting variant; `target` is `<base>-inpaint`, beside its base."""
    about = _about(target, target.name.rpartition("-")[0], config, progress) | {
        "made_by": "danqing.training.builtin.inpaint_stage",
        "description": "Repaints the masked part of a picture so that it joins what is around it.",
        "conv_in": CONV_IN_FILE,
    }
    layer = {f"conv_in.{name}": tensor.half().cpu().contiguous() for name, tensor in conv_in.state_dict().items()}
    _write(about, {LORA_FILE: lora.tensors(), CONV_IN_FILE: layer}, target)


def _write(about: dict[str, Any], files: dict[str, dict[str, torch.Tensor]], target: Path) -> None:
    """All files in a folder of their own first; a reader never sees half of one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, tensors in files.items():
            save_file(tensors, folder / file, metadata={"format": "pt"})
        (folder / "danqing.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        publish(folder, target)
