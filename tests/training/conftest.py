"""A small imitation of the npm packages, so that the trainer's tests need no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.training.builtin.config import CONFIG_DIR

LABELS = {
    "1F34E": ("food-fruit", "red apple", "红苹果", "紅蘋果", ["fruit", "red"]),
    "1F34C": ("food-fruit", "banana", "香蕉", "香蕉", ["fruit", "yellow"]),
    "2764-FE0F": ("heart", "red heart", "红心", "紅心", ["love"]),
    "1F34B": ("food-fruit", "lemon", "柠檬", "檸檬", ["sour"]),
    "1F600": ("face-smiling", "grinning face", "嘿嘿", "嘿嘿", ["face"]),
}
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
    bitmaps = {
        "assets/1f34e.png": disc((220, 30, 30)),
        "assets/1f34c.png": disc((250, 220, 40)),
        "assets/2764-fe0f.png": disc((200, 0, 60)),
        "assets/1f600.png": disc((255, 200, 0)),
    }
    return folder, [
        {
            "package": "labels",
            "version": "1.0.0",
            "integrity": write_package(folder, "labels-1.0.0.tgz", labels),
            "kind": "labels",
        },
        {
            "package": "@art/bits",
            "version": "1.0.0",
            "integrity": write_package(folder, "art-bits-1.0.0.tgz", bitmaps),
            "kind": "bitmap",
            "style": "3d",
        },
    ]


@pytest.fixture
def tiny(packages: tuple[Path, list[dict[str, Any]]]) -> dict[str, Any]:
    """The shipped tiny configuration over the imitation packages, as a TOML document."""
    raw = tomllib.loads((CONFIG_DIR / "builtin-tiny.toml").read_text(encoding="utf-8"))
    raw["data"]["sources"] = packages[1]
    return raw
