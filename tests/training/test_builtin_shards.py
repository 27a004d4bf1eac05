"""`python -m danqing.training.builtin.shards` over the imitation packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danqing.training.builtin import dataset, shards
from danqing.training.builtin.config import TrainConfig


@pytest.fixture
def made(packages: tuple[Path, list[dict[str, Any]]], config: TrainConfig, tmp_path: Path) -> Path:
    shards.make(config.data, shards.Job(packages[0], tmp_path / "out", workers=1), (32, 64))
    return tmp_path / "out"


def test_every_size_is_the_same_drawing_reduced(made: Path) -> None:
    small, large = dataset.load(made, 32), dataset.load(made, 64)
    assert small.pictures == large.pictures
    assert (small.rgba.shape, large.rgba.shape) == ((9, 32, 32, 4), (9, 64, 64, 4))
    assert isinstance(small.rgba, np.memmap)
    assert small.rgba.dtype == np.uint8
    for row in range(9):
        again = shards.reduce_rgba(np.asarray(large.rgba[row]), 32).astype(int)
        visible = again[..., 3] > 200
        assert np.abs(again - small.rgba[row])[visible].mean() < 3
    assert not list(made.glob("*.tmp"))


def test_rows_are_in_the_order_of_the_chunks(
    packages: tuple[Path, list[dict[str, Any]]], config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CHUNK", 2)
    shards.make(config.data, shards.Job(packages[0], tmp_path / "out", workers=2), (32,))
    found = dataset.load(tmp_path / "out", 32)
    apple, banana = ((220, 30, 30, 255), (250, 220, 40, 255))
    assert tuple(found.rgba[0, 16, 16]) == apple
    assert tuple(found.rgba[1, 16, 16]) == banana
    assert tuple(found.rgba[5, 16, 16]) == apple


def test_the_datasheet_counts_and_names_licences(made: Path) -> None:
    text = (made / "datasheet.md").read_text(encoding="utf-8")
    assert "9 drawings of 5 concepts in 2 styles" in text
    assert "en 5, zh 5, zh-hant 5" in text
    assert "Held out: 1 concepts (20.0%), in all their styles (2 drawings)" in text
    assert "| `labels` | 1.0.0 |  | labels | MIT | labels, by nobody |" in text
    assert "| `@art/bits` | 1.0.0 | 3d | 5 | CC-BY-4.0 | bits, by somebody |" in text
    assert "| `@art/flats` | 2.0.0 | flat | 4 | Apache-2.0 | flats, by somebody else |" in text
    assert "| food-fruit | 3 |" in text
    assert "| heart | 2 |" in text


def test_the_vocabulary_has_every_emoji_once(made: Path) -> None:
    rows = json.loads((made / "vocabulary.json").read_text(encoding="utf-8"))
    assert [row["hexcode"] for row in rows] == ["1F34E", "1F34C", "2764", "1F353", "2764-200D-1FA79"]
    assert rows[0] == {
        "hexcode": "1F34E",
        "subgroup": "food-fruit",
        "en": ["red apple", "fruit", "red"],
        "zh": ["红苹果", "fruit", "red"],
        "zh-hant": ["紅蘋果", "fruit", "red"],
    }
    named = dataset.Picture(0, "icon", dataset.Concept("name:gear", "icon", {"en": ("gear",)}))
    assert json.loads(shards.vocabulary_json([named])) == []


def test_making_it_twice_gives_the_same_bytes(
    packages: tuple[Path, list[dict[str, Any]]], config: TrainConfig, made: Path, tmp_path: Path
) -> None:
    shards.make(config.data, shards.Job(packages[0], tmp_path / "again", workers=2), (32, 64))
    names = sorted(file.name for file in made.iterdir())
    assert names == ["datasheet.md", "pictures-32.npy", "pictures-64.npy", "pictures.json", "vocabulary.json"]
    for name in names:
        assert (made / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_command(
    packages: tuple[Path, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(
        "[[data.sources]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in row.items())
        for row in packages[1]
    )
    (tmp_path / "data.toml").write_text('[data]\nsubgroups = ["heart"]\n' + rows, encoding="utf-8")
    common = ["--config", str(tmp_path / "data.toml"), "--out", str(tmp_path), "--workers", "1"]
    assert shards.main([*common, "--sizes", "16"]) == 0
    printed = capsys.readouterr().out
    assert "4 of 4 pictures" in printed
    assert "2 concepts" in printed
    assert np.load(tmp_path / "pictures-16.npy").shape == (4, 16, 16, 4)
    for sizes in ("8", "512", "a", ""):
        with pytest.raises(SystemExit) as stop:
            shards.main([*common, "--sizes", sizes])
        assert stop.value.code == 2
        assert "--sizes" in capsys.readouterr().err
    assert shards.main(["--config", "data-none", "--out", str(tmp_path)]) == 2
    assert "data-builtin" in capsys.readouterr().err
