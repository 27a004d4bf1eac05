from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from danqing.spec.errors import BadFileError, NotFoundError
from danqing.training.builtin.__main__ import Job, main, stage_data, stage_tokenizer, stage_vae, train
from danqing.training.builtin.config import StageConfig, TrainConfig, parse_config
from danqing.training.builtin.dataset import composite
from danqing.training.builtin.diffusion import add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.groupnorm import FastGroupNorm
from danqing.training.builtin.latents import WHITE, cached, encode, normalize_latents
from danqing.training.builtin.loop import Budget, Ema, step_seed
from danqing.training.builtin.sample import sigma_ladder
from danqing.training.builtin.unet import Hooks, unet_run, warm_start
from danqing.training.builtin.vae import build_vae

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*", "ignore::DeprecationWarning")


@pytest.fixture
def config(tiny: dict[str, Any]) -> TrainConfig:
    return parse_config(tiny)


def job(config: TrainConfig, packages: tuple[Path, Any], out: Path, **more: Any) -> Job:
    return Job(config, out, packages[0], torch.device("cpu"), out / "model", **more)


@pytest.fixture
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_train_export_load_and_resume(config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(job(config, packages, whole))
    train(job(config, packages, parts, stop_after_steps=3), last="unet")
    train(job(config, packages, parts))
    for name in ("unet", "text_encoder", "vae"):
        file = next((whole / "model" / name).glob("*.safetensors"))
        assert file.read_bytes() == (parts / "model" / name / file.name).read_bytes(), name
    assert not list((whole / "model").rglob("*.tmp"))
    about = json.loads((whole / "model" / "danqing.json").read_text(encoding="utf-8"))
    assert about["samples_seen"] == config.unet.stage.max_samples
    assert np.shape(about["latent_rgb_factors"]) == (config.vae.latent_channels, 3)
    assert (whole / "samples" / "step-000006.png").exists()
    _paint(whole / "model")


def _paint(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        image = pipe("red apple", num_inference_steps=2, width=32, height=32).images[0]
    assert image.size == (32, 32)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(4.03582e-05, rel=1e-2)


@pytest.mark.usefixtures("one_thread")
def test_latents_are_kept_normalised_and_made_again_for_another_autoencoder(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    here = job(config, packages, tmp_path)
    data = stage_data(here)
    vae = stage_vae(here, data)
    first = cached(tmp_path / "latents.pt", vae, data, config, here.device)
    plain = encode(vae, composite(data.rgba, WHITE), here.device, config.precision)
    assert plain.mean((0, 2, 3)).abs().max() < 1e-3
    assert (plain.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert torch.equal(first.white[:, 0], plain.half())
    stamp = (tmp_path / "latents.pt").stat().st_mtime_ns
    again = cached(tmp_path / "latents.pt", vae, data, config, here.device)
    assert torch.equal(first.colored, again.colored)
    assert (tmp_path / "latents.pt").stat().st_mtime_ns == stamp
    vae.quant_conv.bias.data += 1.0
    other = cached(tmp_path / "latents.pt", vae, data, config, here.device)
    assert not torch.equal(first.white, other.white)


def test_normalising_changes_no_picture(config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path) -> None:
    data = stage_data(job(config, packages, tmp_path))
    torch.manual_seed(0)
    vae = build_vae(config.vae).eval().requires_grad_(False)
    x = torch.from_numpy(composite(data.rgba, WHITE))
    before = vae.decode(vae.encode(x).latent_dist.mode()).sample
    normalize_latents(vae, data, torch.device("cpu"), "fp32")
    after = vae.decode(vae.encode(x).latent_dist.mode()).sample
    assert torch.allclose(before, after, atol=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_text_starts_spread_and_padding_ignored(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    here = job(config, packages, tmp_path)
    tokenizer = stage_tokenizer(here, stage_data(here))
    models, _ = unet_run(config, tokenizer, tmp_path, here.device)
    captions = ["red apple, 3d", "banana, 3d", "红心，3d"]
    with torch.no_grad():
        states = models.encode(captions, here.device)
        assert float(states[:, 1].std(0).mean()) > 0.3
        block = next(m for m in models.unet.modules() if type(m).__name__ == "BasicTransformerBlock")
        attention = block.attn2
        query = attention.to_q(block.norm2(torch.randn(3, 16, attention.to_q.in_features)))
        query, key = (x.unflatten(2, (attention.heads, -1)).transpose(1, 2) for x in (query, attention.to_k(states)))
        mass = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(-1).mean((1, 2))
    for row, caption in enumerate(captions):
        words = len(tokenizer(caption).input_ids)
        assert float(mass[row, :words].sum()) > 2 * words / 77


@pytest.mark.usefixtures("one_thread")
def test_warm_start_takes_the_body_and_leaves_what_reads_text(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    train(job(config, packages, tmp_path / "a", stop_after_steps=2), last="unet")
    here = job(config, packages, tmp_path / "b")
    tokenizer = stage_tokenizer(here, stage_data(here))
    models, run = unet_run(config, tokenizer, tmp_path / "b", here.device)
    before = {k: v.clone() for k, v in models.unet.state_dict().items()}
    taken = warm_start(models, run, tmp_path / "a" / "unet.ckpt.pt")
    changed = {k for k, v in models.unet.state_dict().items() if not torch.equal(v, before[k])}
    assert 0 < len(changed) <= taken < len(before)
    assert not [k for k in changed if "attn2" in k]
    assert all(torch.equal(s, p) for s, p in zip(run.ema.shadow, run.ema.params, strict=True))
    with pytest.raises(NotFoundError, match="checkpoint"):
        warm_start(models, run, tmp_path / "nothing.pt")


@pytest.mark.parametrize(("load", "threads"), [(0.5, 2), (9.0, 1)])
def test_threads_follow_the_load(load: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    Hooks().fit_threads()
    assert chosen == [threads]


@pytest.mark.usefixtures("one_thread")
def test_checkpoint_of_another_configuration_is_refused(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    train(job(config, packages, tmp_path, stop_after_steps=1), last="unet")
    other = dataclasses.replace(config, seed=config.seed + 1)
    with pytest.raises(BadFileError, match="another configuration"):
        train(job(other, packages, tmp_path), last="unet")


def test_command_refuses_an_old_run_and_a_missing_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unet.ckpt.pt").write_bytes(b"")
    assert main(["--config", "builtin-tiny", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["--config", "none", "--out", str(tmp_path / "new")]) == 2
    assert "builtin-tiny" in capsys.readouterr().err


def test_schedule_ends_and_training_density(config: TrainConfig) -> None:
    schedule = make_schedule(config)
    assert schedule.sigmas[-1] == pytest.approx(157.4, abs=0.1)
    assert schedule.sigmas[0] == pytest.approx(0.01, abs=1e-4)
    steps = draw_timesteps(schedule, np.random.default_rng(0), 4000)
    log_sigma = np.log(schedule.sigmas[steps])
    assert (steps.min(), steps.max()) > (-1, 900)
    assert 0.2 < np.median(log_sigma) < 0.9
    ladder = sigma_ladder(schedule, 12)
    assert ladder[-1] == 0
    assert (np.diff(ladder) < 0).all()


@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_v_target_recovers_the_picture(config: TrainConfig, gamma: float) -> None:
    schedule = make_schedule(config)
    x0, noise = torch.randn(6, 2, 3, 3, dtype=torch.float64), torch.randn(6, 2, 3, 3, dtype=torch.float64)
    steps = np.array([0, 10, 200, 500, 900, 999])
    noised = add_noise(schedule, x0, noise, steps, gamma)
    a = torch.from_numpy(schedule.alpha_bar[steps]).sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(a * noised.x - (1 - a**2).sqrt() * noised.target, x0, atol=1e-9)
    assert noised.weight.max() <= 1


def test_fast_group_norm_has_group_norms_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danqing.training.builtin.groupnorm.MIN_ELEMENTS", 0)
    plain, fast = torch.nn.GroupNorm(4, 8).double(), FastGroupNorm(4, 8).double()
    with torch.no_grad():
        plain.weight.normal_()
        plain.bias.normal_()
    fast.load_state_dict(plain.state_dict())
    grads = []
    for module in (plain, fast):
        x = torch.randn(3, 8, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        (module(x) * torch.linspace(-1, 2, x.numel(), dtype=torch.float64).view_as(x)).sum().backward()
        grads.append((x.grad, module.weight.grad, module.bias.grad))
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_budget_warms_up_decays_and_ends() -> None:
    stage = StageConfig(batch=1, lr=1.0, max_samples=100, decay_samples=20, warmup_steps=10)
    budget = Budget(stage)
    assert budget.factor(0, 0) == pytest.approx(0.1)
    assert budget.factor(50, 50) == 1.0
    assert budget.factor(90, 90) == pytest.approx(0.5)
    assert budget.factor(100, 100) == 0.0
    assert Budget(stage, deadline=0.0).factor(50, 50) == 0.0


def test_average_follows_and_stands_in() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    ema = Ema([weight], 0.9)
    weight.data.fill_(1.0)
    ema.update(0)
    assert ema.shadow[0].tolist() == pytest.approx([0.9, 0.9])
    with ema.applied():
        assert weight.tolist() == pytest.approx([0.9, 0.9])
    assert weight.tolist() == [1.0, 1.0]


def test_step_seeds_differ() -> None:
    assert len({step_seed(s, k, i) for s in (1, 2) for k in ("vae", "unet") for i in range(500)}) == 2000
