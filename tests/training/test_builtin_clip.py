"""mini-CLIP: it learns, it is counted rightly, it goes on where it was interrupted, transformers loads it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPTokenizer, CLIPVisionModelWithProjection

from danqing.training.builtin import clip as clip_stage
from danqing.training.builtin.clip import ClipData, MiniClip, build_clip, clip_run, draw_batch, match_rate, siglip_loss
from danqing.training.builtin.config import StageConfig, TrainConfig
from danqing.training.builtin.export import export_clip
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.pool import Pool

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(pool: Pool) -> ClipData:
    return ClipData(pool, np.array([0, 2]))


def test_batches_hold_what_is_favoured_and_mark_equal_captions(data: ClipData, config: TrainConfig) -> None:
    pixels, captions, same = draw_batch(data, config, step_rng(1, "clip", 0), 6)
    assert pixels.shape == (6, 3, 32, 32)
    assert len(captions) == 6
    assert all(captions)  # an empty caption is told as the label
    assert torch.equal(same, torch.tensor([[float(a == b) for b in captions] for a in captions]))
    rows = data.rows(step_rng(1, "clip", 0), 4)
    assert set(rows[:2]) == {0, 2}
    assert len(data.rows(step_rng(1, "clip", 1), 40)) == 40


def test_without_dropout_or_with_it_no_caption_is_empty(data: ClipData, config: TrainConfig) -> None:
    config = dataclasses.replace(config, captions=dataclasses.replace(config.captions, dropout=1.0))
    _, captions, _ = draw_batch(data, config, step_rng(1, "clip", 0), 4)
    labels = {p.concept.words["en"][0] for p in data.pool.pictures}
    assert set(captions) <= labels


def test_siglip_by_hand() -> None:
    class Scaled(torch.nn.Module):
        logit_scale = torch.tensor(np.log(10.0))
        logit_bias = torch.tensor(-10.0)

    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    logits = images @ texts.T * 10 - 10
    expected = -(torch.nn.functional.logsigmoid(logits * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))).sum() / 2
    assert torch.allclose(siglip_loss(Scaled(), images, texts, torch.eye(2)), expected)


def test_the_match_rate_counts(
    data: ClipData, config: TrainConfig, tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_clip(config, tokenizer)
    captions = [f"caption {i}" for i in range(4)]

    def batch(*_: object) -> tuple[torch.Tensor, list[str], torch.Tensor]:
        return torch.zeros(4, 3, 32, 32), captions, torch.eye(4)

    monkeypatch.setattr(clip_stage, "draw_batch", batch)
    monkeypatch.setattr(MiniClip, "embed_texts", lambda *_: torch.eye(4))
    for images, expected in ((torch.eye(4), 1.0), (torch.eye(4)[[0, 1, 3, 2]], 0.5), (torch.eye(4)[[1, 2, 3, 0]], 0.0)):
        monkeypatch.setattr(MiniClip, "embed_images", lambda *_, x=images: x)
        assert match_rate(model, tokenizer, data, config, 4) == expected
    assert model.training


def test_the_loss_falls_and_the_pairs_are_found(
    data: ClipData, config: TrainConfig, tokenizer: CLIPTokenizer, tmp_path: Path
) -> None:
    stage = StageConfig(batch=6, lr=3e-3, max_samples=360, decay_samples=60, warmup_steps=5, ema=0.9)
    shape = dataclasses.replace(config.clip, stage=stage, hidden_size=32, projection_dim=32)
    config = dataclasses.replace(config, clip=shape)
    model, run = clip_run(config, tokenizer, tmp_path, CPU)
    before = match_rate(model, tokenizer, data, config, 6)
    clip_stage.train_clip(model, run, data, tokenizer, config)
    assert not model.training
    lines = [json.loads(line) for line in (tmp_path / "clip.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert lines[-1]["done"]
    assert lines[-1]["match_of_50"] >= 0
    assert match_rate(model, tokenizer, data, config, 6) > before


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    data: ClipData,
    config: TrainConfig,
    tokenizer: CLIPTokenizer,
    tmp_path: Path,
    interrupt_after: Callable[[int | None], None],
) -> None:
    ends: list[dict[str, torch.Tensor]] = []
    for folder, pauses in ((tmp_path / "whole", (None,)), (tmp_path / "parts", (2, 5, None))):
        for pause in pauses:
            interrupt_after(pause)
            model, run = clip_run(config, tokenizer, folder, CPU)
            clip_stage.train_clip(model, run, data, tokenizer, config)
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_another_seed_is_another_pair_of_towers(config: TrainConfig, tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    one, _ = clip_run(config, tokenizer, tmp_path / "a", CPU)
    same, _ = clip_run(config, tokenizer, tmp_path / "b", CPU)
    other, _ = clip_run(config, tokenizer, tmp_path / "c", CPU, seed_offset=4)
    key = "vision.visual_projection.weight"
    assert torch.equal(one.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_exported_towers_answer_as_the_trained_ones(
    config: TrainConfig, tokenizer: CLIPTokenizer, pool: Pool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build_clip(config, tokenizer).eval()
    folder = tmp_path / "danqing-mini-clip"
    export_clip(model, "[]\n", config, folder)
    assert json.loads((folder / "danqing.json").read_text(encoding="utf-8"))["kind"] == "clip"
    assert not list(folder.rglob("*.tmp"))
    processor = CLIPImageProcessor.from_pretrained(str(folder))
    picture = np.array(pool.rgb[0, 0])
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels[0].permute(1, 2, 0), torch.from_numpy(picture / 127.5 - 1.0).float(), atol=1e-2)
    vision = CLIPVisionModelWithProjection.from_pretrained(str(folder / "image_encoder")).eval()
    assert vision.dtype == torch.float32
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(vision(pixel_values=pixels).image_embeds, dim=-1)
        assert torch.allclose(theirs, model.embed_images(pixels), atol=2e-2)
    tensors = load_file(folder / "text_projection.safetensors")
    assert tensors["text_projection.weight"].shape == (config.clip.projection_dim, config.text.hidden_size)
    assert float(tensors["logit_scale"]) == pytest.approx(np.log(10.0))
    assert float(tensors["logit_bias"]) == pytest.approx(-10.0)
