"""Networks of every kind: what is written says the same as what was trained, here, in diffusers and in PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from danqing.adapters.binding import bind
from danqing.adapters.hooks import Acting, hooked
from danqing.adapters.network_file import read_network
from danqing.models.catalog import Catalog
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import NetworkShape
from danqing.training.own.loop import export_all
from danqing.training.own.networks.layers import split
from danqing.training.own.networks.network import Network
from own_runs import context_of, make_set, opened_method, request_of, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
SHAPES = {
    "lora": {"rank": 4, "alpha": 2.0},
    "locon": {"rank": 4, "conv_rank": 2, "conv_alpha": 1.0},
    "dora": {"kind": "dora", "rank": 4, "conv_rank": 2},
    "loha": {"kind": "loha", "rank": 3, "alpha": 1.5, "conv_rank": 2},
    "lokr": {"kind": "lokr", "rank": 2, "alpha": 1.0, "conv_rank": 2},
    "lokr-whole": {"kind": "lokr", "rank": 64, "lokr_factor": 4},
    "text": {"rank": 4, "text_encoder": True, "text_learning_rate": 5e-3},
}


def answers(method, x, context):
    """The denoiser's answer to fixed noise."""
    with torch.no_grad():
        return method.opened.predict(x, torch.tensor([100, 700]), context)


def drawn(method):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    width = int(method.opened.unet.config["cross_attention_dim"])
    return x, torch.randn(2, 77, width, generator=generator)


@pytest.mark.parametrize("name", SHAPES)
def test_the_written_file_acts_as_the_trained_network(tiny_sd, tmp_path, name):
    make_set(tmp_path / "sets")
    trainer = trained(request_of(network=SHAPES[name]), context_of(tmp_path, tiny_sd))
    method = trainer.method
    x, context = drawn(method)
    words = ["the red cat", ""]
    theirs = answers(method, x, context)
    with torch.no_grad():
        their_text, _ = method.opened.read_text(method.opened.token_ids(words))
    files, _ = export_all(trainer)
    method.network.detach()
    bare = answers(method, x, context)
    with torch.no_grad():
        bare_text, _ = method.opened.read_text(method.opened.token_ids(words))

    weights = read_network(files[0])
    parts = method.opened.parts()
    found = {part: bind(weights, part, root) for part, root in parts.items()}
    with hooked(parts["unet"], [Acting(found["unet"], torch.ones(2))]):
        ours = answers(method, x, context)
    with hooked(parts["te"], [Acting(found["te"], torch.ones(2))]), torch.no_grad():
        our_text, _ = method.opened.read_text(method.opened.token_ids(words))

    assert len(found["unet"]) + len(found["te"]) == len(method.network.chosen)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_text, their_text, rtol=1e-5, atol=1e-5)
    assert float((theirs - bare).abs().max()) > 1e-3
    changed = float((their_text - bare_text).abs().max())
    assert changed > 1e-3 if name == "text" else changed == 0


@pytest.mark.parametrize("name", ["lora", "locon", "text"])
def test_diffusers_own_loader_reads_it(tiny_sd, tmp_path, name):
    make_set(tmp_path / "sets")
    trainer = trained(request_of(network=SHAPES[name]), context_of(tmp_path, tiny_sd))
    method = trainer.method
    x, context = drawn(method)
    theirs = answers(method, x, context)
    ids = method.opened.token_ids(["the red cat"])
    with torch.no_grad():
        their_text, _ = method.opened.read_text(ids)
    files, _ = export_all(trainer)

    pipe = diffusers_pipeline(tiny_sd / "Stable-diffusion" / "tiny")
    pipe.load_lora_weights(str(files[0]))
    with torch.no_grad():
        ours = pipe.unet(x, torch.tensor([100, 700]), encoder_hidden_states=context).sample
        our_text = pipe.text_encoder(ids[0]).last_hidden_state

    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_text, their_text, rtol=1e-4, atol=1e-4)


def diffusers_pipeline(folder: Path) -> StableDiffusionPipeline:
    """A folder of the small models with plain diffusers."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.mark.parametrize("kind", ["loha", "lokr"])
def test_peft_computes_the_same_from_the_same_numbers(kind):
    """PEFT has LoHa and LoKr of its own (from LyCORIS): its layer with our numbers changes a weight alike."""
    import peft

    torch.manual_seed(0)
    layer = torch.nn.Sequential()
    layer.add_module("to_q", torch.nn.Linear(24, 36, bias=False))
    unet = torch.nn.Module()
    unet.add_module("attentions", torch.nn.ModuleList([layer]))
    # PEFT's LoKr knows no alpha: LyCORIS's scale of 1 is what both say.
    alpha = {"loha": 1.5, "lokr": 3.0}[kind]
    shape = NetworkShape(kind=kind, rank=3, alpha=alpha)
    root = torch.nn.Module()
    root.add_module("down_blocks", torch.nn.ModuleList([unet]))
    network = Network({"unet": root}, shape, 1)
    (trained_layer,) = network.layers.values()
    for one in trained_layer.parameters():
        torch.nn.init.normal_(one, std=0.3)
    delta, _ = trained_layer.change().delta(torch.zeros(36, 24))

    config = {"loha": peft.LoHaConfig, "lokr": peft.LoKrConfig}[kind](r=3, alpha=alpha, target_modules=["to_q"])
    model = peft.get_peft_model(layer, config)
    adapter = model.base_model.model.to_q
    with torch.no_grad():
        for name, value in trained_layer.tensors().items():
            target = getattr(adapter, name)["default"]
            assert target.shape == value.shape, name
            target.copy_(value)
    torch.testing.assert_close(adapter.get_delta_weight("default"), delta)


def test_the_header_tells_what_a1111_shows(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", trigger="zdq style", licence_note="CC0")
    trainer = trained(request_of(network=SHAPES["locon"], seed=5), context_of(tmp_path, tiny_sd))
    files, _ = export_all(trainer)

    with safe_open(files[0], "pt") as opened:
        told = opened.metadata()
    assert told["ss_output_name"] == "mine"
    assert told["ss_network_module"] == "networks.lora"
    assert (told["ss_network_dim"], told["ss_network_alpha"]) == ("4", "4.0")
    assert json.loads(told["ss_network_args"]) == {"conv_dim": 2, "conv_alpha": 1.0}
    assert told["ss_base_model_version"] == "sd_v1"
    assert told["ss_steps"] == "4"
    assert told["ss_seed"] == "5"
    assert json.loads(told["ss_tag_frequency"])["cats"]["zdq style"] == 4
    assert told["ss_new_sd_model_hash"] == trainer.method.opened.info.sha256
    assert len(told["sshs_model_hash"]) == 64
    keys = load_file(files[0])
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight" in keys
    assert keys["lora_unet_mid_block_resnets_0_conv1.alpha"] == 1.0
    assert {key.partition(".")[2] for key in keys} == {"alpha", "lora_down.weight", "lora_up.weight"}


def test_the_catalogue_takes_the_file_in_with_its_words(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", trigger="zdq style")
    trainer = trained(request_of(), context_of(tmp_path, tiny_sd))
    files, _ = export_all(trainer)
    models = tmp_path / "models"
    (models / "Lora").mkdir(parents=True)
    files[0].rename(models / "Lora" / files[0].name)

    info = Catalog(models).find_network("mine", "lora")
    assert info.path == str(models / "Lora" / "mine.safetensors")
    assert info.rank == 4
    assert "zdq style" in info.trigger_words


def test_only_the_named_blocks_are_trained_and_unknown_names_are_refused(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(request_of(network={"rank": 2, "blocks": ["attn2"]}), context_of(tmp_path, tiny_sd))
    assert method.network.chosen
    assert all("attn2" in one.path for one in method.network.chosen)
    with pytest.raises(InvalidRequestError, match="no layer"):
        opened_method(request_of(network={"rank": 2, "blocks": ["nothing"]}), context_of(tmp_path, tiny_sd))


def test_a_fresh_network_changes_nothing_and_leaves_no_trace(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    for kind in ("lora", "dora", "loha", "lokr"):
        method = opened_method(request_of(network={"rank": 2, "kind": kind}), context_of(tmp_path, tiny_sd))
        x, context = drawn(method)
        fresh = answers(method, x, context)
        hooks = sum(len(one._forward_hooks) for one in method.opened.unet.modules())
        method.network.detach()
        assert hooks == len(method.network.chosen)
        assert sum(len(one._forward_hooks) for one in method.opened.unet.modules()) == 0
        torch.testing.assert_close(fresh, answers(method, x, context), rtol=0, atol=2e-6)


def test_a_strength_between_acts_between(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = trained(request_of(), context_of(tmp_path, tiny_sd)).method
    x, context = drawn(method)
    with method.network.at(0.0):
        bare = answers(method, x, context)
    with method.network.at(0.001):
        near = answers(method, x, context)
    whole = answers(method, x, context)
    assert 0 < float((near - bare).abs().max()) < 0.05 * float((whole - bare).abs().max())


@pytest.mark.parametrize(("size", "factor", "expected"), [(320, -1, (16, 20)), (64, 8, (8, 8)), (36, 5, (4, 9))])
def test_lokr_splits_as_lycoris_does(size, factor, expected):
    assert split(size, factor) == expected


def test_a_large_file_is_written_in_half_precision(tiny_sd, tmp_path, monkeypatch):
    make_set(tmp_path / "sets")
    method = opened_method(request_of(), context_of(tmp_path, tiny_sd))
    monkeypatch.setattr("danqing.training.own.networks.network.EXACT_BYTES", 100)
    state = method.network.state_for_file()
    assert {one.dtype for one in state.values()} == {torch.float16}
    save_file(state, tmp_path / "a.safetensors")
    assert read_network(tmp_path / "a.safetensors").layers


@pytest.mark.parametrize("asked", ["float16", "float32"])
def test_a_file_has_the_precision_that_was_asked_for(tiny_sd, tmp_path, asked):
    make_set(tmp_path / "sets")
    request = request_of(network={"rank": 4, "save_precision": asked})
    state = opened_method(request, context_of(tmp_path, tiny_sd)).network.state_for_file()
    assert {one.dtype for one in state.values()} == {getattr(torch, asked)}


def test_what_is_left_open_depends_on_the_model(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    plain = opened_method(request_of(), context_of(tmp_path, tiny_sd))
    assert {one.part for one in plain.network.chosen} == {"unet"}
    ours = opened_method(request_of(model="danqing-mini", steps=1), context_of(tmp_path, None, "ours"))
    assert {one.part for one in ours.network.chosen} == {"unet", "te"}
    assert ours.data.options.live_text
    shape = {"rank": 2, "text_encoder": False}
    alone = opened_method(request_of(model="danqing-mini", network=shape), context_of(tmp_path, None, "alone"))
    assert {one.part for one in alone.network.chosen} == {"unet"}
    both = opened_method(
        request_of("dreambooth", model="danqing-mini", prior_weight=0, network={"rank": 2}),
        context_of(tmp_path, None, "both"),
    )
    assert {one.part for one in both.network.chosen} == {"unet", "te"}
