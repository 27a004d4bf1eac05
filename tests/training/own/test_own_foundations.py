"""DCGAN, WGAN-GP and DDPM: their parts by hand or closed form, their runs bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline
from PIL import Image
from torch import nn

from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.training import parse_training
from danqing.spec.training_run import SampleEvent, StepEvent
from danqing.training.builtin import dataset as drawings
from danqing.training.own import foundation_sample
from danqing.training.own.context import Context
from danqing.training.own.events import EventLog, read_events
from danqing.training.own.foundation_data import DATA_VARIABLE, choose, open_data, to_pixels, to_scale
from danqing.training.own.foundation_diffusion import STEPS, Process, ancestral, ddim, make_unet, strided
from danqing.training.own.foundation_figures import (
    GAP_PX,
    TEXT_PX,
    Curve,
    chart,
    cluster,
    covered,
    distinct_share,
    picture_grid,
    read_curves,
    strip,
)
from danqing.training.own.foundation_nets import (
    Discriminator,
    Generator,
    convolutions,
    critic_loss,
    discriminator_loss,
    fresh_weights,
    generator_loss,
    gradient_penalty,
    settled,
    shifted,
)
from danqing.training.own.loop import LoopOptions, Trainer, export_all
from danqing.training.own.methods import find_method

CODES = [f"1F{i:03X}" for i in range(400)]
HELD_OUT = next(code for code in CODES if drawings.is_held_out(code))
SHOWN = [code for code in CODES if not drawings.is_held_out(code)][:19]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def builtin(tmp_path, monkeypatch):
    """Forty drawings of faces in two styles, two of them of a held-out concept, and a cat."""
    rng = np.random.default_rng(0)
    rows = []
    for code in [*SHOWN, HELD_OUT]:
        for style in ("3d", "line"):
            concept = drawings.Concept(code, "face-smiling", {"en": (f"face {code}",)})
            rows.append(drawings.Picture(len(rows), style, concept))
    rows.append(drawings.Picture(len(rows), "3d", drawings.Concept("3000", "cat-face", {"en": ("cat",)})))
    pixels = rng.integers(0, 256, (len(rows), 128, 128, 4), dtype=np.uint8)
    folder = tmp_path / "data" / "training" / "builtin"
    drawings.save(drawings.Dataset(tuple(rows), pixels), folder)
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    return tmp_path / "data" / "training" / "sets"


def _request(method, **more):
    small = {"name": "tiny", "method": method, "width": 16, "size_px": 32, "batch": 4, "steps": 4, "sample_every": 0}
    return parse_training({**small, "subject": "face", "precision": "float32", **more})


def _pixels(path: Path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def _open(method, folder: Path, sets: Path, **more):
    folder.mkdir(exist_ok=True)
    return find_method(method).open(_request(method, **more), Context(folder, sets, events=EventLog(folder)))


# networks


def test_five_convolutions_on_each_side_make_64_px():
    made, judged = Generator(100, 64, 64), Discriminator(64, 64)
    assert (convolutions(made), convolutions(judged)) == (5, 5)
    assert [tuple(one.kernel_size) for one in made if isinstance(one, nn.ConvTranspose2d)] == [(4, 4)] * 5
    assert [one.out_channels for one in made if isinstance(one, nn.ConvTranspose2d)] == [512, 256, 128, 64, 3]
    with torch.no_grad():
        x = made(made.noise(2, torch.Generator().manual_seed(0)))
        assert x.shape == (2, 3, 64, 64)
        assert x.abs().max() <= 1
        assert judged(x).shape == (2,)


def test_four_make_32_px():
    made, judged = Generator(5, 8, 32), Discriminator(8, 32)
    assert (convolutions(made), convolutions(judged)) == (4, 4)
    assert judged(made(torch.zeros(3, 5, 1, 1))).shape == (3,)


def test_norms_stand_where_the_papers_have_them():
    def norms(network):
        return sum(isinstance(one, nn.BatchNorm2d) for one in network.modules())

    assert norms(Generator(10, 8, 64)) == 4
    assert norms(Discriminator(8, 64)) == 3  # none on the pictures and none on the answer
    assert norms(Discriminator(8, 64, batch_norm=False)) == 0


def test_fresh_weights_spread_by_a_fiftieth():
    network = Generator(100, 32, 64)
    fresh_weights(network, torch.Generator().manual_seed(1))
    weights = torch.cat([one.weight.flatten() for one in network if isinstance(one, nn.ConvTranspose2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert abs(weights.mean().item()) < 1e-4
    norm = next(one for one in network if isinstance(one, nn.BatchNorm2d))
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert not norm.bias.any()


def test_settled_norms_are_those_of_the_weights():
    network = Generator(6, 8, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    own = settled(network, 3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    x = own[0](own.noise(4096, torch.Generator().manual_seed(9)))
    assert torch.allclose(own[1].running_var, x.var((0, 2, 3)), rtol=0.15)


# losses


def test_gan_losses_by_hand():
    real, fake = torch.tensor([0.0, math.log(3.0)]), torch.tensor([0.0, math.log(1 / 3)])
    # D(x) = 1/2, 3/4 and D(G(z)) = 1/2, 1/4
    expected = -(math.log(0.5) + math.log(0.75)) / 2 - (math.log(0.5) + math.log(0.75)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert generator_loss(fake).item() == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2, rel=1e-6)
    assert critic_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5])).item() == pytest.approx(-1.5)


def test_the_generators_loss_still_pulls_where_it_is_seen_through():
    fake = torch.tensor([-12.0], requires_grad=True)
    generator_loss(fake).backward()
    assert fake.grad.item() == pytest.approx(-1.0, abs=1e-4)


def test_gradient_penalty_of_a_linear_critic():
    weights = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    real, fake = torch.randn(2, 5, 3, 8, 8)
    found = gradient_penalty(lambda x: (x * weights).flatten(1).sum(1), real, fake, torch.rand(5))
    norm = weights.detach().norm()
    assert found.item() == pytest.approx((norm.item() - 1) ** 2, rel=1e-5)
    found.backward()
    assert torch.allclose(weights.grad, 2 * (norm - 1) * weights.detach() / norm, rtol=1e-4)


def test_gradient_penalty_looks_between_the_pictures():
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    gradient_penalty(critic, torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1), torch.tensor([0.25, 1.0]))
    assert seen[0].flatten().tolist() == [0.25, 1.0]


# diffusion


def test_forward_process_has_the_statistics_of_its_closed_form():
    process = Process.linear()
    assert process.betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    x0, noise = torch.full((20_000, 1), 0.7), torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    for time in (0, 250, 999):
        kept = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[: time + 1])
        x = process.noised(x0, noise, torch.full((20_000,), time))
        assert x.mean().item() == pytest.approx(0.7 * math.sqrt(kept), abs=0.03)
        assert x.std().item() == pytest.approx(math.sqrt(1 - kept), rel=0.02)


def test_forward_process_step_by_step_is_the_closed_form():
    process, variance, scale = Process.linear(), 0.0, 1.0
    for beta in process.betas[:300].tolist():
        variance, scale = (1 - beta) * variance + beta, scale * math.sqrt(1 - beta)
    assert scale**2 == pytest.approx(process.kept[299].item())
    assert variance == pytest.approx(1 - process.kept[299].item())


def test_posterior_is_bayes_rule():
    """q(x_{t−1} | x_t, x₀) of two Gaussians multiplied: precision-weighted mean, added precisions."""
    process, x0, x = Process.linear(), 0.3, -0.8
    for time in (1, 40, 999):
        beta, before = process.betas[time].item(), process.kept[time - 1].item()
        forward, prior = (1 - beta) / beta, 1 / (1 - before)
        mean = (math.sqrt(1 - beta) * x / beta + math.sqrt(before) * x0 * prior) / (forward + prior)
        found, variance = process.posterior(torch.tensor(x0), torch.tensor(x), time)
        assert found.item() == pytest.approx(mean, rel=1e-5)
        assert variance == pytest.approx(1 / (forward + prior), rel=1e-9)
    assert process.posterior(torch.tensor(x0), torch.tensor(x), 0)[0].item() == pytest.approx(x0, abs=1e-6)
    assert process.posterior(torch.tensor(x0), torch.tensor(x), 0)[1] == 0


def _gaussian(process, mean, spread):
    """The exact ε of data N(mean, spread²)."""

    def denoiser(x, times):
        kept = process.kept[times].float().view(-1, 1)
        return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept)

    return denoiser


def test_the_way_back_has_the_spread_of_its_closed_form():
    """With the exact ε of Gaussian data every step is linear: its variance follows from the one before."""
    process, spread, variance = Process.linear(), 0.1, 1.0
    for time in reversed(range(STEPS)):
        kept = process.kept[time].item()
        gain = math.sqrt(kept) * spread**2 / (kept * spread**2 + 1 - kept)
        ones = torch.ones(1, dtype=torch.float64)
        of_x0, small = process.posterior(ones, 0 * ones, time)
        of_x, _ = process.posterior(0 * ones, ones, time)
        variance = (of_x0.item() * gain + of_x.item()) ** 2 * variance + (small if time else 0.0)
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    painted = ancestral(process, _gaussian(process, 0.4, spread), x, torch.Generator().manual_seed(1))
    assert painted.mean().item() == pytest.approx(0.4, abs=0.005)
    assert painted.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)


def test_ddim_brings_the_datas_distribution():
    process = Process.linear()
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    painted = ddim(process, _gaussian(process, 0.4, 0.1), x, 250)
    assert painted.mean().item() == pytest.approx(0.4, abs=0.005)
    assert painted.std().item() == pytest.approx(0.1, rel=0.05)


def test_ddim_is_deterministic_and_watched():
    process, times = Process.linear(), []
    denoiser, x = _gaussian(process, 0.0, 0.5), torch.ones(2, 1)
    first = ddim(process, denoiser, x, 5, lambda time, _: times.append(time))
    assert times == strided(5) == [999, 749, 500, 250, 0]
    assert torch.equal(first, ddim(process, denoiser, x, 5))
    assert strided(STEPS) == list(range(999, -1, -1))
    assert strided(1) == [999]


def test_unet_answers_in_the_pictures_shape():
    unet = make_unet(16, 32)
    assert unet(torch.zeros(2, 3, 32, 32), torch.tensor([0, 999])).sample.shape == (2, 3, 32, 32)


def test_label_smoothing_is_lowest_at_the_belief_it_asks_for():
    logits = torch.linspace(-6, 6, 1201)
    nothing = torch.full((1,), -30.0)
    best = min(logits, key=lambda one: discriminator_loss(one[None], nothing, 0.1).item())
    assert torch.sigmoid(best).item() == pytest.approx(0.9, abs=0.001)
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.1])
    by_hand = -(0.9 * torch.sigmoid(real).log() + 0.1 * torch.sigmoid(-real).log()).mean()
    by_hand -= torch.sigmoid(-fake).log().mean()
    assert discriminator_loss(real, fake, 0.1).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_pictures_are_shifted_by_whole_pixels_and_differentiably():
    side, count = 16, 40
    pictures = torch.full((count, 3, side, side), -1.0)
    pictures[:, :, 7, 9] = 1.0
    moved = shifted(pictures.requires_grad_(), 0.125, torch.Generator().manual_seed(3))
    places = (moved[:, 0] == 1.0).nonzero()
    assert places[:, 0].tolist() == list(range(count))
    assert set(places[:, 1].tolist()) == set(range(5, 10))
    assert set(places[:, 2].tolist()) == set(range(7, 12))
    moved[:, :, :][moved == 1.0].sum().backward()
    assert (pictures.grad[:, :, 7, 9] == 1).all()
    assert pictures.grad.sum() == count * 3
    again = shifted(pictures, 0.125, torch.Generator().manual_seed(3))
    assert torch.equal(moved, again)
    assert shifted(pictures, 0.0, torch.Generator()) is pictures
    # what comes in from outside is the edge
    wide = torch.arange(4.0).expand(64, 1, 4, 4)
    rows = {tuple(one[0, 0].tolist()) for one in shifted(wide, 0.25, torch.Generator().manual_seed(0))}
    assert rows == {(0, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 3)}


# data


def test_batches_show_every_picture_once_an_epoch(builtin, tmp_path):
    data = open_data(_request("dcgan"), Context(tmp_path, builtin))
    assert (len(data.shown), len(data.held_out)) == (38, 2)
    data = type(data)(data.shown, data.held_out, False, "")
    flat = torch.cat([data.batch(0, number, 19) for number in range(4)]).flatten(1)
    shown = to_scale(data.shown).flatten(1)
    which = torch.cdist(flat, shown).argmin(1)
    assert sorted(which[:38].tolist()) == sorted(which[38:].tolist()) == list(range(38))
    assert which[:38].tolist() != which[38:].tolist()
    assert torch.equal(data.batch(0, 3, 19), data.batch(0, 3, 19))


def test_mirrored_pictures_are_the_same_pictures(builtin, tmp_path):
    data = open_data(_request("ddpm"), Context(tmp_path, builtin))
    shown = to_pixels(data.batch(0, 0, 38))
    both = {one.tobytes() for one in data.shown} | {one[:, ::-1].tobytes() for one in data.shown}
    assert all(one.tobytes() in both for one in shown)
    assert not all(one.tobytes() in {x.tobytes() for x in data.shown} for one in shown)


@pytest.mark.parametrize(
    ("subject", "count"),
    [("face", 40), ("face-smiling, 3d", 20), ("line art", 20), ("face, -line", 20), ("cat", 1), ("all", 41)],
)
def test_a_subject_names_groups_styles_and_labels(builtin, subject, count):
    pictures = drawings.load(builtin.parent / "builtin", 128).pictures
    assert len(choose(pictures, subject)) == count


def test_what_is_missing_is_said(builtin, tmp_path):
    context = Context(tmp_path, builtin)
    with pytest.raises(InvalidRequestError, match="no built-in drawing") as told:
        open_data(_request("dcgan", subject="faces"), context)
    assert "cat, face" in told.value.allowed
    with pytest.raises(InvalidRequestError, match="too few"):
        open_data(_request("dcgan", subject="cat"), context)
    with pytest.raises(NotFoundError, match="no training pictures"):
        open_data(_request("dcgan"), Context(tmp_path, tmp_path / "elsewhere" / "sets"))
    with pytest.raises(NotFoundError):
        open_data(_request("dcgan", dataset="none"), context)


def test_a_training_set_is_cut_to_squares(tmp_path):
    from danqing.sets.folder import write_set
    from danqing.spec.training_set import TrainingPicture, TrainingSet

    folder = tmp_path / "sets" / "reds"
    (folder / "pictures").mkdir(parents=True)
    names = [f"{i:02}.png" for i in range(44)]
    for name in names:
        picture = Image.new("RGB", (60, 40), "red")
        picture.paste("blue", (0, 0, 10, 40))
        picture.save(folder / "pictures" / name)
    entries = tuple(TrainingPicture(file=name, sha256="0" * 64, width_px=60, height_px=40) for name in names)
    write_set(folder, TrainingSet(name="reds", pictures=entries, licence_note="mine"))
    data = open_data(_request("dcgan", dataset="reds"), Context(tmp_path, tmp_path / "sets"))
    assert data.shown.shape == (40, 32, 32, 3)
    assert data.held_out.shape == (4, 32, 32, 3)
    assert (data.shown == (255, 0, 0)).all()
    assert data.licence_note == "mine"


# figures


def test_collapse_is_measured():
    rng = np.random.default_rng(0)
    corners = np.eye(8, dtype=np.float32)[rng.integers(0, 8, 400)]
    noisy = corners + 0.05 * rng.standard_normal(corners.shape)
    vectors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    centres = cluster(vectors, 8, 0)
    assert covered(vectors, centres) == 8
    assert covered(vectors[:1].repeat(50, 0), centres) == 1
    assert distinct_share(vectors[:100], vectors) == 1.0
    assert distinct_share(vectors[:1].repeat(50, 0), vectors) == 0.02


def test_grids_strips_and_charts_have_their_places():
    pixels = np.zeros((6, 32, 32, 3), np.uint8)
    pixels[5] = 200
    grid = picture_grid(pixels, 3)
    assert grid.size == (3 * 68 + 4, 2 * 68 + 4)
    assert grid.getpixel((2 * 68 + 10, 68 + 10)) == (200, 200, 200)
    assert strip([pixels[:3], pixels[3:]], ["a", "b", "c"]).size[0] == grid.size[0]
    falling = Curve("generator", [10, 20, 30], [3.0, 2.0, 1.0])
    assert chart([Curve("generator", [1], [2.0])]) is None
    believed = Curve("D(x)", [10, 20, 30], [0.5, 0.6, 0.7])
    one, two = chart([falling]), chart([falling, believed])
    assert two.height == 2 * one.height
    left, right = one.crop((205, 25, 260, 60)), one.crop((500, 25, 548, 60))
    line = (0xC8, 0x37, 0x2D)
    assert line in [color for _, color in left.getcolors(9999)]
    assert line not in [color for _, color in right.getcolors(9999)]


@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize(
    "labels", [[f"t = {time}" for time in strided(20)[::2]] + ["painted"], ["after all steps"] * 2]
)
def test_words_over_a_strip_leave_each_other_room(side, labels):
    picture = strip([np.zeros((len(labels), side, side, 3), np.uint8)], labels)
    step = (picture.width - GAP_PX) // len(labels)
    assert step >= side + GAP_PX
    head = np.asarray(picture.crop((0, 0, picture.width, TEXT_PX + 6)).convert("L"))
    written = head.min(0) < 128
    for i in range(len(labels)):
        column = written[i * step : (i + 1) * step + GAP_PX]
        assert column.any()
        assert not column[:2].any()
        assert not column[-6:].any()


# runs


@pytest.mark.parametrize("method", ["dcgan", "wgan", "ddpm"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(method, builtin, tmp_path, monkeypatch):
    monkeypatch.setattr("danqing.training.own.foundation_gan.Gan.score", lambda self, step: None)
    more = {"critic_steps": 2} if method == "wgan" else {}
    more |= {"ema": 0.9}
    whole = Trainer(_open(method, tmp_path / "whole", builtin, **more))
    assert not whole.run().paused
    assert Trainer(_open(method, tmp_path / "halves", builtin, **more), LoopOptions(stop_after=2)).run().paused
    halves = Trainer(_open(method, tmp_path / "halves", builtin, **more))
    assert halves.run().step == 4
    for name, module in whole.method.modules().items():
        other = halves.method.modules()[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in module.state_dict().items()), name
    assert all(torch.equal(a, b) for a, b in zip(whole.average.shadow, halves.average.shadow, strict=True))
    for name, one in whole._optimizers().items():
        kept = halves._optimizers()[name].state_dict()["state"]
        assert all(torch.equal(row["exp_avg"], kept[i]["exp_avg"]) for i, row in one.state_dict()["state"].items())


def test_gan_steps_move_both_networks_and_tell_their_parts(builtin, tmp_path):
    method = _open("dcgan", tmp_path / "run", builtin)
    before = {name: next(module.parameters()).clone() for name, module in method.modules().items()}
    figures = Trainer(method).step()
    assert set(figures) == {"loss", "generator", "discriminator", "D(x)", "D(G(z))"}
    assert 0 < figures["D(x)"] < 1
    assert figures["loss"] == pytest.approx(figures["generator"] + figures["discriminator"])
    assert all(not torch.equal(next(m.parameters()), before[name]) for name, m in method.modules().items())
    assert all(one.requires_grad for one in method.critic.parameters())
    adams = method.optimizers()
    assert {group["betas"] for one in adams.values() for group in one.param_groups} == {(0.5, 0.999)}
    with pytest.raises(UnsupportedError, match="accumulate"):
        _open("dcgan", tmp_path / "run", builtin, accumulate=2)
    with pytest.raises(UnsupportedError, match="float16"):
        _open("dcgan", tmp_path / "run", builtin, precision="float16")


def test_a_dcgan_learns_a_shape_of_few_pictures(builtin, tmp_path):
    """Discs on white: after 120 small steps the middle is dark and the corners are not."""
    method = _open("dcgan", tmp_path / "run", builtin, steps=120, batch=16)
    y, x = np.mgrid[:32, :32] - 15.5
    disc = (x**2 + y**2 < 100)[None, :, :, None]
    shades = np.linspace(20, 80, 16, dtype=np.uint8)[:, None, None, None]
    pictures = np.where(disc, shades, np.uint8(250)).repeat(3, 3).astype(np.uint8)
    method.data = type(method.data)(pictures, pictures[:0], False, "discs")
    trainer = Trainer(method)
    for _ in range(120):
        trainer.step()
    painted = method.paint(16).astype(float)
    assert painted[:, 12:20, 12:20].mean() < 110
    assert painted[:, :4, :4].mean() > 180


def test_the_critic_steps_more_often(builtin, tmp_path):
    method = _open("wgan", tmp_path / "run", builtin, critic_steps=3)
    Trainer(method).step()
    steps = {name: one.state_dict()["state"][0]["step"].item() for name, one in method.optimizers().items()}
    assert steps == {"generator": 1, "critic": 3}


@pytest.mark.parametrize("method", ["dcgan", "wgan", "ddpm"])
def test_bfloat16_steps_too(method, builtin, tmp_path):
    more = {"critic_steps": 1} if method == "wgan" else {}
    figures = Trainer(_open(method, tmp_path / "run", builtin, precision="bfloat16", **more)).step()
    assert math.isfinite(float(figures["loss"]))


def test_a_whole_gan_run_shows_exports_and_paints(builtin, tmp_path, monkeypatch):
    monkeypatch.setattr("danqing.training.own.foundation_gan.SCORED_PICTURES", 8)
    monkeypatch.setattr("danqing.training.own.foundation_gan.Gan.measured_pictures", 64)
    folder = tmp_path / "run"
    method = _open("dcgan", folder, builtin, sample_every=4)
    trainer = Trainer(method)
    trainer.events.tell(StepEvent(step=1, parts={"generator": 2.0}))
    trainer.run()
    files, figures = export_all(trainer)
    assert [one.name for one in files[:2]] == ["tiny.safetensors", "tiny.json"]
    assert {"frechet", "frechet_real", "mean_pairwise", "clusters_covered", "nearest_distinct_share"} <= set(figures)
    assert figures["frechet_pictures"] == 4
    shown = {one.what: one.file for one in read_events(folder) if isinstance(one, SampleEvent)}
    assert set(shown) == {"grid", "loss"}
    assert _pixels(folder / shown["grid"]).shape == (8 * 68 + 4, 8 * 68 + 4, 3)
    assert {one.name for one in read_curves(folder)} >= {"generator", "D(x)"}
    (folder / "request.json").write_text(method.request.model_dump_json())
    out = tmp_path / "grid.png"
    assert foundation_sample.main([str(folder), "-n", "64", "-o", str(out), "--device", "cpu"]) == 0
    # the product paints the run's own last grid
    assert np.abs(_pixels(out) - _pixels(folder / shown["grid"])).max() <= 1


def test_a_ddpm_run_is_opened_by_diffusers(builtin, tmp_path, monkeypatch):
    monkeypatch.setattr("danqing.training.own.methods.ddpm.ancestral", lambda process, denoiser, x, drawn: x)
    monkeypatch.setattr("danqing.training.own.methods.ddpm.Ddpm.measured_pictures", 16)
    folder = tmp_path / "run"
    method = _open("ddpm", folder, builtin, sample_every=2, steps=2)
    assert method.request.ema == 0.995
    trainer = Trainer(method)
    trainer.run()
    files, figures = export_all(trainer)
    pipeline = DDPMPipeline.from_pretrained(files[0])
    assert pipeline.scheduler.config["variance_type"] == "fixed_small"
    ours, theirs = Process.linear(), pipeline.scheduler.alphas_cumprod
    assert torch.allclose(ours.kept.float(), theirs, atol=1e-6)
    x = torch.randn(1, 3, 32, 32)
    with trainer.exported(), torch.no_grad():
        assert torch.allclose(pipeline.unet(x, 500).sample, method.unet(x, 500).sample, atol=1e-5)
    shown = [one.what for one in read_events(folder) if isinstance(one, SampleEvent)]
    assert shown == ["grid", "denoising", "noising"]
    assert figures["pictures_measured"] == 16
    pixels = foundation_sample.paint_product(folder / "model", 2, 0, 3, torch.device("cpu"))
    assert pixels.shape == (2, 32, 32, 3)
    with pytest.raises(InvalidRequestError, match="out of bounds"):
        foundation_sample.paint_product(folder, 2, 0, 1001, torch.device("cpu"))


def test_our_step_back_is_diffusers_step():
    from danqing.training.own.methods.ddpm import export_scheduler

    process, scheduler = Process.linear(), export_scheduler()
    x, noise = torch.randn(2, 2, 3, 4, 4)
    for time in (0, 1, 500, 999):
        mean, variance = process.posterior(process.guessed(x, noise, time), x, time)
        theirs = scheduler.step(noise, time, x, generator=torch.Generator().manual_seed(5)).prev_sample
        fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)) if time else torch.zeros(())
        assert torch.allclose(theirs, mean + variance**0.5 * fresh, atol=1e-3), time  # theirs are float32 tables


def test_sampling_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(NotFoundError, match="nothing that paints"):
        foundation_sample.find_product(tmp_path)
    assert foundation_sample.main([str(tmp_path), "-o", str(tmp_path / "x.png")]) == 2
    assert "next:" in capsys.readouterr().err
    about = tmp_path / "a.json"
    for said in ("{", "[]", json.dumps({"kind": "danqing-generator", "latent_dim": 5, "width": 8, "size_px": 4096})):
        about.write_text(said)
        with pytest.raises(BadFileError, match="generator cannot be opened"):
            foundation_sample.open_generator(about, torch.device("cpu"))
    (tmp_path / "unet").mkdir()
    with pytest.raises(BadFileError, match="DDPM cannot be opened"):
        foundation_sample.open_unet(tmp_path, torch.device("cpu"))
