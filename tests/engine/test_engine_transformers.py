"""SD 3 and FLUX painted by graphs are what PyTorch paints: alone, in company, with LoRA; else PyTorch paints them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import distance
from safetensors.torch import save_file
from watched import Together, easel_by

from danqing.engine import room
from danqing.engine.calls import Denoise
from easel import Easel
from tiny_transformers import flux_names, make_flux, make_sd3, sd3_names

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.engine.openvino_executor import OpenVinoExecutor

CLOSE = 2e-4
"""Latents of a whole picture in float32."""


class Routed(Together, OpenVinoExecutor):
    """The real executor, which notes what ran each row."""


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dit")
    for name, made, renamed in (("sd3", make_sd3(), sd3_names), ("dev", make_flux(), flux_names)):
        made.save_folder(root / "Stable-diffusion" / name)
        save_lora(root / "Lora" / f"{name}-style.safetensors", renamed(made.transformer.state_dict()))
    return root


def save_lora(path: Path, published: dict[str, torch.Tensor]) -> None:
    """kohya's, for every linear layer of the blocks."""
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in published.items():
        if name.endswith(".weight") and weight.ndim == 2 and "_blocks." in name and "norm" not in name:
            flat = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
            tensors[f"{flat}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator)
            tensors[f"{flat}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.05
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


@pytest.fixture
def by_graph(models_dir: Path) -> Easel:
    return easel_by(Routed, models_dir)


def check(by_torch: Easel, by_graph: Easel, way: str, **fields: Any) -> None:
    """The same latents, by the way that is named."""
    words = {"sampling": {"steps": 4}, "width_px": 64, "height_px": 64, **fields}
    wanted = by_torch.latents(by_torch.plans(**words))
    by_graph.executor.ways.clear()
    found = by_graph.latents(by_graph.plans(**words))
    assert set(by_graph.executor.ways) == {way}
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("model", ["sd3", "dev"])
def test_pictures_and_networks(by_torch: Easel, by_graph: Easel, model: str):
    check(by_torch, by_graph, "graph", model=model)
    check(by_torch, by_graph, "graph", model=model, prompt="blue dog, " + "cat, " * 90, width_px=88)
    check(by_torch, by_graph, "graph", model=model, prompt=f"the red cat<lora:{model}-style:0.8>")
    check(by_torch, by_graph, "torch", model=model, prompt=f"cat<lora:{model}-style:te=0:unet=0.2@0,1@0.6>")
    unet = by_graph.model(model).unet
    weights = sum(one.numel() * 4 for one in unet.parameters())
    assert by_graph.executor.graphs.bytes_of(unet) == pytest.approx(2 * weights, rel=0.02)
    assert by_graph.loader.beside_bytes(by_graph.model(model)) >= 2 * weights * 0.98
    assert not by_graph.executor.graphs.reasons


def test_texts_of_several_lengths_in_company_are_what_they_are_alone(by_graph: Easel):
    prompts = ("the red cat", "blue dog, " + "cat, " * 90, "the red cat<lora:sd3-style:0.8>")
    words = {"model": "sd3", "sampling": {"steps": 4}, "width_px": 64, "height_px": 64}
    plans = [one for seed, text in enumerate(prompts) for one in by_graph.plans(prompt=text, seed=seed, **words)]
    alone = [by_graph.latents([one])[0] for one in plans]
    together = by_graph.latents(plans)
    shared = [calls for calls in by_graph.executor.ran if sum(isinstance(one, Denoise) for one in calls) > 1]
    assert shared, "they must have shared batches"
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_whole_picture_in_bfloat16_is_the_one_of_float32(by_torch: Easel, by_graph: Easel):
    for model in ("sd3", "dev"):
        words = {"model": model, "sampling": {"steps": 8}, "width_px": 64, "height_px": 64}
        wanted = by_torch.pixels(**words).astype(float)
        for precision, bar_db in (("float32", 45.0), ("bfloat16", 35.0)):
            error = by_graph.pixels(**words, precision=precision) - wanted
            assert 10 * np.log10(255**2 / max(float((error**2).mean()), 1e-6)) >= bar_db, (model, precision)
    assert set(by_graph.executor.ways) == {"graph"}


CACHED = {"sampling": {"steps": 7}, "width_px": 64, "height_px": 64}


def reuses(easel: Easel) -> list[bool]:
    """Of each Denoise that ran, whether it used what was kept."""
    calls = [one for batch in easel.executor.ran for one in batch if isinstance(one, Denoise)]
    return [one.features is not None and one.features.reuse for one in calls]


@pytest.mark.parametrize(("model", "branch"), [("sd3", 0), ("dev", 1)])
def test_deep_blocks_are_left_out_by_graphs_as_by_pytorch(by_torch: Easel, by_graph: Easel, model: str, branch: int):
    words = {**CACHED, "model": model, "shortcuts": {"cache_interval": 3, "cache_branch": branch}}
    for easel in (by_torch, by_graph):
        easel.executor.ran.clear()
    check(by_torch, by_graph, "graph", **words)
    assert reuses(by_torch) == reuses(by_graph) == [step % 3 != 0 for step in range(7)]
    ways = (words["shortcuts"], {})
    cached, exact = (by_torch.latents(by_torch.plans(**{**words, "shortcuts": one}))[0] for one in ways)
    assert distance(cached, exact) > 1e-3
    neutral = by_torch.latents(by_torch.plans(**{**words, "shortcuts": {"cache_interval": 1}}))[0]
    assert torch.equal(neutral, exact)
    check(by_torch, by_graph, "graph", **{**words, "prompt": f"the red cat<lora:{model}-style:0.8>"})


@pytest.mark.parametrize("model", ["sd3", "dev"])
def test_what_is_kept_is_never_another_rows(by_torch: Easel, by_graph: Easel, model: str):
    shortcuts = ({}, {"cache_interval": 2}, {"cache_interval": 3, "cache_branch": 1}, {"cache_interval": 2})
    for easel in (by_torch, by_graph):
        plans = [
            one
            for seed, own in enumerate(shortcuts)
            for one in easel.plans(**CACHED, model=model, seed=seed, shortcuts=own, prompt=f"cat {'dog ' * seed}")
        ]
        alone = [easel.latents([one])[0] for one in plans]
        together = easel.latents(plans)
        assert all(distance(a, b) < 1e-5 for a, b in zip(alone, together, strict=True))
        if easel is by_graph:
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_without_room_for_the_weights_once_more_pytorch_computes(
    by_torch: Easel, by_graph: Easel, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as short:
        short.setattr(room, "graph_bytes", lambda _: 1 << 60)
        check(by_torch, by_graph, "torch", model="sd3")
    # It stays so for as long as the model is loaded: pictures do not change with what other programs hold.
    check(by_torch, by_graph, "torch", model="sd3")
    check(by_torch, by_graph, "graph", model="dev")
