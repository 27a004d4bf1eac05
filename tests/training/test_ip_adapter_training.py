"""The image-prompt stage: what it trains, what it leaves alone, exact resumption, and the file it writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from danqing.models.catalog import identify
from danqing.models.hashes import HashCache
from danqing.models.ip_adapter import read_ip_adapter
from danqing.models.ip_adapters import IpAdapterShelf, misfits
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.finished import Finished, SideJob, open_finished
from danqing.training.builtin.ip_adapter import (
    ImageData,
    draw_drops,
    draw_prompts,
    image_prompt_stage,
    paint_like,
    train_adapter,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def job(trained: Callable[[str], SideJob]) -> SideJob:
    return trained("family/danqing-mini")


@pytest.fixture
def done(job: SideJob) -> Finished:
    return open_finished(job)


def data_of(done: Finished) -> ImageData:
    return ImageData(done.pool, done.latents, done.clip.vision)


def test_only_the_adapter_is_trained_and_a_resumed_run_is_the_same(done: Finished, tmp_path: Path):
    config, data = done.config, data_of(done)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    before = {key: value.clone() for key, value in done.models.unet.state_dict().items()}
    processors = {name: id(one) for name, one in done.models.unet.attn_processors.items()}
    whole, run = train_adapter(done.models, data, config, tmp_path / "whole")
    assert run.progress.samples == config.ip_adapter.stage.max_samples
    assert all(torch.equal(before[key], value) for key, value in done.models.unet.state_dict().items())
    assert {name: id(one) for name, one in done.models.unet.attn_processors.items()} == processors
    train_adapter(done.models, data, config, tmp_path / "parts", stop_after=2)
    parts, _ = train_adapter(done.models, data, config, tmp_path / "parts")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    lines = (tmp_path / "whole" / "ip_adapter.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[-1])["done"]


def test_shares_of_what_is_dropped(done: Finished):
    text, image = draw_drops(done.config, np.random.default_rng(0), 20_000)
    assert abs(float((text & image).mean()) - 0.05) < 0.01
    assert abs(float((image & ~text).mean()) - 0.10) < 0.01
    assert abs(float((text & ~image).mean()) - 0.50) < 0.01


def test_the_prompt_is_the_scene_or_another_of_its_drawing(done: Finished):
    def prompts(share: float) -> list[bool]:
        settings = dataclasses.replace(done.config.ip_adapter, own_share=share)
        config: TrainConfig = dataclasses.replace(done.config, ip_adapter=settings)
        places = [(0, 0), (1, 1)] * 4
        found = draw_prompts(data_of(done), config, places, np.random.default_rng(1))
        assert found.dtype == np.uint8
        return [
            any(
                np.array_equal(picture, done.pool.rgb[row, other])
                for other in range(3)
                if (other == variant) == (share == 1)
            )
            for picture, (row, variant) in zip(found, places, strict=True)
        ]

    assert all(prompts(1.0))
    assert all(prompts(0.0))


def test_the_stage_writes_a_file_that_the_catalogue_reads(job: SideJob, done: Finished):
    image_prompt_stage(job)
    family = job.model_dir.parent
    shelf = IpAdapterShelf(None, family, HashCache(None))
    model = identify(job.model_dir)
    info = shelf.fitting(model)
    assert (info.name, info.base, info.builtin) == ("danqing-mini", "danqing-mini", True)
    assert info.encoder.path == str(family / "danqing-mini-clip" / "image_encoder")
    assert info.encoder.whole_picture
    assert misfits(info, model) == []
    about = json.loads((family / "ip-adapter" / "danqing.json").read_text(encoding="utf-8"))
    assert about["samples"] == job.config.ip_adapter.stage.max_samples
    assert (job.run / "samples" / "ip_adapter.png").is_file()
    weights = read_ip_adapter(Path(info.path))
    pictures = np.asarray(done.pool.rgb[:2, 0])
    painted = paint_like(weights, done.models, data_of(done), done.config, pictures)
    other = paint_like(weights, done.models, data_of(done), done.config, pictures[::-1].copy())
    assert painted.shape[0] == 2
    assert torch.isfinite(painted).all()
    assert not torch.equal(painted, other)
