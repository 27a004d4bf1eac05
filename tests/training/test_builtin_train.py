"""The whole trainer on the tiny configuration: stages, resuming, what is exported, messages."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPVisionModelWithProjection

from danqing.spec.errors import BadFileError
from danqing.training.builtin.__main__ import (
    Job,
    favored_rows,
    main,
    stage_clip,
    stage_data,
    stage_pool,
    stage_tokenizer,
    stage_vae,
    train,
)
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import composite, split
from danqing.training.builtin.latents import WHITE, encode
from danqing.training.builtin.unet import unet_run
from danqing.training.builtin.unet_loop import Hooks

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def job(config: TrainConfig, packages: tuple[Path, Any], out: Path, **more: Any) -> Job:
    return Job(config, out, packages[0].parent, torch.device("cpu"), out / "danqing-mini", workers=1, **more)


def test_train_export_load_and_resume(
    config: TrainConfig,
    packages: tuple[Path, Any],
    tmp_path: Path,
    interrupt_after: Callable[[int | None], None],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(job(config, packages, whole))
    for pause, stage in ((2, "vae"), (4, "clip")):
        # an interrupted stage leaves a checkpoint; what it would have finished with is thrown away here
        interrupt_after(pause)
        train(job(config, packages, parts), last=stage)
        (parts / "vae" / "config.json").unlink(missing_ok=stage == "clip")
        (parts / "clip.pt").unlink(missing_ok=True)
        if stage == "vae":
            (parts / "smooth.ckpt.pt").unlink()
        interrupt_after(None)
        train(job(config, packages, parts), last="vae")
    train(job(config, packages, parts, stop_after_steps=3), last="unet")
    other = dataclasses.replace(config, seed=config.seed + 1)
    with pytest.raises(BadFileError, match="another configuration"):
        train(job(other, packages, parts), last="unet")
    train(job(config, packages, parts))
    for name in ("danqing-mini/unet", "danqing-mini/text_encoder", "danqing-mini/vae", "danqing-mini-clip"):
        files = sorted((whole / name).rglob("*.safetensors"))
        assert files
        for file in files:
            assert file.read_bytes() == (parts / file.relative_to(whole)).read_bytes(), file
    assert not list((whole / "danqing-mini").rglob("*.tmp"))
    about = json.loads((whole / "danqing-mini" / "danqing.json").read_text(encoding="utf-8"))
    assert about["samples_seen"] == config.unet.stage.max_samples
    assert (about["concepts"], about["pictures"], about["styles"]) == (4, 7, ["3d", "flat"])
    assert np.shape(about["latent_rgb_factors"]) == (config.vae.latent_channels, 3)
    assert (whole / "samples" / "step-000006.png").exists()
    _paint(whole / "danqing-mini")
    clip = whole / "danqing-mini-clip"
    assert CLIPVisionModelWithProjection.from_pretrained(str(clip / "image_encoder")).config.image_size == 32
    words = json.loads((clip / "vocabulary.json").read_text(encoding="utf-8"))
    assert len(words) == 5  # the held-out concept may be named, too


def _paint(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        image = pipe("red apple", num_inference_steps=2, width=32, height=32).images[0]
    assert image.size == (32, 32)
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert float(pipe.scheduler.alphas_cumprod[-1]) == pytest.approx(4.03582e-05, rel=1e-2)


def test_the_autoencoder_stage_measures_and_normalises(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    here = job(config, packages, tmp_path / "run")
    full = stage_data(here)
    vae = stage_vae(here, full)
    plain = encode(vae, composite(split(full, held_out=False).rgba, WHITE), here.device, config.precision)
    assert plain.mean((0, 2, 3)).abs().max() < 1e-3
    assert (plain.std((0, 2, 3)) - 1).abs().max() < 1e-3
    last = json.loads((here.out / "vae.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["done"]
    assert np.isfinite(last["psnr_db"])
    stamp = (here.out / "vae" / "config.json").stat().st_mtime_ns
    stage_vae(here, full)
    assert (here.out / "vae" / "config.json").stat().st_mtime_ns == stamp


def test_without_held_out_pictures_the_seen_ones_are_measured(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    data = dataclasses.replace(config.data, exclude=("^mending",))
    here = job(dataclasses.replace(config, data=data), packages, tmp_path / "run")
    full = stage_data(here)
    assert not split(full, held_out=True).pictures
    stage_vae(here, full)
    last = json.loads((here.out / "vae.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert np.isfinite(last["psnr_db"])


def test_what_is_held_out_is_seen_by_no_stage(config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path) -> None:
    here = job(config, packages, tmp_path / "run")
    full = stage_data(here)
    assert "2764-200D-1FA79" in {p.concept.hexcode for p in full.pictures}
    assert "2764-200D-1FA79" not in {p.concept.hexcode for p in stage_pool(here, full).pictures}
    unet = dataclasses.replace(config.unet, styles=("flat",), labels=("red apple", "mending heart"))
    chosen = job(dataclasses.replace(config, unet=unet), packages, tmp_path / "other")
    assert [(p.style, p.concept.hexcode) for p in stage_pool(chosen, full).pictures] == [("flat", "1F34E")]
    seen = split(full, held_out=False).pictures
    assert [seen[row].concept.hexcode for row in favored_rows(seen, chosen.config)] == ["1F34E"]
    assert favored_rows(seen, config).tolist() == list(range(len(seen)))


def test_text_starts_spread_and_padding_ignored(
    config: TrainConfig, packages: tuple[Path, Any], tmp_path: Path
) -> None:
    here = job(config, packages, tmp_path / "run")
    here.out.mkdir()
    full = stage_data(here)
    tokenizer = stage_tokenizer(here, full)
    text = stage_clip(here, full, tokenizer).text
    models, _ = unet_run(config, tokenizer, text, here.out, here.device)
    assert not any(p.requires_grad for p in models.text.parameters())
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


@pytest.mark.parametrize(("load", "threads"), [(0.5, 2), (9.0, 1)])
def test_threads_follow_the_load(load: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    Hooks().fit_threads()
    monkeypatch.undo()
    assert chosen == [threads]


def test_command_refuses_an_old_run_and_a_missing_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unet.ckpt.pt").write_bytes(b"")
    assert main(["--config", "builtin-tiny", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["--config", "none", "--out", str(tmp_path / "new")]) == 2
    assert "builtin-tiny" in capsys.readouterr().err
