"""Networks as graphs: they answer as PyTorch's modules do, and what cannot be written down is refused."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from danqing.models.packing import pack
from tiny_checkpoints import make
from tiny_controlfiles import awake, control_net

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.models.graphs import compiled
from danqing.models.graphs.compiled import CompiledGraph, GraphShelf, ShapedGraphs
from danqing.models.graphs.emit import NotExpressible
from danqing.models.graphs.unet import controlnet_graph, residual_name, times, unet_graph
from danqing.models.graphs.vae import decoder_graph, encoder_graph

EXACT, ROUNDED = 1e-5, 0.03
"""Relative distances: of float32, and of bfloat16 with its 8 bits through some 60 layers."""


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    wanted = wanted.float()
    return float((found - wanted).norm() / wanted.norm())


def given(unet: Any, rows: int, height: int, width: int, tokens: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rows + height)
    dtype = unet.dtype
    found: dict[str, Any] = {
        "sample": torch.randn(rows, unet.config["in_channels"], height, width, generator=generator).to(dtype),
        "timestep": torch.tensor(([900.0, 3.0, 500.0, 41.5] * 2)[:rows]),
        "encoder_hidden_states": torch.randn(rows, tokens, unet.config["cross_attention_dim"], generator=generator).to(
            dtype
        ),
    }
    if unet.config["addition_embed_type"] == "text_time":
        pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * 256
        found["added_cond_kwargs"] = {
            "text_embeds": torch.randn(rows, pooled, generator=generator).to(dtype),
            "time_ids": torch.tensor([[512.0, 768, 0, 64, 512, 768]] * rows),
        }
    return found


def feeds_of(net: Any, asked: dict[str, Any], residuals: Any = ()) -> dict[str, torch.Tensor]:
    context = asked["encoder_hidden_states"]
    told = times(net, asked["timestep"], asked.get("added_cond_kwargs"))
    feeds = {"sample": asked["sample"], "context": context, **told}
    return feeds | {residual_name(i): one for i, one in enumerate(residuals)}


@torch.inference_mode()
def check_unet(unet: Any, limit: float) -> None:
    """One graph, called with several shapes, against the module; and, of the first two, graphs of their own."""
    graph = CompiledGraph(unet_graph(unet, unet.dtype))
    for index, shape in enumerate(((2, 8, 8, 7), (1, 5, 9, 7), (1, 16, 8, 77), (4, 4, 12, 20))):
        asked = given(unet, *shape)
        wanted = unet(**asked, return_dict=False)[0]
        feeds = feeds_of(unet, asked)
        assert distance(graph(feeds)[0], wanted) < limit
        if index < 2:
            fixed = CompiledGraph(unet_graph(unet, unet.dtype), shapes={name: one.shape for name, one in feeds.items()})
            assert distance(fixed(feeds)[0], wanted) < limit


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_unet_answers_as_its_module_does(kind):
    check_unet(make(kind).unet.eval(), EXACT)
    check_unet(make(kind).unet.eval().to(torch.bfloat16), ROUNDED)


def test_the_built_in_unet_pools_words_into_its_times():
    from danqing.models.diffusers_folders import BUILTIN_DIR

    unet = UNet2DConditionModel.from_pretrained(BUILTIN_DIR / "danqing-mini" / "unet", torch_dtype=torch.float32).eval()
    assert unet.config["addition_embed_type"] == "text"
    check_unet(unet, EXACT)


@torch.inference_mode()
def test_residuals_of_a_controlnet_come_in():
    unet = make("sd1").unet.eval()
    net = awake(control_net(unet), seed=3).eval()
    asked = given(unet, 2, 8, 8, 7)
    hint = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    context = asked["encoder_hidden_states"]
    down, mid = net(asked["sample"], asked["timestep"], context, hint, return_dict=False)
    control = CompiledGraph(controlnet_graph(net, torch.float32))
    found = control({**feeds_of(net, asked), "hint": hint})
    assert len(found) == len(down) + 1
    assert all(distance(a, b) < EXACT for a, b in zip(found, [*down, mid], strict=True))
    graph = CompiledGraph(unet_graph(unet, torch.float32))
    wanted = unet(**asked, down_block_additional_residuals=down, mid_block_additional_residual=mid, return_dict=False)[
        0
    ]
    plain = unet(**asked, return_dict=False)[0]
    steered = graph(feeds_of(unet, asked, found))[0]
    assert distance(steered, wanted) < EXACT
    assert distance(steered, plain) > 100 * EXACT


@torch.inference_mode()
def test_an_autoencoder_goes_both_ways():
    vae: AutoencoderKL = make("sd1").vae.eval()
    decode, encode = CompiledGraph(decoder_graph(vae, torch.float32)), CompiledGraph(encoder_graph(vae, torch.float32))
    for height, width in ((8, 8), (4, 9)):
        latent = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(height))
        assert distance(decode({"latent": latent})[0], vae.decode(latent, return_dict=False)[0]) < EXACT
        picture = torch.rand(2, 3, 8 * height, 8 * width, generator=torch.Generator().manual_seed(width)) * 2 - 1
        assert distance(encode({"picture": picture})[0], vae.encode(picture).latent_dist.parameters) < EXACT


@torch.inference_mode()
def test_packed_and_rearranged_weights_are_read_as_they_are_meant():
    unet = make("sd1").unet.eval().to(torch.bfloat16).to(memory_format=torch.channels_last)
    asked = given(unet, 2, 8, 8, 7)
    before = CompiledGraph(unet_graph(unet, torch.bfloat16))
    first = before(feeds_of(unet, asked))[0]
    assert pack(unet) > 0
    # Calling packs: the module gives up the very weights that the first graph was written from.
    unet(**asked, return_dict=False)
    after = CompiledGraph(unet_graph(unet, torch.bfloat16))
    assert torch.equal(after(feeds_of(unet, asked))[0], first)
    gc.collect()
    garbage = [torch.full((1 << 16,), float("nan")) for _ in range(64)]
    assert torch.equal(before(feeds_of(unet, asked))[0], first)
    assert len(garbage) == 64


@torch.inference_mode()
def test_what_networks_add_is_in_the_graph_and_not_in_the_module():
    unet = make("sd1").unet.eval()
    layers = {
        unet.conv_in: (torch.full_like(unet.conv_in.weight, 0.02), torch.full((32,), -0.1)),
        unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q: (torch.randn(64, 64) * 0.1, None),
        unet.conv_norm_out: (torch.full((32,), 0.3), torch.full((32,), 0.2)),
    }
    asked = given(unet, 2, 8, 8, 7)
    graph = CompiledGraph(unet_graph(unet, torch.float32, lambda layer: layers.get(layer, (None, None))))
    found = graph(feeds_of(unet, asked))[0]
    plain = unet(**asked, return_dict=False)[0]
    for layer, (weight, bias) in layers.items():
        layer.weight.add_(weight)
        if bias is not None:
            layer.bias.add_(bias)
    assert distance(found, unet(**asked, return_dict=False)[0]) < EXACT
    assert distance(found, plain) > 0.01


def test_what_cannot_be_written_down_is_refused_once_and_says_why():
    unet = make("sd1").unet.eval()

    class Louder(torch.nn.Linear):
        pass

    block = unet.mid_block.attentions[0].transformer_blocks[0]
    block.attn1.to_out[0] = Louder(64, 64)
    written = 0

    def write() -> Any:
        nonlocal written
        written += 1
        return unet_graph(unet, torch.float32)

    shelf = GraphShelf()
    assert shelf.get(unet, "unet", write) is None
    assert shelf.get(unet, "unet", write) is None
    assert written == 1
    assert "Louder" in next(iter(shelf.reasons.values()))
    with pytest.raises(NotExpressible, match="float16"):
        unet_graph(make("sd1").unet, torch.float16)
    halved = make("sd1").unet.eval()
    halved.conv_in = torch.nn.Conv2d(4, 32, 3, padding=1, device="meta")
    with pytest.raises(NotExpressible, match="meta"):
        unet_graph(halved, torch.float32)


def test_a_shelf_lets_go_of_what_is_gone():
    shelf, unet = GraphShelf(), make("sd1").unet.eval()
    graph = shelf.get(unet, "unet", lambda: unet_graph(unet, torch.float32))
    assert graph is not None
    assert shelf.get(unet, "unet", lambda: pytest.fail("written twice")) is graph
    assert shelf.bytes_of(unet) == 0
    graph(feeds_of(unet, given(unet, 2, 8, 8, 7)))
    weights = sum(p.numel() for p in unet.parameters()) * 4
    assert shelf.bytes_of(unet) == pytest.approx(weights, rel=0.01)
    shelf.give_up(unet, "unet")
    assert not shelf.has(unet, "unet")
    assert not shelf.drop()


def fixed_shapes(graphs: ShapedGraphs) -> list[dict[str, tuple[int, ...]]]:
    return [dict(key) for key in graphs._fixed]


@torch.inference_mode()
def test_a_row_is_the_same_in_any_company(monkeypatch):
    monkeypatch.setattr(compiled, "SMALL_ROWS", (4, 2, 1))
    unet = make("sd1").unet.eval().to(torch.bfloat16)
    graphs = ShapedGraphs(lambda: unet_graph(unet, torch.bfloat16), None, lambda _: True)
    feeds = feeds_of(unet, given(unet, 7, 8, 8, 7))
    whole = graphs(feeds)[0]
    assert [shapes["sample"][0] for shapes in fixed_shapes(graphs)] == [4, 2, 1]
    assert whole.shape == feeds["sample"].shape
    for rows in ([0], [3], [5, 6], [1, 2, 4]):
        assert torch.equal(graphs({name: one[rows] for name, one in feeds.items()})[0], whole[rows])
    assert len(fixed_shapes(graphs)) == 3


@torch.inference_mode()
def test_residuals_of_one_row_for_all_and_chosen_outputs_when_a_batch_is_cut():
    unet = make("sd1").unet.eval()
    graphs = ShapedGraphs(lambda: unet_graph(unet, torch.float32, kept=(0, 1)), None, lambda _: True)
    asked = given(unet, 3, 8, 8, 7)
    down = [torch.full((1, 1, 1, 1), 0.1)] * (sum(name.startswith("residual") for name in graphs.names) - 1)
    mid = torch.zeros(1, 1, 1, 1)
    answer, kept = graphs(feeds_of(unet, asked, [*down, mid]), (0, 2))
    assert kept.shape[0] == 3
    wanted = unet(**asked, down_block_additional_residuals=down, mid_block_additional_residual=mid, return_dict=False)
    assert distance(answer, wanted[0]) < EXACT


@torch.inference_mode()
def test_where_there_is_no_room_one_graph_takes_all_shapes():
    unet = make("sd1").unet.eval()
    shelf = GraphShelf(allows=lambda _: False)
    graphs = shelf.get(unet, "unet", lambda: unet_graph(unet, torch.float32))
    assert graphs is not None
    small, large = (feeds_of(unet, given(unet, 1, side, 8, 7)) for side in (8, 12))
    before = graphs(small)[0]
    once = shelf.bytes_of(unet)
    assert [shapes["sample"] for shapes in fixed_shapes(graphs)] == [(1, 4, 8, 8)]
    first = graphs(large)[0]
    # The graph of any shape has taken the other's place: no more is held than before.
    assert fixed_shapes(graphs) == []
    assert shelf.bytes_of(unet) == once
    assert distance(graphs(small)[0], before) < EXACT
    assert distance(first, graphs(large)[0]) < EXACT
    assert shelf.drop()


def test_nothing_that_could_send_anything_is_loaded():
    code = (
        "import sys, danqing.models.graphs.compiled\n"
        "print([m for m in sys.modules if m.startswith('openvino_telemetry') and sys.modules[m] is not None])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@torch.inference_mode()
def test_a_graph_that_rested_answers_as_before():
    vae: AutoencoderKL = make("sd1").vae.eval()
    graphs = ShapedGraphs(lambda: decoder_graph(vae, torch.float32), None, lambda _: True)
    latent = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1))
    first = graphs({"latent": latent})[0]
    graphs.rest()
    assert torch.equal(graphs({"latent": latent})[0], first)
