"""OpenVINO paints what PyTorch paints; what a graph cannot express is painted by PyTorch, chosen by the Call alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import distance
from watched import Together, easel_by, models_with_networks

import tiny_networks
from danqing.engine import executors
from danqing.engine.calls import Denoise
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader
from danqing.spec.errors import UnsupportedError
from easel import Easel, box_mask, numbers, photo

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.engine import openvino_executor
from danqing.engine.openvino_executor import OpenVinoExecutor

CLOSE = 2e-4
"""Latents of a whole picture in float32, after a few steps that each amplify what the last one rounded."""


class Routed(Together, OpenVinoExecutor):
    """The real executor, which notes what ran each row."""


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = models_with_networks(tmp_path_factory.mktemp("graphs"), "ink", "wash", "oil")
    tiny_networks.save_hypernetwork(root / "hypernetworks" / "paper.pt", [32, 64], activation="relu", layer_norm=True)
    return root


@pytest.fixture
def by_graph(models_dir: Path) -> Easel:
    return easel_by(Routed, models_dir)


def check(by_torch: Easel, by_graph: Easel, way: str, **fields: Any) -> None:
    """The same latents, by the way that is named."""
    words = {"sampling": {"sampler": "euler", "steps": 6}, **fields}
    wanted = by_torch.latents(by_torch.plans(**words))
    found = by_graph.latents(by_graph.plans(**words))
    assert set(by_graph.executor.ways) == {way}
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))


def test_plain_pictures_of_any_shape_and_number_of_words(by_torch, by_graph):
    check(by_torch, by_graph, "graph")
    check(by_torch, by_graph, "graph", width_px=128, height_px=64, prompt="blue dog, " + "cat, " * 90)
    check(by_torch, by_graph, "graph", prompt="a dog AND a cat", guidance={"scale": 1.0})


def test_pictures_in_and_out(by_torch, by_graph):
    words = {"kind": "img2img", "strength": 0.6, "sampling": {"sampler": "euler", "steps": 6}}
    wanted = by_torch.pixels(**words, image=by_torch.picture(photo(64, 64)))
    found = by_graph.pixels(**words, image=by_graph.picture(photo(64, 64)))
    assert np.abs(wanted - found).max() <= 1
    reasons = by_graph.executor.graphs.reasons
    assert not reasons
    assert by_graph.executor.graphs.has(by_graph.model().vae, "encoder")
    assert by_graph.executor.graphs.has(by_graph.model().vae, "decoder")


def test_controlnets_steer_graphs(by_torch, by_graph):
    for one in (by_torch, by_graph):
        one.shown = one.picture(photo(64, 64))
    unit = {"model": "live", "annotator": "none", "weight": 0.8, "mode": "prompt", "end": 0.6}
    half = {"mask": by_torch.picture(box_mask(64, 64, (0, 0, 32, 64)))}
    by_graph.picture(box_mask(64, 64, (0, 0, 32, 64)))
    for more in ({}, half):
        check(by_torch, by_graph, "graph", controls=[{**unit, **more, "image": by_torch.shown}])
    call = next(call for calls in by_graph.executor.ran for call in calls if isinstance(call, Denoise))
    net = by_graph.loader.controlnet(call.controls[0].net, "float32")
    assert by_graph.executor.graphs.has(net.net, "controlnet")


def test_networks_of_constant_strength_are_merged(by_torch, by_graph):
    check(by_torch, by_graph, "graph", prompt="the red cat<lora:ink:0.8>")
    check(by_torch, by_graph, "graph", prompt="the red cat<lora:wash:0.5><lora:ink:-0.4>")


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "the red cat<lora:oil:te=0.2:unet=0.2@0,1@0.6>"},
        {"prompt": "blue dog<hypernet:paper:0.9>"},
        {"prompt": "the red cat<lora:ink:0.8>", "sampling": {"sampler": "euler", "steps": 3}},
    ],
    ids=["changing strength", "hypernetwork", "too few steps"],
)
def test_what_graphs_do_not_express_is_painted_by_pytorch(by_torch, by_graph, fields):
    check(by_torch, by_graph, "torch", **fields)


def test_perturbed_rows_go_their_own_way(by_torch, by_graph, monkeypatch):
    monkeypatch.setattr(openvino_executor, "MERGED_FROM_STEPS", 5)
    words = {"guidance": {"scale": 5.0, "pag_scale": 2.0}, "sampling": {"sampler": "euler", "steps": 4}}
    wanted = by_torch.latents(by_torch.plans(**words))[0]
    assert distance(by_graph.latents(by_graph.plans(**words))[0], wanted) < CLOSE
    assert by_graph.executor.ways == ["graph", "graph", "torch"] * 4


def test_a_picture_does_not_depend_on_its_company(by_graph):
    prompts = ("the red cat", "the red cat<lora:ink:0.8>", "blue dog<hypernet:paper:0.9>", "a dog AND a cat")
    plans = [
        one
        for seed, prompt in enumerate(prompts)
        for one in by_graph.plans(prompt=prompt, seed=seed, sampling={"sampler": "euler", "steps": 5})
    ]
    alone = [by_graph.latents([one])[0] for one in plans]
    together = by_graph.latents(plans)
    assert len(by_graph.executor.ran) < 5 * len(plans) + 12, "they must have shared batches"
    assert all(distance(a, b) < 1e-5 for a, b in zip(alone, together, strict=True))


def test_sets_of_networks_that_take_turns_do_not_drive_each_other_out(by_torch, by_graph, monkeypatch):
    prompts = [f"the red cat<lora:{name}:0.7>" for name in ("ink", "wash", "oil")]
    words = {"sampling": {"sampler": "euler", "steps": 6}}
    plans = [one for prompt in prompts for one in by_graph.plans(prompt=prompt, **words)]
    wanted = by_torch.latents([one for prompt in prompts for one in by_torch.plans(prompt=prompt, **words)])
    found = by_graph.latents(plans)
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))
    ways = by_graph.executor.ways
    # Six steps, three pictures, two rows each: the third set finds both places taken.
    assert ways.count("torch") == 12
    assert ways.count("graph") == 24
    monkeypatch.setattr(openvino_executor, "LEFT_ALONE_BATCHES", 4)
    ways.clear()
    by_graph.latents(by_graph.plans(prompt=prompts[0], **words))
    by_graph.latents(by_graph.plans(prompt=prompts[2], **words))
    assert set(ways) == {"graph"}


def test_bfloat16_and_kept_small(by_graph):
    words = {"sampling": {"sampler": "euler", "steps": 4}, "precision": "bfloat16"}
    picture = by_graph.one(**words)
    assert set(by_graph.executor.ways) == {"graph"}
    by_graph.executor.ways.clear()
    assert numbers(by_graph.one(**{**words, "precision": "float8"})).shape == numbers(picture).shape
    assert set(by_graph.executor.ways) == {"torch"}


def test_graphs_count_as_memory_of_their_models(by_graph):
    by_graph.latents(by_graph.plans())
    model = by_graph.model()
    unet_bytes = by_graph.executor.graphs.bytes_of(model.unet)
    assert unet_bytes > 0.8 * sum(p.numel() * 4 for p in model.unet.parameters())
    assert by_graph.loader.beside_bytes(model) >= unet_bytes
    by_graph.loader.budget_bytes = model.size_bytes + by_graph.model("other").size_bytes
    assert by_graph.model("other") is by_graph.model("other")
    assert by_graph.model() is not model, "the graphs did not count, so that both models stayed"


def test_memory_is_made_by_giving_up_graphs_first(by_graph):
    by_graph.latents(by_graph.plans())
    call = by_graph.executor.ran[-1][0]
    assert by_graph.executor.graphs.has(by_graph.model().unet, ("unet", ()))
    assert by_graph.executor.relieve(call)
    assert not by_graph.executor.graphs.has(by_graph.model().unet, ("unet", ()))


@pytest.fixture(scope="module")
def exact_and_rounded() -> dict[tuple[str, str], Any]:
    """20 steps of the built-in model: pictures by executor and number format."""
    easel = Easel(None)
    found: dict[tuple[str, str], Any] = {}
    for kind, executor in (("torch", TorchExecutor), ("openvino", OpenVinoExecutor)):
        for precision in ("float32", "bfloat16") if kind == "openvino" else ("float32",):
            easel.executor = executor(easel.loader)
            easel.executor.ran = []
            words = {"model": "danqing-mini", "precision": precision, "prompt": "red apple, 3d"}
            found[kind, precision] = easel.pixels(**words, sampling={"sampler": "dpmpp_2m", "steps": 20})
    return found


@pytest.mark.parametrize(("precision", "bar_db"), [("float32", 45.0), ("bfloat16", 35.0)])
def test_twenty_steps_of_the_built_in_model_are_the_same_picture(exact_and_rounded, precision, bar_db):
    error = exact_and_rounded["openvino", precision] - exact_and_rounded["torch", "float32"]
    psnr_db = 10 * np.log10(255**2 / max(float((error.astype(float) ** 2).mean()), 1e-6))
    assert psnr_db >= bar_db


def test_which_executor_a_device_gets(tiny_sd, monkeypatch):
    loader = Loader(Catalog(tiny_sd), torch.device("cpu"))
    assert type(executors.open_executor(loader)) is OpenVinoExecutor
    assert type(executors.open_executor(loader, "torch")) is TorchExecutor
    assert type(executors.open_executor(loader, compiled=True)) is TorchExecutor
    assert not executors.uses_openvino("cuda")
    assert executors.executor_name("cpu").startswith("openvino 20")
    assert "PyTorch where" in executors.explain_executor("cpu")[0]
    with pytest.raises(UnsupportedError, match="computes on the CPU"):
        executors.uses_openvino("cuda", "openvino")
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    assert not executors.uses_openvino("cpu")
    with pytest.raises(UnsupportedError, match="not installed") as told:
        executors.uses_openvino("cpu", "openvino")
    assert "danqing[openvino]" in str(told.value)
    assert "danqing[openvino]" in executors.explain_executor("cpu")[0]
    assert "as asked for" in executors.explain_executor("cpu", "torch")[0]
