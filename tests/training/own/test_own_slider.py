"""Sliders: the direction between two texts, both signs, the model's own half-painted pictures, the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from danqing.spec.errors import InvalidRequestError
from danqing.spec.training import parse_training
from danqing.training.own.loop import export_all
from danqing.training.own.methods.slider import Ends, ends_of
from own_runs import context_of, diffusers_pipe, learnt, opened_method, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


def slider(**fields):
    given = {
        "method": "slider", "name": "bright", "model": "tiny", "positive": "red", "negative": "blue", "steps": 3,
        "target": "the cat", "batch": 2, "learning_rate": 1e-3, "sample_every": 0, "precision": "float32",
        "network": {"rank": 2},
    }  # fmt: skip
    return parse_training({**given, **fields})


def lively(method):
    """A network that does something: fresh ones answer nothing."""
    with torch.no_grad():
        for i, one in enumerate(method.network.parameters()):
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    return method


def test_both_ends_join_the_target_and_every_word_to_preserve():
    assert ends_of(slider()) == [Ends("the cat", "the cat, red", "the cat, blue")]
    assert ends_of(slider(target="", negative="")) == [Ends("", "red", "")]
    assert ends_of(slider(positive="the cat in red")) == [Ends("the cat", "the cat in red", "the cat, blue")]
    assert ends_of(slider(target="", preserve=["dog", "cat"])) == [
        Ends("dog", "dog, red", "dog, blue"),
        Ends("cat", "cat, red", "cat, blue"),
    ]


def test_the_same_words_at_both_ends_are_refused(tiny_sd, tmp_path):
    with pytest.raises(InvalidRequestError) as refused:
        opened_method(slider(negative=" red"), context_of(tmp_path, tiny_sd))
    assert refused.value.field == "negative"


@pytest.mark.parametrize("model", ["tiny", "tiny-v"])
def test_the_loss_of_a_fresh_network_is_the_length_of_the_way(tiny_sd, tmp_path, model):
    """Nothing learnt yet: both errors are η²·(positive − negative)², so twice η makes four times the loss."""
    losses = {}
    for scale in (2.0, 4.0):
        method = opened_method(slider(model=model, guidance_scale=scale), context_of(tmp_path, tiny_sd))
        found = method.loss(1)
        assert float(found.parts["plus"]) == pytest.approx(float(found.parts["minus"]))
        losses[scale] = float(found.total.detach())
    assert losses[4.0] == pytest.approx(4 * losses[2.0], rel=1e-4)
    assert losses[2.0] > 0


@pytest.mark.parametrize("model", ["tiny", "tiny-v"])
def test_it_trains_on_what_the_model_paints_and_stops_on_the_way(tiny_sd, tmp_path, model):
    method = opened_method(slider(model=model), context_of(tmp_path, tiny_sd))
    times = method.times()
    assert len(times) == 16
    assert times[0] == 999
    assert (np.diff(times) < 0).all()
    with torch.no_grad():
        noise = method._painted("the cat", 0, times[:1], 0.0)
        late = method._painted("the cat", 0, times, 0.0)
        assert torch.equal(late, method._painted("the cat", 0, times, 0.0))
        assert not torch.equal(noise, method._painted("the cat", 1, times[:1], 0.0))
        # A step with the true noise in hand lands on the level it should: √ᾱ'·x₀ + √(1−ᾱ')·n.
        clean = torch.full_like(noise, 0.5)
        a, b = 0.3, 0.6
        x = a**0.5 * clean + (1 - a) ** 0.5 * noise
        answer = noise if model == "tiny" else a**0.5 * noise - (1 - a) ** 0.5 * clean
        moved = method._moved(x, answer, a, b)
    assert torch.allclose(moved, b**0.5 * clean + (1 - b) ** 0.5 * noise, atol=1e-5)
    assert bool(late.isfinite().all())


def test_strength_0_is_the_bare_model_and_the_signs_differ(tiny_sd, tmp_path):
    bare = opened_method(slider(), context_of(tmp_path, tiny_sd, "bare"))
    method = lively(opened_method(slider(), context_of(tmp_path, tiny_sd)))
    x, at = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500, 500])
    answers = {}
    with torch.no_grad():
        plain = bare._answer(x, at, bare._read("the cat", 2))
        for strength in (-1.0, 0.0, 1.0):
            with method.network.at(strength):
                answers[strength] = method._answer(x, at, method._read("the cat", 2))
    assert torch.equal(answers[0.0], plain)
    assert not torch.allclose(answers[1.0], answers[-1.0], atol=1e-3)


def test_training_lessens_both_errors(tiny_sd, tmp_path):
    request = slider(steps=12, learning_rate=1e-2, target="", guidance_scale=1.0)
    fresh = opened_method(request, context_of(tmp_path, tiny_sd, "fresh"))
    method = trained(request, context_of(tmp_path, tiny_sd)).method
    with torch.no_grad():
        # Pure noise: the same x for both, whatever the networks paint.
        numbers = [n for n in range(400) if int(_drawn(n)[1]) == 0][:3]
        before = [fresh.loss(n).parts for n in numbers]
        after = [method.loss(n).parts for n in numbers]
    for sign in ("plus", "minus"):
        assert sum(float(one[sign]) for one in after) < 0.9 * sum(float(one[sign]) for one in before)


def _drawn(number):
    from danqing.training.own.seeds import rng_of

    rng = rng_of(0, "slider", number)
    return rng.integers(1), rng.integers(16)


def test_a_resumed_run_ends_with_the_same_bits(tiny_sd, tmp_path):
    request = slider(steps=3, preserve=["dog", "cat"], network={"rank": 2, "dropout": 0.2})
    whole = trained(request, context_of(tmp_path, tiny_sd, "whole"))
    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (1, None):
        parts = trained(request, context, stop_after=stop)
    assert all(torch.equal(value, learnt(whole)[name]) for name, value in learnt(parts).items())


def test_the_file_is_read_by_diffusers(tiny_sd, tmp_path):
    trainer = trained(slider(), context_of(tmp_path, tiny_sd))
    files, _ = export_all(trainer)
    tensors = load_file(files[0])
    assert all(name.startswith("lora_unet_") for name in tensors)
    pipe = diffusers_pipe(tiny_sd / "Stable-diffusion" / "tiny")
    pipe.load_lora_weights(str(files[0]))
    assert sum("lora_A" in name for name, _ in pipe.unet.named_parameters()) == len(trainer.method.network.chosen)


def test_the_sheet_shows_every_strength(tiny_sd, tmp_path):
    method = lively(opened_method(slider(sample_prompts=["the cat", "dog"]), context_of(tmp_path, tiny_sd)))
    (sheet,) = method.sample(0)
    cells = np.asarray(sheet.image)[:, :]
    side = 64
    columns = [cells[10 : 10 + side, left : left + side] for left in (10, 10 + 74, 10 + 148)]
    assert not np.array_equal(columns[0], columns[1])
    assert not np.array_equal(columns[1], columns[2])
    assert "`<lora:bright:-1>`" in method.card().usage
