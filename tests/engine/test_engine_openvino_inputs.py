"""Image prompts and T2I-Adapters by graphs: the pictures that PyTorch paints, each the same in any company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import distance
from watched import Together

import tiny_networks
from danqing.adapters.ip_adapter import IpAdapter, RowImages, image_rows
from danqing.engine.calls import Denoise, ImageInput
from danqing.engine.torch_executor import TorchExecutor
from danqing.spec.errors import UnsupportedError
from danqing.spec.model import ModelRef
from easel import Easel, box_mask, photo
from tiny_checkpoints import make
from tiny_controlfiles import build_control_files
from tiny_images import EMBEDDING, build_images, lively

pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'danqing[openvino]'")

from danqing.engine.graph_inputs import image_feeds, layers_for
from danqing.engine.openvino_executor import OpenVinoExecutor
from danqing.models.graphs.compiled import CompiledGraph
from danqing.models.graphs.emit import NotExpressible
from danqing.models.graphs.inputs import IMAGE_TOKENS, inside_name
from danqing.models.graphs.unet import times, unet_graph

CLOSE = 2e-4
EXACT, ROUNDED = 1e-5, 0.03
STEPS = {"sampler": "euler", "steps": 4}


class Routed(Together, OpenVinoExecutor):
    """The real executor, which notes what ran each row."""


def pair(root: Path) -> tuple[Easel, Easel]:
    """The same folder by PyTorch and by graphs."""
    by_torch, by_graph = Easel(root), Easel(root)
    by_graph.executor = Routed(by_graph.loader)
    return by_torch, by_graph


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = build_images(tmp_path_factory.mktemp("shown"))
    tiny_networks.save_lora(root / "Lora" / "ink.safetensors", Easel(root).model(), seed=1)
    return root


@pytest.fixture
def shown(images_dir: Path) -> tuple[Easel, Easel]:
    return pair(images_dir)


@pytest.fixture(scope="module")
def controls_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_control_files(tmp_path_factory.mktemp("steered"))


def prompts(easels: tuple[Easel, Easel], *weights: float) -> list[dict[str, Any]]:
    """Image prompts of these strengths, one picture each."""
    found: list[dict[str, Any]] = []
    for seed, weight in enumerate(weights):
        (name,) = {easel.picture(photo(64, 64, seed=seed)) for easel in easels}
        found.append({"image": name, "weight": weight})
    return found


def check(easels: tuple[Easel, Easel], ways: set[str], **fields: Any) -> None:
    """The same latents, by the ways that are named."""
    by_torch, by_graph = easels
    words = {"sampling": STEPS, **fields}
    wanted = by_torch.latents(by_torch.plans(**words))
    by_graph.executor.ways.clear()
    found = by_graph.latents(by_graph.plans(**words))
    assert set(by_graph.executor.ways) == ways
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The norm of what differs, relative to that of what is wanted."""
    return float((found - wanted.float()).norm() / wanted.float().norm())


# --- image prompts ----------------------------------------------------------------------------------------------------


def test_image_prompts_are_read_by_graphs(shown):
    check(shown, {"graph"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny")
    check(shown, {"graph"}, image_prompts=prompts(shown, 1.2, 0.3), image_adapter="like-tiny")
    assert not shown[1].executor.graphs.reasons


def test_in_part_of_the_steps_and_beside_more_words(shown):
    part = [{**prompts(shown, 0.9)[0], "start": 0.3}]
    words = "blue dog, " + "cat, " * 45
    check(shown, {"graph"}, image_prompts=part, image_adapter="like-tiny", prompt=words, image_mix="average")


def test_image_prompts_beside_networks(shown):
    prompt = "the red cat<lora:ink:0.8>"
    check(shown, {"graph"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", prompt=prompt)


def test_image_prompts_with_deep_features_used_again(shown):
    shortcuts = {"cache_interval": 2, "cache_branch": 1}
    check(shown, {"graph"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", shortcuts=shortcuts)


def test_what_pytorch_runs_follows_from_the_call(shown):
    few = {"sampler": "euler", "steps": 3}
    check(shown, {"torch"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", sampling=few)
    merging = {"token_merging": 0.5}
    check(shown, {"torch"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", shortcuts=merging)


def test_sets_of_adapters_that_take_turns_do_not_drive_each_other_out(shown):
    (name,) = prompts(shown, 0.8)
    asked = (("like-tiny", ""), ("second", ""), ("second", "<lora:ink:0.5>"))
    plans = [
        shown[1].plans(image_prompts=[name], image_adapter=adapter, prompt="the red cat" + more, sampling=STEPS)[0]
        for adapter, more in asked
    ]
    shown[1].latents(plans)
    # Four steps, three pictures, two rows each: the third set finds both places taken.
    assert shown[1].executor.ways.count("torch") == 8
    assert shown[1].executor.ways.count("graph") == 16


def test_no_room_for_another_copy_of_the_weights(shown, monkeypatch):
    by_graph = shown[1]
    by_graph.latents(by_graph.plans(sampling=STEPS))
    monkeypatch.setattr(by_graph.executor, "_allows", lambda more_bytes: False)
    check(shown, {"torch"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny")
    monkeypatch.undo()
    check(shown, {"torch"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny")
    for _ in range(5):
        check(shown, {"graph"})
    check(shown, {"graph"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny")


def test_an_adapter_for_other_attentions_is_refused_as_pytorch_refuses_it(shown):
    by_graph = shown[1]
    (plan,) = by_graph.plans(image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", sampling=STEPS)
    by_graph.latents([plan])
    call = next(call for calls in by_graph.executor.ran for call in calls if isinstance(call, Denoise))
    assert call.images is not None
    wide = next(one for one in by_graph.catalog.image_adapters() if one.name == "wide")
    ref = ModelRef(name=wide.name, sha256=wide.sha256, family=call.images.adapter.family)
    images = ImageInput(ref, call.images.embeddings, (1.0,), 0.8, call.images.rows)
    with pytest.raises(UnsupportedError, match="does not fit"):
        by_graph.executor.run([replace(call, images=images)])
    assert any("image adapter" in why for why in by_graph.executor.graphs.reasons.values())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_row_has_the_same_numbers_in_any_company(shown, precision):
    by_graph = shown[1]
    fields = {"sampling": STEPS, "precision": precision, "image_adapter": "like-tiny"}
    asked = [
        {"image_prompts": prompts(shown, 0.8)},
        {"image_prompts": prompts(shown, 1.1, 0.4)},
        {},
        {"image_prompts": prompts(shown, 0.5), "prompt": "blue dog, " + "cat, " * 45},
        {"image_prompts": prompts(shown, 0.3)[:1]},
    ]
    plans = [by_graph.plans(**fields, **one, seed=seed)[0] for seed, one in enumerate(asked)]
    calls: list[Denoise] = []
    for plan in plans:
        by_graph.latents([plan])
        calls.append(next(call for some in by_graph.executor.ran for call in some if isinstance(call, Denoise)))
    alone = [by_graph.executor.run([call])[0] for call in calls]
    together = by_graph.executor.run(calls)
    backwards = by_graph.executor.run(calls[::-1])[::-1]
    assert set(by_graph.executor.ways) == {"graph"}
    for one, other, turned in zip(alone, together, backwards, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, turned)


def test_a_row_without_strength_is_a_plain_one(shown):
    by_graph = shown[1]
    fields = {"image_prompts": prompts(shown, 0.8), "image_adapter": "like-tiny", "sampling": STEPS}
    by_graph.latents(by_graph.plans(**fields))
    call = next(call for some in by_graph.executor.ran for call in some if isinstance(call, Denoise))
    assert call.images is not None
    acting, none, plain = (
        by_graph.executor.run([replace(call, images=images)])[0]
        for images in (call.images, replace(call.images, weight=0.0), None)
    )
    assert torch.equal(none, plain)
    assert not torch.allclose(acting, plain, atol=1e-3)


# --- perturbed rows ---------------------------------------------------------------------------------------------------

PERTURBED = {"scale": 5.0, "pag_scale": 2.0}


def test_perturbed_rows_are_computed_by_graphs(shown):
    check(shown, {"graph"}, guidance=PERTURBED)
    check(shown, {"graph"}, image_prompts=prompts(shown, 0.8), image_adapter="like-tiny", guidance=PERTURBED)
    check(shown, {"graph"}, prompt="the red cat<lora:ink:0.8>", guidance=PERTURBED)
    few = {"sampler": "euler", "steps": 3}
    check(shown, {"graph", "torch"}, guidance=PERTURBED, sampling=few)


def test_eight_bits_were_not_measured_on_perturbed_rows(shown):
    by_graph = shown[1]
    by_graph.latents(by_graph.plans(precision="int8", guidance=PERTURBED, sampling=STEPS))
    assert by_graph.executor.ways == ["graph", "graph", "torch"] * 4


def test_a_perturbed_row_has_the_same_numbers_in_any_company(shown):
    by_graph = shown[1]
    calls: list[Denoise] = []
    for seed, scale in enumerate((2.0, 0.0, 1.0)):
        guidance = {"scale": 5.0, "pag_scale": scale}
        by_graph.latents(by_graph.plans(seed=seed, guidance=guidance, sampling=STEPS, precision="bfloat16"))
        calls.append(next(call for some in by_graph.executor.ran for call in some if isinstance(call, Denoise)))
    assert [call.perturbed for call in calls] == [1, 0, 1]
    alone = [by_graph.executor.run([call])[0] for call in calls]
    together = by_graph.executor.run(calls)
    assert set(by_graph.executor.ways) == {"graph"}
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert not torch.allclose(alone[0][0], alone[0][2], atol=1e-3), "perturbing changed nothing"


# --- SDXL -------------------------------------------------------------------------------------------------------------


def sdxl_call(unet: Any, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a small SDXL is asked, as diffusers' module and as a graph take it, without the image prompt."""
    generator = torch.Generator().manual_seed(2)
    pooled = unet.config["projection_class_embeddings_input_dim"] - 6 * 256
    context = torch.randn(2, 7, unet.config["cross_attention_dim"], generator=generator).to(dtype)
    added = {
        "text_embeds": torch.randn(2, pooled, generator=generator).to(dtype),
        "time_ids": torch.tensor([[512.0, 768, 0, 64, 512, 768]] * 2),
    }
    sample, when = torch.randn(2, 4, 8, 12, generator=generator).to(dtype), torch.tensor([900.0, 41.5])
    asked = {"sample": sample, "timestep": when, "encoder_hidden_states": context, "added_cond_kwargs": added}
    return asked, {"sample": sample, "context": context, **times(unet, when, added)}


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, EXACT), (torch.bfloat16, ROUNDED)])
def test_sdxl_reads_image_prompts(dtype, bar):
    unet: Any = make("sdxl").unet.eval()
    weights = lively(unet, seed=3)
    unet.to(dtype)
    weights.ip_adapter.to(dtype)
    asked, feeds = sdxl_call(unet, dtype)
    embeddings = torch.randn(2, EMBEDDING, generator=torch.Generator().manual_seed(4))
    rows = [RowImages(embeddings, 0.7, (1.0, 0.4)), RowImages(torch.zeros_like(embeddings[:1]), 0.7)]
    with IpAdapter(weights).acting(unet, image_rows(weights.image_proj, rows)):
        wanted = unet(**asked, return_dict=False)[0].float()
    plain = unet(**asked, return_dict=False)[0].float()
    images = ImageInput(None, embeddings, (1.0, 0.4), 0.7, (True, False))  # type: ignore[arg-type]
    call = Denoise(None, asked["sample"], 1.0, tuple(asked["encoder_hidden_states"]), images=images)  # type: ignore[arg-type]
    told = image_feeds(weights.image_proj, [call], [(0, 0), (0, 1)], 2)
    assert told[IMAGE_TOKENS].shape == (2, 8, unet.config["cross_attention_dim"])
    varying = CompiledGraph(unet_graph(unet, dtype, images=layers_for(unet, weights)))
    shapes = {name: one.shape for name, one in {**feeds, **told}.items()}
    fixed = CompiledGraph(unet_graph(unet, dtype, images=layers_for(unet, weights)), shapes=shapes)
    for graph in (varying, fixed):
        assert apart(graph({**feeds, **told})[0], wanted) < bar
    assert apart(plain, wanted) > 3 * bar, "the image prompt changed nothing"
    with pytest.raises(NotExpressible, match="layers"):
        layers_for(make("sd1").unet, weights)


# --- the built-in model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built_in() -> dict[tuple[str, str], Any]:
    """20 steps of the built-in model with an image prompt: pictures by executor and number format."""
    easel = Easel(None)  # type: ignore[arg-type]
    shown = [{"image": easel.picture(photo(128, 128)), "weight": 0.7}]
    found: dict[tuple[str, str], Any] = {}
    for kind, precision in (("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")):
        easel.executor = Routed(easel.loader) if kind == "openvino" else TorchExecutor(easel.loader)
        easel.executor.ran = []
        words = {"model": "danqing-mini", "precision": precision, "prompt": "red apple, 3d", "image_prompts": shown}
        found[kind, precision] = easel.pixels(**words, sampling={"sampler": "dpmpp_2m", "steps": 20})
        assert kind == "torch" or set(easel.executor.ways) == {"graph"}
    return found


@pytest.mark.parametrize(("precision", "bar_db"), [("float32", 45.0), ("bfloat16", 35.0)])
def test_the_built_in_model_with_an_image_prompt_is_the_same_picture(built_in, precision, bar_db):
    error = built_in["openvino", precision] - built_in["torch", "float32"]
    assert 10 * np.log10(255**2 / max(float((error.astype(float) ** 2).mean()), 1e-6)) >= bar_db


# --- T2I-Adapters -----------------------------------------------------------------------------------------------------


def unit(easels: tuple[Easel, Easel], name: str, **changes: Any) -> dict[str, Any]:
    (picture,) = {easel.picture(photo(64, 64, seed=1)) for easel in easels}
    return {"model": name, "image": picture, "annotator": "canny", **changes}


@pytest.mark.parametrize(("model", "name"), [("one", "t2i"), ("deep", "t2i_canny")])
def test_t2i_adapters_steer_graphs(controls_dir, model, name):
    easels = pair(controls_dir)
    (mask,) = {easel.picture(box_mask(64, 64, (0, 0, 32, 64))) for easel in easels}
    for changes in ({"weight": 0.8, "mode": "prompt", "end": 0.6}, {"mask": mask, "mode": "control"}):
        check(easels, {"graph"}, model=model, controls=[unit(easels, name, **changes)])
    assert not easels[1].executor.graphs.reasons


def test_t2i_adapters_beside_controlnets_and_with_deep_features_used_again(controls_dir):
    easels = pair(controls_dir)
    both = [unit(easels, "t2i", weight=0.7), unit(easels, "line", weight=0.6)]
    check(easels, {"graph"}, model="one", controls=both)
    check(easels, {"graph"}, model="one", controls=both, shortcuts={"cache_interval": 2, "cache_branch": 2})


def test_a_steered_row_has_the_same_numbers_in_any_company(controls_dir):
    easels = pair(controls_dir)
    by_graph = easels[1]
    words = ("the red cat", "blue dog, " + "cat, " * 45, "a dog AND a cat")
    calls: list[Denoise] = []
    for seed, (prompt, mode) in enumerate(zip(words, ("control", "balanced", "prompt"), strict=True)):
        controls = [unit(easels, "t2i", mode=mode, weight=0.5 + 0.2 * seed)]
        by_graph.latents(by_graph.plans(model="one", prompt=prompt, seed=seed, controls=controls, sampling=STEPS))
        calls.append(next(call for some in by_graph.executor.ran for call in some if isinstance(call, Denoise)))
    alone = [by_graph.executor.run([call])[0] for call in calls]
    together = by_graph.executor.run(calls)
    assert set(by_graph.executor.ways) == {"graph"}
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, EXACT), (torch.bfloat16, ROUNDED)])
def test_features_come_in_at_each_level_of_sdxl_and_its_middle(dtype, bar):
    unet: Any = make("sdxl").unet.eval().to(dtype)
    asked, feeds = sdxl_call(unet, dtype)
    varying = CompiledGraph(unet_graph(unet, dtype))
    # The first level has no attention: what is added there comes behind its downsampler.
    sizes = [(32, 4, 6), (64, 4, 6), (64, 4, 6)]
    assert len(unet.down_blocks) == 2
    generator = torch.Generator().manual_seed(6)
    features = [torch.randn(2, *size, generator=generator).to(dtype) for size in sizes]
    for count in (0, 1, 3):
        given = {"down_intrablock_additional_residuals": features[:count]} if count else {}
        wanted = unet(**asked, **{name: list(value) for name, value in given.items()}, return_dict=False)[0]
        told = {**feeds, **{inside_name(level): one for level, one in enumerate(features[:count])}}
        fixed = CompiledGraph(unet_graph(unet, dtype), shapes={name: one.shape for name, one in told.items()})
        assert apart(varying(told)[0], wanted) < bar
        assert apart(fixed(told)[0], wanted) < bar
