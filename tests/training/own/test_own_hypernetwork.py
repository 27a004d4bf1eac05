"""Hypernetworks: widths of the model, A1111's first values and file, the hooks of painting, exact resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from danqing.adapters.hypernet import ActingHypernet, hypernets_acting, read_hypernetwork
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.spec.errors import InvalidRequestError
from danqing.training.own.loop import export_all
from danqing.training.own.methods.hypernetwork import attention_widths, shape_of
from own_runs import context_of, learnt, make_set, opened_method, request_of, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
RICH = {"layer_structure": [1, 1.5, 2, 1], "activation": "relu", "layer_norm": True, "dropout": True}


@pytest.fixture(autouse=True)
def sets(tmp_path: Path) -> Path:
    make_set(tmp_path / "sets", trigger="zdq style")
    return tmp_path / "sets"


def bare_answer(method, x, times, context):
    """The model's answer without what is being learnt."""
    method._acting.close()
    return method.opened.predict(x, times, context)


def inputs_of(method):
    batch = method.data.batch(0)
    return batch.latents, batch.times, batch.context


def test_there_is_a_pair_of_nets_for_every_width(tiny_sd, tmp_path):
    method = opened_method(request_of("hypernetwork"), context_of(tmp_path, tiny_sd))
    assert attention_widths(method.opened.unet) == [32, 64]
    assert set(method.nets) == {"32 keys", "32 values", "64 keys", "64 values"}
    linear = [one for one in method.nets["32 keys"].modules() if isinstance(one, nn.Linear)]
    assert [tuple(one.weight.shape) for one in linear] == [(64, 32), (32, 64)]
    assert float(linear[0].weight.std()) == pytest.approx(0.01, rel=0.1)
    assert all(not one.bias.any() for one in linear)
    assert not torch.equal(linear[0].weight, next(iter(method.nets["32 values"].parameters())))


def test_only_the_nets_learn(tiny_sd, tmp_path):
    fresh = opened_method(request_of("hypernetwork"), context_of(tmp_path, tiny_sd, "fresh"))
    trainer = trained(request_of("hypernetwork"), context_of(tmp_path, tiny_sd))
    for part, module in fresh.opened.parts().items():
        after = trainer.method.opened.parts()[part].state_dict()
        assert all(torch.equal(after[name], value) for name, value in module.state_dict().items())
    before = fresh.nets.state_dict()
    assert all(not torch.equal(value, before[name]) for name, value in trainer.method.nets.state_dict().items())


def test_a_resumed_run_ends_with_the_same_bits(tiny_sd, tmp_path):
    request = request_of("hypernetwork", **RICH, steps=5, caption_dropout=0.3, ema=0.5)
    whole = trained(request, context_of(tmp_path, tiny_sd, "whole"))
    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (2, 3, None):
        parts = trained(request, context, stop_after=stop)
    assert learnt(parts).keys() == learnt(whole).keys()
    assert all(torch.equal(value, learnt(whole)[name]) for name, value in learnt(parts).items())


@pytest.mark.parametrize("fields", [{}, RICH, {"activation": "swish", "layer_structure": [1, 3, 1]}])
def test_the_file_acts_as_what_was_trained(tiny_sd, tmp_path, fields):
    trainer = trained(request_of("hypernetwork", **fields), context_of(tmp_path, tiny_sd))
    method = trainer.method
    with torch.no_grad(), trainer.exported():
        ours = method.opened.predict(*inputs_of(method))
    files, _ = export_all(trainer)
    read = read_hypernetwork(files[0])
    bare = bare_answer(method, *inputs_of(method)).detach()
    with torch.no_grad(), hypernets_acting(method.opened.unet, [ActingHypernet(read, torch.ones(2))]):
        theirs = method.opened.predict(*inputs_of(method))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert float((ours - bare).abs().max()) > 1e-4


def test_the_file_says_what_a1111_writes(tiny_sd, tmp_path):
    trainer = trained(request_of("hypernetwork", **RICH, steps=2), context_of(tmp_path, tiny_sd))
    files, _ = export_all(trainer)
    assert files[0].name == "mine.pt"
    data = torch.load(files[0], weights_only=True)
    assert set(data) == {
        32, 64, "step", "name", "layer_structure", "activation_func", "is_layer_norm", "weight_initialization",
        "sd_checkpoint", "sd_checkpoint_name", "activate_output", "use_dropout", "dropout_structure",
        "last_layer_dropout", "ss_base_model_version",
    }  # fmt: skip
    assert data["ss_base_model_version"] == "sd_v1"  # so that the catalogue need not guess from widths
    assert identify_header(read_header(files[0]), "mine").family == "sd1"
    assert data["step"] == 2
    assert data["name"] == "mine"
    assert data["layer_structure"] == [1, 1.5, 2, 1]
    assert data["activation_func"] == "relu"
    assert data["is_layer_norm"] is True
    assert data["weight_initialization"] == "Normal"
    assert data["use_dropout"] is True
    assert data["dropout_structure"] == [0, 0.3, 0.3, 0]
    assert data["last_layer_dropout"] is True
    assert data["activate_output"] is False
    assert data["sd_checkpoint"] == trainer.method.opened.info.sha256[:10]
    keys, values = data[32]
    # A1111 numbers what stands in `linear`: Linear, ReLU, LayerNorm, Dropout, …
    assert set(keys) == {f"linear.{i}.{kind}" for i in (0, 2, 4, 6, 8, 9) for kind in ("weight", "bias")}
    assert keys.keys() == values.keys()


def test_samples_of_any_number_are_painted_with_it(tiny_sd, tmp_path):
    request = request_of("hypernetwork", sample_prompts=["the cat", "a dog", "the red cat"])
    method = opened_method(request, context_of(tmp_path, tiny_sd))
    before = method.sample(0)[0].image
    with torch.no_grad():
        for one in method.nets.parameters():
            one.add_(0.2)
    after = method.sample(0)[0].image
    assert before.size == after.size
    assert before.tobytes() != after.tobytes()


@pytest.mark.parametrize("structure", [[2, 1], [1, 2], [1, 0, 1]])
def test_a_shape_that_does_not_fit_is_refused(structure):
    request = request_of("hypernetwork", layer_structure=structure)
    with pytest.raises(InvalidRequestError) as refused:
        shape_of(request)
    assert refused.value.field == "layer_structure"
