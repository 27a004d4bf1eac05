"""The ×4 upscaler's trainer: degradations, resuming exactly, measuring, and a file that spandrel reads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from danqing.enhance.spandrel_models import load_spandrel
from danqing.enhance.upscale import Upscaler
from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.training.builtin import upscaler
from danqing.training.builtin.upscaler import UpscalerJob, export_upscaler, train_upscaler, upscaler_run
from danqing.training.builtin.upscaler_config import UpscalerRun, load_upscaler_config, upscaler_config
from danqing.training.builtin.upscaler_data import background, batch_of, degrade, sharp_crop, split_rows
from danqing.training.builtin.upscaler_eval import measure, psnr_db, ssim
from danqing.training.builtin.upscaler_net import CompactUpscaler

CPU = torch.device("cpu")
TINY = {
    "num_feat": 8,
    "num_conv": 2,
    "crop_px": 32,
    "held_out": 0.2,
    "stage": {"batch": 4, "lr": 2e-3, "max_samples": 10_000, "decay_samples": 100, "warmup_steps": 5},
}


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    rng = np.random.default_rng(5)
    pictures = []
    for _ in range(10):
        image = Image.new("RGBA", (64, 64))
        draw = ImageDraw.Draw(image)
        for _ in range(4):
            x, y = rng.integers(0, 40, 2).tolist()
            draw.ellipse((x, y, x + 22, y + 18), fill=(*rng.integers(0, 256, 3).tolist(), 255))
        pictures.append(np.asarray(image))
    return np.stack(pictures)


def job(drawings: np.ndarray, folder: Path, steps: int | None = None, **changes: object) -> UpscalerJob:
    run = UpscalerRun("tiny", 7, "fp32", upscaler_config(TINY | changes))
    return UpscalerJob(run, drawings, folder, CPU, stop_after_steps=steps)


def test_crops_and_degradations_have_their_sizes(drawings: np.ndarray):
    config = upscaler_config(TINY)
    rng = np.random.default_rng(0)
    for _ in range(40):
        sharp = sharp_crop(drawings[0], rng, 32)
        assert (sharp.shape, sharp.dtype) == ((32, 32, 3), np.uint8)
        small = degrade(sharp, rng, config)
        assert (small.shape, small.dtype) == ((8, 8, 3), np.uint8)
        # a degraded crop is still a picture of the same thing
        assert abs(float(small.mean()) - float(sharp.mean())) < 12
        assert background(rng, 16).shape == (16, 16, 3)
    low, high = batch_of(drawings, np.arange(10), rng, config)
    assert low.shape == (4, 3, 8, 8)
    assert high.shape == (4, 3, 32, 32)
    assert 0 <= float(low.min()) <= float(high.max()) <= 1


def test_rows_are_split_once_and_for_all():
    for count in (2, 3, 10, 333):
        train, held = split_rows(count, 0.03)
        assert len(train) + len(held) == count
        assert set(train) & set(held) == set()
        assert len(held) >= 1


def test_an_untrained_network_is_nearest_neighbour():
    picture = torch.rand(1, 3, 6, 5)
    network = CompactUpscaler(8, 2)
    assert torch.equal(network(picture), picture.repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_training_learns_and_beats_nearest_neighbour(drawings: np.ndarray, tmp_path: Path):
    trained = train_upscaler(job(drawings, tmp_path, 150))
    found = measure(trained, drawings, split_rows(10, 0.2)[1], job(drawings, tmp_path).config, CPU)
    assert found["clean"]["model_db"] > found["clean"]["nearest_db"] + 0.1
    lines = [json.loads(line) for line in (tmp_path / "upscaler.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [50, 100, 150]
    assert lines[-1]["clean"]["model_db"] == pytest.approx(found["clean"]["model_db"], abs=0.2)


def test_a_resumed_run_goes_on_exactly(drawings: np.ndarray, tmp_path: Path):
    whole = train_upscaler(job(drawings, tmp_path / "whole", 8))
    train_upscaler(job(drawings, tmp_path / "parts", 3))
    parts = train_upscaler(job(drawings, tmp_path / "parts", 8))
    for (name, one), (_, other) in zip(whole.state_dict().items(), parts.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_another_configuration_cannot_resume(drawings: np.ndarray, tmp_path: Path):
    train_upscaler(job(drawings, tmp_path, 1))
    with pytest.raises(BadFileError, match="another configuration"):
        upscaler_run(job(drawings, tmp_path, gradient_weight=0.1))


def test_the_exported_file_is_spandrels_compact(drawings: np.ndarray, tmp_path: Path):
    made = job(drawings, tmp_path, 2)
    network = train_upscaler(made)
    path = export_upscaler(network, made, 8)
    spandrel = load_spandrel()
    found = spandrel.ModelLoader().load_from_file(path)
    assert (found.architecture.id, found.scale, found.input_channels, found.purpose) == ("Compact", 4, 3, "SR")
    assert {value.dtype for value in upscaler_tensors(path).values()} == {torch.float16}
    picture = torch.rand(1, 3, 9, 7)
    assert torch.allclose(found.float()(picture), network(picture).clamp(0, 1), atol=4e-3)
    assert torch.allclose(Upscaler(path, CPU)(picture), network(picture).clamp(0, 1), atol=4e-3)
    about = json.loads((tmp_path / "danqing.json").read_text())
    assert (about["name"], about["samples"], about["held_out_pictures"]) == ("danqing-draw-x4", 8, 2)
    assert {"model_db", "lanczos_ssim", "nearest_db"} <= set(about["figures"]["worn"])


def upscaler_tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_psnr_and_ssim_of_known_pictures():
    grey = np.full((32, 32, 3), 100, np.uint8)
    assert psnr_db(grey, grey) == pytest.approx(60)
    assert psnr_db(grey, grey + 10) == pytest.approx(20 * np.log10(255 / 10))
    noisy = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert ssim(noisy, noisy) == pytest.approx(1)
    assert ssim(noisy, grey) < 0.2


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 64, 64, 3), np.uint8), np.zeros((4, 64, 64, 4)), np.zeros((4, 16, 16, 4), np.uint8)]
)
def test_drawings_of_another_form_are_refused(bad: np.ndarray, tmp_path: Path):
    with pytest.raises(InvalidRequestError):
        train_upscaler(job(bad, tmp_path, 1))


def test_configurations_with_unknown_keys_are_refused():
    with pytest.raises(InvalidRequestError, match="unknown key"):
        upscaler_config({"nmu_feat": 3})
    with pytest.raises(InvalidRequestError, match="unknown key"):
        upscaler_config({"stage": {"btach": 3}})
    assert load_upscaler_config("builtin-cpu").upscaler.stage.batch > 0


def test_the_command_trains_and_exports(drawings: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "rgba.npy", drawings)
    stage = "".join(
        f"{key} = {value}\n" for key, value in {**TINY["stage"], "max_samples": 12, "decay_samples": 4}.items()
    )
    keys = "".join(f"{key} = {value}\n" for key, value in TINY.items() if key != "stage")
    text = f'name = "tiny"\nseed = 1\nprecision = "fp32"\n[upscaler]\n{keys}[upscaler.stage]\n{stage}'
    (tmp_path / "c.toml").write_text(text)
    arguments = [
        "--config",
        str(tmp_path / "c.toml"),
        "--rgba",
        str(tmp_path / "rgba.npy"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert upscaler.main(arguments) == 0
    assert (tmp_path / "run" / "danqing-draw-x4.safetensors").stat().st_size > 0
    assert '"samples": 12' in capsys.readouterr().out
    assert upscaler.main([*arguments[:2], "--rgba", str(tmp_path / "no.npy"), *arguments[4:]]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_deadline_ends_the_run(drawings: np.ndarray, tmp_path: Path):
    ended = dataclasses.replace(job(drawings, tmp_path), deadline=1.0)
    train_upscaler(ended)
    assert upscaler_run(ended)[1].progress.step == 0
