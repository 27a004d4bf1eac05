"""LCM- and TCD-LoRAs: the solver's step, boundaries, jumps, a loss that falls, resuming, the file and its samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from danqing.adapters.binding import bind
from danqing.adapters.network_file import read_network
from danqing.sampling.prediction import Prediction
from danqing.spec.errors import InvalidRequestError
from danqing.training.own.consistency import Estimate, Ladder, boundary, estimate, pseudo_huber
from danqing.training.own.loop import export_all
from own_runs import context_of, learnt, make_set, opened_method, request_of, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
NETWORK = {"rank": 4, "conv_rank": 4}


def asked(**fields):
    return request_of("distill", **{"network": NETWORK, "teacher_steps": 10, **fields})


def drawn_like(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_at_time_0_the_consistency_function_is_its_input_exactly():
    skip, out = boundary(torch.tensor([0, 1, 500]))
    assert (float(skip[0]), float(out[0])) == (1.0, 0.0)
    assert skip.shape == (3, 1, 1, 1)
    # c_skip² and c_out² are shares of one whole: σ_d²/(σ_d² + (10·t)²).
    assert float(skip[1]) == pytest.approx(0.25 / (0.25 + 100.0), rel=1e-5)
    assert float(out[1]) == pytest.approx(10.0 / (0.25 + 100.0) ** 0.5, rel=1e-6)
    assert float(out[2]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("prediction", [Prediction.EPSILON, Prediction.V])
def test_a_solver_step_with_the_true_answer_lands_on_the_same_trajectory(prediction):
    clean, noise = drawn_like((2, 4, 8, 8), 1), drawn_like((2, 4, 8, 8), 2)
    alphas, lower = torch.tensor([0.1, 0.5]), torch.tensor([0.3, 1.0])
    x = Estimate(clean, noise).at(alphas)
    a, s = alphas.sqrt().view(-1, 1, 1, 1), (1 - alphas).sqrt().view(-1, 1, 1, 1)
    answer = noise if prediction is Prediction.EPSILON else a * noise - s * clean

    found = estimate(prediction, x, answer, alphas)

    torch.testing.assert_close(found.clean, clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.noise, noise, rtol=1e-4, atol=1e-4)
    below = found.at(lower)
    torch.testing.assert_close(below[0], 0.3**0.5 * clean[0] + 0.7**0.5 * noise[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(below[1], clean[1], rtol=1e-4, atol=1e-4)


def test_guidance_leads_away_from_the_other_and_1_is_none():
    one, other = (Estimate(drawn_like((2, 1, 2, 2), i), drawn_like((2, 1, 2, 2), 9 + i)) for i in (1, 2))
    guided = one.guided(other, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(guided.clean[0], one.clean[0])
    torch.testing.assert_close(guided.noise[1], 3 * one.noise[1] - 2 * other.noise[1])


def test_the_error_is_squared_when_small_and_plain_when_large():
    found = pseudo_huber(torch.tensor([0.0, 1e-4, 2.0]), 1e-3)
    assert float(found[0]) == 0
    assert float(found[1]) == pytest.approx(1e-8 / 2e-3, rel=0.01)
    assert float(found[2]) == pytest.approx(2.0, rel=1e-3)


def test_the_ladder_draws_the_solvers_own_steps():
    ladder = Ladder.of(np.linspace(0.999, 0.01, 1000), 50)
    assert list(ladder.times[[0, 1, -1]]) == [19, 39, 999]
    times = ladder.levels().draw(0, 0, 500)
    assert set(times.tolist()) == set(ladder.times.tolist())
    places = ladder.places(torch.tensor([19, 999]))
    assert places.tolist() == [0, 49]
    assert ladder.time(places - 1, torch.device("cpu")).tolist() == [0, 979]
    assert ladder.signal(places - 1, torch.device("cpu")).tolist() == pytest.approx([1.0, ladder.alphas[979]])


@pytest.mark.parametrize("model", ["tiny", "tiny-v"])
@pytest.mark.parametrize("way", ["lcm", "tcd"])
def test_the_loss_falls(tiny_sd, tmp_path, model, way):
    """Steps down the loss of one batch, against one target."""
    make_set(tmp_path / "sets")
    method = opened_method(asked(model=model, way=way, batch=4), context_of(tmp_path, tiny_sd))
    method.loss(0)
    drawn = method.data.batch(1)
    optimizer = torch.optim.Adam([one for params, _ in method.trainable() for one in params], lr=5e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = method.loss_of(drawn).total
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(one.grad is None for one in method.target.parameters())


def test_tcds_goals_lie_between_the_clean_picture_and_the_step_below(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(way="tcd"), context_of(tmp_path, tiny_sd))
    found = set()
    for number in range(40):
        drawn = method.data.batch(number % 4)
        drawn = type(drawn)(**{**vars(drawn), "noise": drawn_like(drawn.noise.shape, number)})
        places = np.asarray([0, 3])
        goals = method._goals(drawn, places)
        assert goals[0] == -1
        found.add(int(goals[1]))
    assert found == {-1, 0, 1, 2}
    lcm = opened_method(asked(), context_of(tmp_path, tiny_sd))
    assert lcm._goals(lcm.data.batch(0), np.asarray([0, 9])).tolist() == [-1, -1]


def test_the_target_follows_slowly_and_the_teacher_is_the_bare_model(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(), context_of(tmp_path, tiny_sd))
    method.loss(0)
    with torch.no_grad():
        first = next(iter(method.target.parameters())).clone()
        for one in method.network.parameters():
            one.add_(1.0)
        drawn = method.data.batch(0)
        alphas = method.levels.signal(drawn.times)
        x = Estimate(drawn.latents, drawn.noise).at(alphas)
        with method.network.at(0.0):
            bare = method._taught(drawn, x, alphas).clean
            for one in method.target.parameters():
                one.add_(1.0)
            torch.testing.assert_close(method._taught(drawn, x, alphas).clean, bare)
            for one in method.target.parameters():
                one.sub_(1.0)
    method.loss(1)
    torch.testing.assert_close(next(iter(method.target.parameters())), first + 0.05, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", ["lcm", "tcd"])
def test_an_interrupted_run_ends_with_the_same_bits_and_a_file_that_loads(tiny_sd, tmp_path, way):
    make_set(tmp_path / "sets")
    fields = {"way": way, "sample_every": 4, "sample_prompts": ["the cat"], "accumulate": 2, "batch": 1, "size_px": 64}
    whole = trained(asked(**fields), context_of(tmp_path, tiny_sd, "whole"))
    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (2, None):
        parts = trained(asked(**fields), context, stop_after=stop)
    ours, theirs = learnt(parts), learnt(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(name.startswith("target.") for name in theirs)

    files, _ = export_all(whole)

    bound = bind(read_network(files[0]), "unet", whole.method.opened.unet)
    assert len(bound) == len(whole.method.network.chosen)
    with safe_open(files[0], "pt") as file:
        told = file.metadata()
    assert told["modelspec.usage_hint"] == f"sampler {way.upper()}, 4 to 8 steps, CFG 1"
    assert told["ss_network_dim"] == "4"
    look = whole.method.look()
    assert (look.sampler, look.steps, look.guidance) == (way, 4, 1.0)
    assert (context.folder / "samples" / "grid-000004.png").is_file()
    assert way.upper() in whole.method.card().kind


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"guidance_min": 4, "guidance_max": 2}, "guidance_max"),
        ({"network": {"text_encoder": True}}, "network.text_encoder"),
        ({"max_timestep": 500}, "min_timestep"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny_sd, tmp_path, fields, field):
    make_set(tmp_path / "sets")
    with pytest.raises(InvalidRequestError) as refused:
        opened_method(asked(**fields), context_of(tmp_path, tiny_sd))
    assert refused.value.field == field


def test_on_the_built_in_model_the_average_has_the_layers_that_are_trained(tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(model="danqing-mini", steps=1), context_of(tmp_path, None))
    shapes = [[tuple(one.shape) for one in net.parameters()] for net in (method.network, method.target)]
    assert shapes[0] == shapes[1]
    assert shapes[0]
