"""A small imitation of the npm packages, so that the trainer's tests need no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from danqing.training.builtin.__main__ import Job, train
from danqing.training.builtin.config import CONFIG_DIR, TrainConfig, parse_config
from danqing.training.builtin.dataset import Dataset, build, split
from danqing.training.builtin.finished import SideJob
from danqing.training.builtin.loop import Budget
from danqing.training.builtin.pool import Pool, make_pool
from danqing.training.builtin.tokenizer import caption_corpus, train_tokenizer

LABELS = {
    "1F34E": ("food-fruit", "red apple", "红苹果", "紅蘋果", ["fruit", "red"]),
    "1F34C": ("food-fruit", "banana", "香蕉", "香蕉", ["fruit", "yellow"]),
    "2764-FE0F": ("heart", "red heart", "红心", "紅心", ["love"]),
    "1F34B": ("food-fruit", "lemon", "柠檬", "檸檬", ["sour"]),
    "1F600": ("face-smiling", "grinning face", "嘿嘿", "嘿嘿", ["face"]),
    "1F353": ("food-fruit", "strawberry", "草莓", "草莓", ["berry", "fruit"]),
    "2764-FE0F-200D-1FA79": ("heart", "mending heart", "修复受伤的心灵", "修補破碎的心", ["healthier", "improving"]),
}
HELD_OUT = "2764-200D-1FA79"
COLORS = {"1f34e": (220, 30, 30), "1f34c": (250, 220, 40), "2764-fe0f": (200, 0, 60), "1f600": (255, 200, 0)}
COLORS |= {"1f353": (230, 40, 70), "2764-fe0f-200d-1fa79": (240, 60, 60)}
SUBGROUPS = {"0": "face-smiling", "1": "heart", "2": "food-fruit"}


def write_package(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """A tarball as `npm pack` makes it; returns its integrity."""
    path = folder / name
    with tarfile.open(path, "w:gz") as archive:
        for member, data in files.items():
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def label_table(locale: int) -> bytes:
    number = {v: int(k) for k, v in SUBGROUPS.items()}
    rows = [
        {"hexcode": h, "label": words[locale], "tags": words[4], "subgroup": number[words[0]]}
        for h, words in LABELS.items()
    ]
    return json.dumps([*rows, {"hexcode": "1F1E6", "label": "regional indicator A"}]).encode()


def disc(rgb: tuple[int, int, int], size: int = 64) -> bytes:
    y, x = np.mgrid[:size, :size]
    image = np.zeros((size, size, 4), np.uint8)
    image[(x - size / 2) ** 2 + (y - size / 2) ** 2 < (0.4 * size) ** 2] = (*rgb, 255)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pack() -> Callable[[Path, str, dict[str, bytes]], str]:
    return write_package


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A folder of packages and the `data.sources` that name them."""
    folder = tmp_path / "npm"
    folder.mkdir()
    labels = {f"{loc}/data.json": label_table(i + 1) for i, loc in enumerate(("en", "zh", "zh-hant"))}
    labels["meta/groups.json"] = json.dumps({"subgroups": SUBGROUPS}).encode()
    round_ones = {f"assets/{code}.png": disc(rgb) for code, rgb in COLORS.items()}
    small_ones = {f"assets/{code}.png": disc(rgb, 48) for code, rgb in COLORS.items() if code != "1f34c"}
    return folder, [
        {
            "package": "labels",
            "version": "1.0.0",
            "integrity": write_package(folder, "labels-1.0.0.tgz", labels),
            "kind": "labels",
            "licence": "MIT",
            "attribution": "labels, by nobody",
        },
        {
            "package": "@art/bits",
            "version": "1.0.0",
            "integrity": write_package(folder, "art-bits-1.0.0.tgz", round_ones),
            "kind": "bitmap",
            "style": "3d",
            "licence": "CC-BY-4.0",
            "attribution": "bits, by somebody",
        },
        {
            "package": "@art/flats",
            "version": "2.0.0",
            "integrity": write_package(folder, "art-flats-2.0.0.tgz", small_ones),
            "kind": "bitmap",
            "style": "flat",
            "licence": "Apache-2.0",
            "attribution": "flats, by somebody else",
        },
    ]


@pytest.fixture
def tiny(packages: tuple[Path, list[dict[str, Any]]]) -> dict[str, Any]:
    """The shipped tiny configuration over the imitation packages, as a TOML document."""
    raw = tomllib.loads((CONFIG_DIR / "builtin-tiny.toml").read_text(encoding="utf-8"))
    raw["data"]["sources"] = packages[1]
    return raw


@pytest.fixture
def config(tiny: dict[str, Any]) -> TrainConfig:
    return parse_config(tiny)


@pytest.fixture
def built(packages: tuple[Path, list[dict[str, Any]]], config: TrainConfig) -> Dataset:
    """Everything that the tiny configuration keeps, at 32 px: five concepts, one of them held out."""
    return build(config.data, packages[0])


@pytest.fixture
def pool(built: Dataset, config: TrainConfig, tmp_path: Path) -> Pool:
    """Painted scenes of what is not held out."""
    return make_pool(split(built, held_out=False), config.scenes, config.seed, tmp_path / "pool.npy", workers=1)


@pytest.fixture
def tokenizer(built: Dataset, config: TrainConfig) -> CLIPTokenizer:
    return train_tokenizer(caption_corpus(built, config), config.captions.vocab_size)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order, so that runs can be compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


_TRAINED: dict[str, SideJob] = {}


@pytest.fixture
def trained(tiny: dict[str, Any], packages: tuple[Path, Any], tmp_path: Path) -> Callable[[str], SideJob]:
    """A finished run of the tiny configuration, exported to a folder below the test's own; trained once for each."""

    def finished(place: str) -> SideJob:
        if place not in _TRAINED:
            config, run = parse_config(tiny), tmp_path / "run"
            made = SideJob(config, run, packages[0].parent, tmp_path / place, torch.device("cpu"))
            train(Job(config, run, made.data, made.device, made.model_dir, workers=1))
            _TRAINED[place] = made
        return _TRAINED[place]

    return finished


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Ends every optimiser run at this step number, as a deadline would; None lets them run on."""
    whole = Budget.factor

    def until(steps: int | None) -> None:
        def factor(budget: Budget, step: int, samples: int) -> float:
            return 0.0 if steps is not None and step >= steps else whole(budget, step, samples)

        monkeypatch.setattr(Budget, "factor", factor)

    return until
