"""Which texts OpenVINO reads and which PyTorch does: decided by the Call and the model, and the same either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import distance
from torch import nn

import tiny_models
import tiny_networks
from danqing.engine.calls import EncodeText
from danqing.engine.room import BESIDE_BYTES
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.text import TextState
from danqing.spec.network import uses_in_text
from easel import Easel
from tiny_checkpoints import TEXT_WIDTH, make

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.engine import text_graphs
from danqing.engine.openvino_executor import OpenVinoExecutor
from danqing.models.graphs.emit import NotExpressible

CLOSE = 1e-4
"""Relative distance in float32: emphasis divides by means near zero."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    """Two models, LoRA for one part or several, and a new word."""
    root = tmp_path_factory.mktemp("texts")
    tiny_models.build(root / "Stable-diffusion" / "tiny", seed=1)
    make("sdxl").save_folder(root / "Stable-diffusion" / "xl")
    easel = Easel(root)
    model, xl = easel.model(), easel.model("xl")
    tiny_networks.save_lora(root / "Lora" / "ink.safetensors", model, seed=1)
    tiny_networks.save(root / "Lora" / "look.safetensors", tiny_networks.lora_tensors(model.unet, "lora_unet", seed=2))
    chosen = tiny_networks.layers(xl.texts[1].model, *tiny_networks.TEXT)
    only_second = tiny_networks.lora_tensors(xl.texts[1].model, "lora_te2", chosen, seed=3)
    unet = tiny_networks.lora_tensors(xl.unet, "lora_unet", seed=3)
    tiny_networks.save(root / "Lora" / "second.safetensors", unet | only_second)
    tiny_networks.save_embedding(root / "embeddings" / "birb.pt", 2, tiny_models.CONTEXT_WIDTH)
    return easel


@pytest.fixture
def by_graph(studio: Easel) -> OpenVinoExecutor:
    return OpenVinoExecutor(studio.loader)


def call_of(studio: Easel, prompt: str, model: str = "tiny", **more: Any) -> EncodeText:
    planned = studio.plans(prompt=prompt, model=model)[0].base
    text = prompt.partition("<lora")[0]
    networks = uses_in_text(planned.networks)
    return EncodeText(studio.key(model), (text, ""), **{"networks": networks, "embeddings": planned.embeddings, **more})


def run(executor: TorchExecutor, call: EncodeText) -> tuple[TextState, ...]:
    (answer,) = executor.run([call])
    return answer


def ran_layers(executor: TorchExecutor, call: EncodeText, encoder: nn.Module) -> tuple[tuple[TextState, ...], bool]:
    """The answer, and whether PyTorch computed an encoder's layers for it."""
    calls: list[Any] = []
    tower: Any = getattr(encoder, "text_model", encoder)
    handle = tower.encoder.register_forward_pre_hook(lambda *given: calls.append(given))
    try:
        return run(executor, call), bool(calls)
    finally:
        handle.remove()


@pytest.mark.parametrize("model", ["tiny", "xl"])
@pytest.mark.parametrize("skip", [1, 2])
def test_texts_are_read_by_graphs(studio, by_graph, model, skip):
    call = call_of(studio, "the (red:1.3) cat, " * 30, model, clip_skip=skip)
    wanted = run(TorchExecutor(studio.loader), call)
    loaded = studio.model(model)
    for encoder in getattr(loaded, "texts", (loaded.text,)):
        by_graph.forget_texts()
        found, by_torch = ran_layers(by_graph, call, encoder.model)
        assert not by_torch
        assert by_graph.graphs.has(encoder.model, "layers")
    for ours, theirs in zip(found, wanted, strict=True):
        assert distance(ours.states, theirs.states) < CLOSE
        assert (ours.pooled is None) == (theirs.pooled is None) == (model == "tiny")
        assert ours.pooled is None or distance(ours.pooled, theirs.pooled) < CLOSE
    assert not by_graph.graphs.reasons


def test_new_words_are_read_by_graphs(studio, by_graph):
    call = call_of(studio, "a birb, the dog")
    assert call.embeddings
    found, by_torch = ran_layers(by_graph, call, studio.model().text.model)
    assert not by_torch
    assert distance(found[0].states, run(TorchExecutor(studio.loader), call)[0].states) < CLOSE
    bare = run(by_graph, call_of(studio, "a birb, the dog", embeddings=()))
    assert distance(found[0].states, bare[0].states) > 0.01


def test_networks_that_change_an_encoder_have_it_computed_by_pytorch(studio, by_graph):
    encoder = studio.model().text.model
    plain = run(by_graph, call_of(studio, "the red cat"))
    found, by_torch = ran_layers(by_graph, call_of(studio, "the red cat<lora:ink:0.8>"), encoder)
    assert by_torch
    call = call_of(studio, "the red cat<lora:ink:0.8>")
    wanted = run(TorchExecutor(studio.loader), call)
    assert all(torch.equal(ours.states, theirs.states) for ours, theirs in zip(found, wanted, strict=True))
    assert distance(found[0].states, plain[0].states) > 0.01
    # Nothing of it stays behind.
    by_graph.forget_texts()
    again, by_torch = ran_layers(by_graph, call_of(studio, "the red cat"), encoder)
    assert not by_torch
    assert torch.equal(again[0].states, plain[0].states)


def test_networks_that_leave_an_encoder_alone_do_not_matter(studio, by_graph):
    call = call_of(studio, "the red cat<lora:look:0.8>")
    assert call.networks
    found, by_torch = ran_layers(by_graph, call, studio.model().text.model)
    assert not by_torch
    assert torch.equal(found[0].states, run(by_graph, call_of(studio, "the red cat"))[0].states)


def test_each_encoder_of_sdxl_by_itself(studio, by_graph):
    call = call_of(studio, "a cat<lora:second:1>", "xl")
    texts = studio.model("xl").texts
    found, first_by_torch = ran_layers(by_graph, call, texts[0].model)
    by_graph.forget_texts()
    _, second_by_torch = ran_layers(by_graph, call, texts[1].model)
    assert (first_by_torch, second_by_torch) == (False, True)
    wanted = run(TorchExecutor(studio.loader), call)
    assert distance(found[0].states, wanted[0].states) < CLOSE
    plain = run(by_graph, call_of(studio, "a cat", "xl"))
    assert torch.equal(found[0].states[:, :TEXT_WIDTH], plain[0].states[:, :TEXT_WIDTH])
    assert distance(found[0].states[:, TEXT_WIDTH:], plain[0].states[:, TEXT_WIDTH:]) > 0.01


def test_a_text_does_not_depend_on_its_company(studio, by_graph):
    alone = [run(by_graph, call_of(studio, text))[0] for text in ("the red cat", "blue dog, " * 40)]
    by_graph.forget_texts()
    calls = [call_of(studio, text) for text in ("the red cat<lora:ink:1>", "blue dog, " * 40, "the red cat")]
    together = by_graph.run(calls)
    assert torch.equal(together[2][0].states, alone[0].states)
    assert torch.equal(together[1][0].states, alone[1].states)


def test_graphs_of_texts_count_as_memory_of_their_models(studio, by_graph):
    model = studio.model("xl")
    assert studio.loader.beside_bytes(model) == 0
    run(by_graph, call_of(studio, "a cat", "xl"))
    weights = sum(p.numel() * 4 for text in model.texts for p in text.model.parameters() if p.ndim > 1)
    embedded = sum(text.model.get_input_embeddings().weight.numel() * 4 for text in model.texts)
    assert 0.7 * (weights - embedded) < studio.loader.beside_bytes(model) < 1.1 * (weights - embedded)


def test_large_encoders_are_left_to_pytorch(studio, monkeypatch):
    encoder = studio.model().text.model
    share = text_graphs.SHARE_OF_BUDGET * text_graphs.layers_bytes(encoder)
    for budget, expected in ((share - 1, True), (share, False)):
        monkeypatch.setattr(studio.loader, "budget_bytes", budget)
        _, by_torch = ran_layers(OpenVinoExecutor(studio.loader), call_of(studio, "the red cat"), encoder)
        assert by_torch is expected


@pytest.mark.parametrize("limited", [True, False])
def test_where_memory_is_short_pytorch_reads(studio, by_graph, monkeypatch, limited):
    model = studio.model()
    parts = (model.unet, model.vae, model.text.model)
    weights = [sum(p.numel() * p.element_size() for p in part.parameters()) for part in parts]
    # Room for the text encoder, but not for those that have it first.
    monkeypatch.setattr(by_graph.room, "_usable", lambda: BESIDE_BYTES + sum(weights) - 1)
    if limited:
        monkeypatch.setattr(type(studio.loader.memory), "allowed", 1 << 40)
    call = call_of(studio, "the red cat")
    assert ran_layers(by_graph, call, model.text.model)[1]
    monkeypatch.setattr(by_graph.room, "_usable", lambda: BESIDE_BYTES + sum(weights))
    by_graph.forget_texts()
    # Without a limit, what was decided stays.
    assert ran_layers(by_graph, call, model.text.model)[1] is not limited
    if limited:
        monkeypatch.setattr(by_graph.room, "_usable", lambda: 0)
        by_graph.forget_texts()
        assert not ran_layers(by_graph, call, model.text.model)[1], "what is written was given up"


def test_what_cannot_be_written_down_is_read_by_pytorch(studio, by_graph, monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotExpressible("a kind of its own")

    monkeypatch.setattr(text_graphs, "clip_layers_graph", refuse)
    found, by_torch = ran_layers(by_graph, call_of(studio, "the red cat"), studio.model().text.model)
    assert by_torch
    wanted = run(TorchExecutor(studio.loader), call_of(studio, "the red cat"))
    assert torch.equal(found[0].states, wanted[0].states)
    assert by_graph.graphs.reasons == {"CLIPTextModel: layers": "a kind of its own"}


def test_a_picture_of_the_built_in_model_is_the_same_with_its_words_read_by_a_graph(monkeypatch):
    easel = Easel(Path("nowhere"))
    words = {"model": "danqing-mini", "prompt": "red apple, 3d", "sampling": {"sampler": "dpmpp_2m", "steps": 8}}
    pictures: list[Any] = []
    for graphs in (True, False):
        easel.executor = OpenVinoExecutor(easel.loader)
        easel.executor.ran = []  # type: ignore[attr-defined]
        if not graphs:
            monkeypatch.setattr(text_graphs, "layers_bytes", lambda _: 1 << 60)
        pictures.append(easel.pixels(**words).astype(float))
        assert easel.executor.graphs.has(easel.model("danqing-mini").text.model, "layers") == graphs
    error = float(((pictures[0] - pictures[1]) ** 2).mean())
    assert 10 * np.log10(255**2 / max(error, 1e-6)) >= 45
