"""The ControlNets: they start without effect, see maps of their class, and learn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from transformers import CLIPTokenizer

from danqing.annotators import is_installed
from danqing.training.builtin import control as control_stage
from danqing.training.builtin.architecture import build_text_encoder, build_unet
from danqing.training.builtin.config import StageConfig, TrainConfig
from danqing.training.builtin.control import (
    CLASSES,
    FALLBACK,
    ControlData,
    build_control,
    control_map,
    control_run,
    hint_batch,
    train_control,
)
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.pool import Pool
from danqing.training.builtin.unet import Models

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def models(config: TrainConfig, tokenizer: CLIPTokenizer) -> Models:
    torch.manual_seed(0)
    text = build_text_encoder(config, tokenizer).eval().requires_grad_(False)
    return Models(build_unet(config, 32).eval().requires_grad_(False), text, tokenizer)


@pytest.fixture
def latents(pool: Pool, config: TrainConfig) -> torch.Tensor:
    shape = (len(pool.pictures), config.scenes.variants, config.vae.latent_channels, 4, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).half()


def test_a_new_controlnet_leaves_the_unet_as_it_is(models: Models, config: TrainConfig) -> None:
    net = build_control(models.unet, config).eval()
    x, hint = torch.randn(2, 4, 4, 4), torch.rand(2, 3, 32, 32)
    states, steps = models.encode(["red apple", ""], CPU), torch.tensor([3, 700])
    with torch.no_grad():
        down, mid = net(x, steps, states, hint, return_dict=False)
        assert all(not part.any() for part in (*down, mid))
        plain = models.unet(x, steps, encoder_hidden_states=states).sample
        held = models.unet(
            x,
            steps,
            encoder_hidden_states=states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    assert torch.equal(plain, held)


def test_it_begins_as_the_unets_encoder(models: Models, config: TrainConfig) -> None:
    own, theirs = build_control(models.unet, config).state_dict(), models.unet.state_dict()
    assert torch.equal(own["conv_in.weight"], theirs["conv_in.weight"])
    for name in ("down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight"):
        assert torch.equal(own[name], theirs[name])
    assert not [name for name in own if "attn" in name]


@pytest.mark.parametrize("name", sorted({name for names in CLASSES.values() for name in names}))
def test_every_annotator_of_the_classes_needs_no_weights(name: str, pool: Pool) -> None:
    assert is_installed(name)
    assert FALLBACK.get(name, "seg_superpixels") in CLASSES["block"]


@pytest.mark.parametrize("kind", CLASSES)
def test_maps_of_each_class(kind: str, pool: Pool) -> None:
    for seed in range(6):
        picture = np.asarray(pool.rgb[seed % 7, seed % pool.rgb.shape[1]])
        made = control_map(picture, kind, step_rng(seed, "control", 0))
        assert made.shape == (32, 32, 3)
        assert made.dtype == np.uint8
        assert np.array_equal(made, control_map(picture, kind, step_rng(seed, "control", 0)))


def test_where_a_relief_cannot_be_made_superpixels_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    monkeypatch.setitem(CLASSES, "block", ("depth_relief",))
    assert control_map(noise, "block", step_rng(0, "control", 0)).shape == (32, 32, 3)


def test_hints_are_scaled_and_of_the_right_scenes(pool: Pool, latents: torch.Tensor) -> None:
    data = ControlData(pool, latents, "detail")
    hints = hint_batch(data, [(0, 0), (3, 1)], step_rng(0, "control", 0))
    assert hints.shape == (2, 3, 32, 32)
    assert hints.dtype == torch.float32
    assert 0.0 <= float(hints.min()) <= float(hints.max()) <= 1.0
    apple = hints[0, :, 16, 16]
    assert float(apple[0]) > float(apple[1])


def test_the_loss_falls_while_the_unet_stays(
    models: Models, pool: Pool, latents: torch.Tensor, config: TrainConfig, tmp_path: Path
) -> None:
    stage = StageConfig(batch=4, lr=3e-3, max_samples=300, decay_samples=40, warmup_steps=5, ema=0.9)
    config = dataclasses.replace(config, control=dataclasses.replace(config.control, stage=stage))
    config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, uniform_share=0.0, log_sigma_std=0.1))
    before = {name: value.clone() for name, value in models.unet.state_dict().items()}
    net = train_control(models, ControlData(pool, latents, "detail"), config, tmp_path)
    lines = [json.loads(x) for x in (tmp_path / "control-detail.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in models.unet.state_dict().items())
    assert any(block.weight.any() for block in net.controlnet_down_blocks)
    net.save_pretrained(str(tmp_path / "line"))
    again = ControlNetModel.from_pretrained(str(tmp_path / "line"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    models: Models,
    pool: Pool,
    latents: torch.Tensor,
    config: TrainConfig,
    tmp_path: Path,
    interrupt_after: Callable[[int | None], None],
) -> None:
    data = ControlData(pool, latents, "line")
    ends: list[dict[str, torch.Tensor]] = []
    for folder, pauses in ((tmp_path / "whole", (None,)), (tmp_path / "parts", (1, 3, None))):
        for pause in pauses:
            interrupt_after(pause)
            net = train_control(models, data, config, folder)
        ends.append(net.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_each_class_is_a_run_of_its_own(models: Models, config: TrainConfig, tmp_path: Path) -> None:
    runs = {kind: control_run(models, config, kind, tmp_path, CPU)[1] for kind in CLASSES}
    assert {run.path.name for run in runs.values()} == {f"control-{kind}.ckpt.pt" for kind in CLASSES}
    assert len({run.digest for run in runs.values()}) == len(CLASSES)
    assert control_stage.EMPTY_CAPTIONS < 1
