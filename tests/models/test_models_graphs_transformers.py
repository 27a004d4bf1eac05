"""Transformers (SD 3, FLUX) as graphs: they answer as PyTorch's modules do, and what cannot be written is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0

from danqing.models.families.flux import packed, places, unpacked
from danqing.models.patches import in_patches
from danqing.models.shallow_transformer import can_be_cut, deepest, keeping, outer_blocks
from tiny_transformers import make_flux, make_sd3

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.models.graphs.compiled import GraphShelf, ShapedGraphs
from danqing.models.graphs.emit import NotExpressible
from danqing.models.graphs.transformers import GraphTransformer, outer_transformer_graph, transformer_graph

EXACT, ROUNDED = 1e-5, 0.03
"""Relative distances: of float32, and of bfloat16 to float32."""
KINDS = {
    "sd3": lambda: make_sd3(dual=False, normed=False),
    "sd3.5-large": lambda: make_sd3(dual=False),
    "sd3.5-medium": make_sd3,
    "flux-dev": make_flux,
    "flux-schnell": lambda: make_flux("schnell"),
}
SHAPES = ((2, 8, 8, 7), (1, 12, 6, 20), (3, 9, 7, 7))
"""Rows, latent height and width (even, unequal, odd) and tokens of text."""


def denoiser(kind: str) -> Any:
    return KINDS[kind]().transformer.eval()


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted).norm() / wanted.norm())


def given(net: Any, rows: int, height: int, width: int, tokens: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(rows + height)
    times = torch.tensor([900.0, 3.0, 412.7, 41.5][:rows])
    x = torch.randn(rows, 16, height, width, generator=generator)
    words = torch.randn(rows, tokens, net.config["joint_attention_dim"], generator=generator)
    options = {"pooled_projections": torch.randn(rows, net.config["pooled_projection_dim"], generator=generator)}
    if isinstance(net, FluxTransformer2DModel):
        times = times / 1000
        if net.config["guidance_embeds"]:
            options["guidance"] = torch.tensor([3.5, 1.0, 7.25][:rows])
    return x, times, words, options


def by_module(net: Any, x: torch.Tensor, times: torch.Tensor, words: torch.Tensor, options: Any) -> torch.Tensor:
    """As diffusers is called, with latents in and out."""
    told = {"timestep": times, "encoder_hidden_states": words, "return_dict": False, **options}

    def answer(whole: torch.Tensor) -> torch.Tensor:
        if isinstance(net, SD3Transformer2DModel):
            return net(hidden_states=whole, **told)[0]
        sides = (whole.shape[-2] // 2, whole.shape[-1] // 2)
        ids = {"txt_ids": torch.zeros(words.shape[1], 3), "img_ids": places(*sides)}
        return unpacked(net(hidden_states=packed(whole), **ids, **told)[0], *sides)

    return in_patches(x, answer)


def graphs_of(net: Any, dtype: torch.dtype = torch.float32, **more: Any) -> ShapedGraphs:
    return ShapedGraphs(lambda: transformer_graph(net, dtype, **more), None, lambda _: True)


@pytest.mark.parametrize("kind", list(KINDS))
@torch.inference_mode()
def test_a_transformer_answers_as_its_module_does(kind: str):
    net = denoiser(kind)
    exact = GraphTransformer(net, graphs_of(net))
    rounded = GraphTransformer(net, graphs_of(copy.deepcopy(net).to(torch.bfloat16), torch.bfloat16))
    for shape in SHAPES:
        asked = given(net, *shape)
        wanted = by_module(net, *asked)
        assert exact(*asked).shape == wanted.shape
        assert distance(exact(*asked), wanted) < EXACT
        assert distance(rounded(*asked), wanted) < ROUNDED
    assert exact.graph._fixed == {}, "one graph takes all shapes"


@pytest.mark.parametrize("kind", ["sd3.5-medium", "flux-dev"])
@torch.inference_mode()
def test_everything_that_is_told_matters(kind: str):
    net = denoiser(kind)
    graph = GraphTransformer(net, graphs_of(net))
    x, times, words, options = given(net, 2, 8, 8, 7)
    plain = graph(x, times, words, options)
    others = [(x, times * 0.5, words, options), (x, times, words.flip(1).roll(1, -1), options)]
    others += [(x, times, words, {**options, name: one + 0.5}) for name, one in options.items()]
    assert all(distance(graph(*one), plain) > 100 * EXACT for one in others)
    turned = graph(x.flip(-1), times, words, options).flip(-1)
    assert distance(turned, plain) > 100 * EXACT, "places do not matter"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["sd3.5-medium", "flux-dev"])
@torch.inference_mode()
def test_a_row_is_the_same_in_any_company(kind: str, dtype: torch.dtype):
    net = denoiser(kind).to(dtype)
    graph = GraphTransformer(net, graphs_of(net, dtype))
    x, times, words, options = given(net, 3, 8, 8, 7)
    whole = graph(x, times, words, options)
    for rows in ([0], [1], [2], [1, 2]):
        some = {name: one[rows] for name, one in options.items()}
        assert torch.equal(graph(x[rows], times[rows], words[rows], some), whole[rows])


@torch.inference_mode()
def test_what_networks_add_is_in_the_graph_and_not_in_the_module():
    net = denoiser("sd3.5-medium")
    block = net.transformer_blocks[0]
    layers = {block.attn2.to_q: torch.randn(64, 64), block.norm1_context.linear: torch.randn(6 * 64, 64) * 0.2}
    asked = given(net, 2, 8, 8, 7)
    plain = by_module(net, *asked)
    graph = GraphTransformer(net, graphs_of(net, changes=lambda layer: (layers.get(layer), None)))
    found = graph(*asked)
    for layer, weight in layers.items():
        layer.weight.add_(weight)
    assert distance(found, by_module(net, *asked)) < EXACT
    assert distance(found, plain) > 0.01


class Louder(JointAttnProcessor2_0):
    """Computes something else."""


def test_what_cannot_be_written_down_is_refused_and_says_why():
    def reason(net: Any, **more: Any) -> str:
        shelf = GraphShelf()
        assert shelf.get(net, "unet", lambda: transformer_graph(net, torch.float32, **more)) is None
        return next(iter(shelf.reasons.values()))

    louder = denoiser("sd3")
    louder.transformer_blocks[1].attn.set_processor(Louder())
    assert "Louder" in reason(louder)
    other = denoiser("sd3.5-medium")
    other.transformer_blocks[0].attn2.norm_k = torch.nn.LayerNorm(32)
    assert "LayerNorm" in reason(other)
    chunked = denoiser("sd3")
    chunked.enable_forward_chunking(1)
    assert "_chunk_size" in reason(chunked)
    fused = denoiser("flux-dev")
    fused.transformer_blocks[0].attn.fused_projections = True
    assert "fused_projections" in reason(fused)
    assert "act on" in reason(denoiser("flux-dev"), alone=False)
    with pytest.raises(NotExpressible, match="float16"):
        transformer_graph(denoiser("sd3"), torch.float16)


# --- without their deep blocks ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", list(KINDS))
@torch.inference_mode()
def test_outer_blocks_with_the_same_steps_residual_are_the_whole_transformer(kind: str):
    net = denoiser(kind)
    assert can_be_cut(net)
    branches = tuple(range(deepest(net) + 1))
    assert branches == ((0, 1) if kind.startswith("flux") else (0,))
    graphs = graphs_of(net, kept=branches)
    for shape in SHAPES:
        asked = given(net, *shape)
        found: dict[int, torch.Tensor] = {}
        with keeping(net, branches, found):
            wanted = by_module(net, *asked)
        left = GraphTransformer(net, graphs, branches, branches)
        assert distance(left(*asked), wanted) < EXACT
        for branch, feature in found.items():
            assert distance(left.found[branch], feature) < EXACT
            assert distance(outer_blocks(net, *asked, feature=feature, branch=branch), wanted) < EXACT
            outer = outer_transformer_graph(net, torch.float32, branch)
            graph = ShapedGraphs(lambda outer=outer: outer, None, lambda _: True)
            assert distance(GraphTransformer(net, graph, feature=feature)(*asked), wanted) < EXACT
            other = outer_blocks(net, *asked, feature=feature * 0.5, branch=branch)
            assert distance(other, wanted) > 100 * EXACT


@torch.inference_mode()
def test_only_the_branches_that_are_asked_for_are_copied():
    net = denoiser("flux-dev")
    graph = GraphTransformer(net, graphs_of(net, kept=(0, 1)), (0, 1), (1,))
    graph(*given(net, *SHAPES[0]))
    assert set(graph.found) == {1}


def test_what_is_no_such_transformer_is_not_cut():
    assert not can_be_cut(torch.nn.Linear(2, 2))
    other = denoiser("sd3")
    other.transformer_blocks[0] = torch.nn.Identity()
    assert not can_be_cut(other)
    offloaded = denoiser("flux-dev")
    offloaded.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )
    assert not can_be_cut(offloaded)
