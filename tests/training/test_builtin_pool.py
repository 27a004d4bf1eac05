"""Painted scenes and their latents: made once, used again, made anew when something differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset, composite, split
from danqing.training.builtin.export import fit_preview
from danqing.training.builtin.latents import WHITE, cached, encode, encode_pool, normalize_latents
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.pool import Pool, make_pool, own_color, row_scenes, to_tensor_scale
from danqing.training.builtin.scenes import Scene, paint_scene
from danqing.training.builtin.vae import build_vae

CPU = torch.device("cpu")


@pytest.fixture
def vae(config: TrainConfig) -> AutoencoderKL:
    torch.manual_seed(0)
    return build_vae(config.vae).eval().requires_grad_(False)


def test_every_drawing_is_painted_plain_mirrored_and_at_random(pool: Pool, built: Dataset, config: TrainConfig) -> None:
    seen = split(built, held_out=False)
    assert pool.pictures == seen.pictures
    assert pool.rgb.shape == (7, config.scenes.variants, 32, 32, 3)
    assert isinstance(pool.rgb, np.memmap)
    for row, scenes in enumerate(pool.scenes):
        assert scenes[:2] == (Scene(), Scene(mirrored=True))
        for variant, scene in enumerate(scenes):
            assert np.array_equal(pool.rgb[row, variant], paint_scene(seen.rgba[row], scene, 32))
    assert pool.own_colors[0] == "red"


def test_captions_speak_of_the_scene(pool: Pool, config: TrainConfig) -> None:
    captions = dataclasses.replace(config.captions, dropout=0.0)
    text = pool.caption(0, 0, captions, step_rng(1, "captions", 4))
    assert text == pool.caption(0, 0, captions, step_rng(1, "captions", 4))
    assert text


def test_the_file_is_used_again_when_it_was_made_from_the_same(
    built: Dataset, config: TrainConfig, tmp_path: Path
) -> None:
    path, some = tmp_path / "p.npy", split(built, held_out=False)
    first = make_pool(some, config.scenes, 7, path, workers=1)
    stamp = path.stat().st_mtime_ns
    again = make_pool(some, config.scenes, 7, path, workers=1)
    assert path.stat().st_mtime_ns == stamp
    assert again.scenes == first.scenes
    assert np.array_equal(again.rgb, first.rgb)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("other", ["seed", "scenes", "pictures"])
def test_the_file_is_made_anew_when_something_differs(
    built: Dataset, config: TrainConfig, tmp_path: Path, other: str
) -> None:
    path = tmp_path / "p.npy"
    first = np.array(make_pool(split(built, held_out=False), config.scenes, 7, path, workers=1).rgb)
    if other == "seed":
        second = make_pool(split(built, held_out=False), config.scenes, 8, path, workers=1)
    elif other == "scenes":
        second = make_pool(split(built, held_out=False), dataclasses.replace(config.scenes, variants=4), 7, path, 1)
    else:
        second = make_pool(split(built, held_out=False, styles=("3d",)), config.scenes, 7, path, workers=1)
    assert second.rgb.shape != first.shape or not np.array_equal(second.rgb, first)
    assert len(second.rgb) == len(second.pictures)


def test_scenes_belong_to_the_drawing_not_to_its_place(built: Dataset, config: TrainConfig) -> None:
    config = dataclasses.replace(config, scenes=dataclasses.replace(config.scenes, variants=6))
    some = split(built, held_out=False, styles=("flat",))
    whole = split(built, held_out=False)
    for picture in some.pictures:
        place = next(p for p in whole.pictures if (p.concept, p.style) == (picture.concept, picture.style))
        assert row_scenes(some, picture.row, config.scenes, 7) == row_scenes(whole, place.row, config.scenes, 7)


def test_the_own_colour_is_one_that_covers_much() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    assert own_color(rgba) is None
    rgba[:, :2] = (220, 30, 30, 255)
    assert own_color(rgba) == "red"
    rgba[:, 2:] = (40, 160, 70, 255)
    rgba[0] = (54, 118, 220, 255)
    assert own_color(rgba) is None


def test_tensor_scale() -> None:
    out = to_tensor_scale(np.array([[[[0, 255, 51]]]], np.uint8))
    assert out.shape == (1, 3, 1, 1)
    assert out.flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])


def test_latents_are_kept_and_made_again_for_another_autoencoder(
    vae: AutoencoderKL, pool: Pool, built: Dataset, config: TrainConfig, tmp_path: Path
) -> None:
    path = tmp_path / "latents.pt"
    first = cached(path, vae, pool, CPU, "fp32")
    assert first.shape == (7, config.scenes.variants, 4, 4, 4)
    assert first.dtype == torch.float16
    assert torch.equal(first, encode_pool(vae, pool, CPU, "fp32"))
    assert torch.equal(first[2, 1], encode(vae, to_tensor_scale(np.asarray(pool.rgb[2])), CPU, "fp32").half()[1])
    stamp = path.stat().st_mtime_ns
    assert torch.equal(cached(path, vae, pool, CPU, "fp32"), first)
    assert path.stat().st_mtime_ns == stamp
    kept = first.clone()
    seen = split(built, held_out=False)
    others = make_pool(seen, config.scenes, 99, tmp_path / "other.npy", workers=1)
    assert not torch.equal(cached(path, vae, others, CPU, "fp32"), kept)
    vae.quant_conv.bias.data += 1.0
    assert not torch.equal(cached(path, vae, pool, CPU, "fp32"), kept)


def test_normalising_changes_no_picture(vae: AutoencoderKL, built: Dataset) -> None:
    x = torch.from_numpy(composite(built.rgba, WHITE))
    before = vae.decode(vae.encode(x).latent_dist.mode()).sample
    normalize_latents(vae, built, CPU, "fp32")
    plain = encode(vae, composite(built.rgba, WHITE), CPU, "fp32")
    assert plain.mean((0, 2, 3)).abs().max() < 1e-3
    assert (plain.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert torch.allclose(before, vae.decode(vae.encode(x).latent_dist.mode()).sample, atol=1e-4)


def test_the_preview_map_is_a_least_squares_fit(vae: AutoencoderKL, pool: Pool, config: TrainConfig) -> None:
    preview = fit_preview(vae, pool, "fp32")
    assert np.shape(preview.factors) == (config.vae.latent_channels, 3)
    assert np.shape(preview.bias) == (3,)
    pictures = to_tensor_scale(np.asarray(pool.rgb[:, 0]))
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(pictures), (4, 4)).permute(0, 2, 3, 1) / 2 + 0.5
    guess = encode(vae, pictures, CPU, "fp32").permute(0, 2, 3, 1) @ torch.tensor(preview.factors) + torch.tensor(
        preview.bias
    )
    assert float((guess - small).square().mean()) < float(small.var())
