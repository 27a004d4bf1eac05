"""Drawings whose every measure is known beforehand, and a small family of random weights."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

import tiny_clip
import tiny_controls
import tiny_models
from danqing.training.builtin.config import CONFIG_DIR, TrainConfig, parse_config
from danqing.training.builtin.dataset import Concept, Dataset, Picture, is_held_out, save
from danqing.training.evaluation.bench import Bench, Places
from danqing.training.evaluation.config import Sizes
from danqing.training.evaluation.family import open_family

SIDE_PX = 32
NOUNS = {
    "disc": ("圆盘", "圓盤"),
    "plate": ("盘子", "盤子"),
    "wheel": ("车轮", "車輪"),
    "coin": ("硬币", "硬幣"),
    "drum": ("鼓", "鼓"),
    "ball": ("球", "球"),
    "moon": ("月亮", "月亮"),
    "pearl": ("珍珠", "珍珠"),
}
CPU = torch.device("cpu")


def hexcodes(*, held_out: bool, count: int) -> list[str]:
    """Code points on one side of the split."""
    found = (f"{number:X}" for number in range(0x1F300, 0x1FFFF))
    return [code for code in found if is_held_out(code) == held_out][:count]


def draw(style: str, radius: float, size_px: int = SIDE_PX) -> np.ndarray:
    """A green disc, or its outline in black: RGBA `[size, size, 4]`."""
    y, x = np.mgrid[:size_px, :size_px] + 0.5
    far = np.hypot(x - size_px / 2, y - size_px / 2) / size_px
    out = np.zeros((size_px, size_px, 4), np.uint8)
    if style == "line":
        out[np.abs(far - radius) < 0.06] = (10, 10, 10, 255)
    else:
        out[far < radius] = (76, 178, 88, 255)
    return out


@pytest.fixture(scope="session")
def drawings() -> Dataset:
    """Eight concepts that are learnt and three that are held out, flat and as line art."""
    codes = [*hexcodes(held_out=False, count=len(NOUNS)), *hexcodes(held_out=True, count=3)]
    nouns = [*NOUNS.items(), *((f"ring {i}", ("环", "環")) for i in range(3))]
    pictures, rgba = [], []
    for place, (code, (noun, (hans, hant))) in enumerate(zip(codes, nouns, strict=True)):
        concept = Concept(code, "things", {"en": (noun, "round"), "zh": (hans, "圆"), "zh-hant": (hant, "圓")})
        for style in ("flat", "line"):
            pictures.append(Picture(len(pictures), style, concept))
            rgba.append(draw(style, 0.2 + 0.02 * place))
    return Dataset(tuple(pictures), np.stack(rgba))


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    """builtin-tiny, with a style list and no packages."""
    raw = tomllib.loads((CONFIG_DIR / "builtin-tiny.toml").read_text(encoding="utf-8"))
    raw["data"] = {"size_px": SIDE_PX, "sources": []}
    raw["unet"]["styles"] = ["flat", "line"]
    return parse_config(raw)


@pytest.fixture(scope="session")
def data_dir(drawings: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save(drawings, folder)
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, with mini-CLIP and a *line* ControlNet beside it; the rest is not there."""
    home = tmp_path_factory.mktemp("family")
    folder = tiny_models.build(home / "danqing-mini", seed=1)
    about = {"name": "tiny", "family": "sd1", "defaults": {"size_px": SIDE_PX, "steps": 2, "sampler": "Euler"}}
    (folder / "danqing.json").write_text(json.dumps(about), encoding="utf-8")
    tiny_clip.build_clip(home / "danqing-mini-clip")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    tiny_controls.save(
        tiny_controls.lively(unet, seed=2), home / "controlnet" / "danqing-mini-line", base="danqing-mini"
    )
    return folder


TINY = Sizes(
    prompts=6, choices=4, vae=4, references=16, neighbours=1, controls=1, diverse=1, seeds=2, timed=1, sheet=3, batch=4
)


@pytest.fixture
def bench(config: TrainConfig, data_dir: Path, model_dir: Path, tmp_path: Path) -> Bench:
    """A bench over the tiny family, everything small."""
    places = Places(data_dir, tmp_path / "run", tmp_path / "docs")
    return Bench(config, TINY, places, open_family(model_dir, tmp_path / "scratch"), CPU)


@pytest.fixture
def learnt(drawings: Dataset) -> Dataset:
    """The drawings that the UNet learns."""
    rows = [p.row for p in drawings.pictures if not is_held_out(p.concept.hexcode)]
    pictures = tuple(dataclasses.replace(drawings.pictures[row], row=i) for i, row in enumerate(rows))
    return Dataset(pictures, drawings.rgba[rows])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
