"""The command that fills the GPU's table runs from end to end on a CPU, and keeps what it has."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.models.catalog import Catalog

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.cuda")


@pytest.mark.filterwarnings("ignore")
def test_every_stage_runs_and_is_kept(cuda, tmp_path, capsys):
    assert cuda.main(["--quick", "--json", "--device", "cpu", "--repeats", "1", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert not [key for key in result["details"] if key.startswith(("failed", "skipped"))], result["details"]
    wanted = {"picture_s", "ratio_to_diffusers", "share_of_peak", "ratio_to_queue", "company_decibels"}
    assert wanted <= result.keys()
    assert all(result[name] > 0 for name in wanted)
    kept = json.loads((tmp_path / "cuda-partial.json").read_text(encoding="utf-8"))
    assert kept["details"]["memory_sdxl"] == "no GPU"
    assert wanted <= kept.keys()


def test_a_stage_that_fails_or_comes_too_late_leaves_the_others(cuda, tmp_path):
    report = importlib.import_module("benchmarks._report")
    table = cuda.Table(report.Options(quick=True, out=tmp_path), torch.device("cpu"))
    cuda._stage(table, "bad", 0, lambda: 1 / 0)
    cuda._stage(table, "late", 10_000, lambda: pytest.fail("there was no time"))
    cuda._stage(table, "good", 0, lambda: table.figures.update(x_s=1.0))
    kept = json.loads((tmp_path / "cuda-partial.json").read_text(encoding="utf-8"))
    assert "ZeroDivisionError" in kept["details"]["failed_bad"]
    assert "left" in kept["details"]["skipped_late"]
    assert kept["x_s"] == 1.0


def test_the_verdict_needs_every_figure(cuda):
    met = {
        "ratio_to_diffusers": 3.0,
        "ratio_to_queue": 2.5,
        "ratio_crowd_to_diffusers": 6.0,
        "share_of_peak": 0.5,
        "company_decibels": 41.0,
        "picture_s": 0.3,
        "memory_sd15_gib": 3.9,
        "memory_sdxl_gib": 5.9,
    }
    assert cuda._passed(met)
    assert not any(cuda._passed({key: value for key, value in met.items() if key != left}) for left in met)
    assert not cuda._passed({**met, "picture_s": 0.36})


def test_decibels_of_pictures(cuda):
    black = Image.new("RGB", (8, 8))
    other = Image.fromarray(np.full((8, 8, 3), 16, np.uint8))
    assert cuda.decibels(black, black) == 99.0
    assert round(cuda.decibels(black, other), 1) == round(20 * np.log10(255 / 16), 1)


def test_a_folder_of_the_larger_shape_is_known_for_what_it_is(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT))
    models = importlib.import_module("benchmarks._cuda_models")
    facts = copy.deepcopy(models.facts_of("sdxl"))
    facts["unet"] |= {"block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 4], "layers_per_block": 1}
    facts["unet"] |= {"transformer_layers_per_block": [1, 1, 1], "cross_attention_dim": 64}
    facts["unet"] |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 32 + 6 * 8}
    facts["vae"] |= {"block_out_channels": [32] * 4, "layers_per_block": 1}
    for text in facts["texts"]:
        text["config"] |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        text["config"] |= {"num_attention_heads": 2, "projection_dim": 32}
    monkeypatch.setattr(models, "facts_of", lambda _: facts)
    models.write_sdxl(tmp_path, "sdxl")
    (info,) = (one for one in Catalog(tmp_path).list() if one.name == "sdxl")
    assert (info.family, info.defaults.size_px) == ("sdxl", 1024)
