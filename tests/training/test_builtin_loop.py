"""What the optimiser runs share: schedule, budget, average, checkpoints, fast group norm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from danqing.spec.errors import BadFileError
from danqing.training.builtin.config import StageConfig, TrainConfig
from danqing.training.builtin.diffusion import add_noise, draw_timesteps, make_schedule
from danqing.training.builtin.groupnorm import FastGroupNorm
from danqing.training.builtin.loop import (
    STAGE_SALT,
    Budget,
    Ema,
    Run,
    Steps,
    make_optimizer,
    stage_digest,
    step_rng,
    step_seed,
    step_torch,
    train_steps,
)
from danqing.training.builtin.sample import sigma_ladder

FROZEN_SEED = 7634699584436821034
STAGE = StageConfig(batch=2, lr=0.1, max_samples=20, decay_samples=10, warmup_steps=1, weight_decay=0.0, ema=0.5)


def line_run(folder: Path, digest: str = "a") -> Run:
    """A run that learns y = 3·x."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1)
    params = list(layer.parameters())
    run = Run("vae", folder, {"layer": layer}, make_optimizer([(params, 1.0)], STAGE), Ema(params, STAGE.ema), digest)
    run.resume()
    return run


def line_loss(run: Run, step: int) -> torch.Tensor:
    x = torch.randn(2, 1, generator=step_torch(1, "vae", step))
    return (run.modules["layer"](x) - 3 * x).square().mean()


def go_on(folder: Path, **more: int) -> Run:
    run = line_run(folder)
    train_steps(run, STAGE, Steps(lambda step: line_loss(run, step), **more))
    return run


def test_steps_end_with_the_averaged_weights(tmp_path: Path) -> None:
    run = go_on(tmp_path)
    assert (run.progress.step, run.progress.samples) == (10, 20)
    assert all(torch.equal(p, s) for p, s in zip(run.ema.params, run.ema.shadow, strict=True))
    kept = torch.load(run.path, weights_only=True)
    assert set(kept) == {"digest", "progress", "modules", "optimizer", "ema"}
    assert not torch.equal(kept["modules"]["layer"]["weight"], run.ema.shadow[0])


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = go_on(tmp_path / "whole")
    for stop in (3, 4, 9):
        assert go_on(tmp_path / "parts", stop_after=stop).progress.step == stop
    parts = go_on(tmp_path / "parts")
    assert torch.equal(whole.ema.shadow[0], parts.ema.shadow[0])
    one, other = (torch.load(run.path, weights_only=True) for run in (whole, parts))
    assert one["modules"]["layer"]["weight"] == other["modules"]["layer"]["weight"]
    assert one["optimizer"]["state"][0]["exp_avg"] == other["optimizer"]["state"][0]["exp_avg"]


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    first = go_on(tmp_path).ema.shadow[0].clone()
    assert torch.equal(go_on(tmp_path).ema.shadow[0], first)


def test_the_log_has_parts_and_measurements(tmp_path: Path) -> None:
    stage = StageConfig(batch=1, lr=0.01, max_samples=50, decay_samples=10, checkpoint_minutes=0.0)
    run = line_run(tmp_path)
    seen: list[bool] = []

    def checked() -> dict[str, float]:
        seen.append(all(torch.equal(p, s) for p, s in zip(run.ema.params, run.ema.shadow, strict=True)))
        return {"psnr_db": 1.0}

    train_steps(run, stage, Steps(lambda step: line_loss(run, step), checked, parts=lambda: {"kl": 0.5}))
    lines = [json.loads(line) for line in (tmp_path / "vae.jsonl").read_text(encoding="utf-8").splitlines()]
    reports = [line for line in lines if "loss" in line]
    assert [line["step"] for line in reports] == [25, 50]
    assert {"samples", "kl", "lr", "per_s"} <= set(reports[0])
    assert lines[-1] == {"step": 50, "samples": 50, "done": True, "psnr_db": 1.0}
    assert len(seen) == 51
    assert all(seen)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    go_on(tmp_path)
    with pytest.raises(BadFileError, match="another configuration"):
        line_run(tmp_path, digest="b")


def test_digests_follow_their_parts(config: TrainConfig) -> None:
    assert stage_digest("vae", config.vae) == stage_digest("vae", config.vae)
    assert stage_digest("vae", config.vae) != stage_digest("clip", config.vae)


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
    assert len(set(STAGE_SALT.values())) == len(STAGE_SALT)


def test_step_seeds_never_change() -> None:
    frozen = {"vae": 1, "unet": 2, "captions": 3, "cache": 4, "eval": 5, "upscaler": 6, "scenes": 7, "clip": 8}
    assert frozen.items() <= STAGE_SALT.items()
    assert step_seed(20261121, "clip", 425) == FROZEN_SEED
    assert step_rng(7, "vae", 0).integers(2**31) == step_rng(7, "vae", 0).integers(2**31)


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
