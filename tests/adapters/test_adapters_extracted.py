"""From the tools to the picture: base + extracted LoRA paints what the fine-tuned checkpoint paints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_checkpoints
from danqing.models.tools.extract import ExtractTask, extract
from danqing.models.tools.merge import MergeTask, merge
from easel import Easel

Tensors = dict[str, torch.Tensor]
FIELDS = {"width_px": 64, "height_px": 64, "seed": 4, "precision": "float32"}


def tuned(tensors: Tensors) -> Tensors:
    """The checkpoint after a training that changed attention, in text encoder and UNet."""
    generator = torch.Generator().manual_seed(8)
    return {
        name: value + 0.08 * torch.randn(value.shape, generator=generator)
        if name.endswith("weight") and (".attn" in name or "self_attn" in name)
        else value
        for name, value in tensors.items()
    }


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    home = tmp_path_factory.mktemp("models")
    tiny = tiny_checkpoints.make("sd1")
    folder = home / "Stable-diffusion"
    tiny.save_file(folder / "base.safetensors")
    tiny.save_file(folder / "tuned.safetensors", tuned)
    (home / "Lora").mkdir()
    task = ExtractTask(folder / "tuned.safetensors", folder / "base.safetensors", home / "Lora" / "learnt.safetensors")
    told = extract(ExtractTask(**{**vars(task), "rank": 64, "to": "fp32"}))
    assert told["explained"] > 0.999
    return Easel(home)


def test_the_lora_makes_the_base_paint_like_the_tuned_one(easel: Easel):
    wanted = easel.pixels(model="tuned", prompt="a red cat", **FIELDS)
    plain = easel.pixels(model="base", prompt="a red cat", **FIELDS)
    found = easel.pixels(model="base", prompt="a red cat<lora:learnt:1>", **FIELDS)
    assert np.abs(plain - wanted).mean() > 2
    assert np.abs(found - wanted).max() <= 3


def test_half_the_lora_is_the_half_merged_checkpoint(easel: Easel, tmp_path: Path):
    folder = Path(easel.catalog.find("base").path).parent
    half = folder / "half.safetensors"
    merge(MergeTask(folder / "base.safetensors", folder / "tuned.safetensors", half, alpha=0.5))
    half.with_suffix(".danqing.json").write_text((folder / "base.danqing.json").read_text())
    wanted = easel.pixels(model="half", prompt="a red cat", **FIELDS)
    found = easel.pixels(model="base", prompt="a red cat<lora:learnt:0.5>", **FIELDS)
    assert np.abs(found - wanted).max() <= 3
