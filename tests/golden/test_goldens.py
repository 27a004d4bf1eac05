"""Painting has not changed: today's pictures against those beside this file, PSNR ≥ 40 dB."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from make_goldens import PICTURES, fingerprint, paint
from PIL import Image

from easel import Easel, numbers

HERE = Path(__file__).parent
ENOUGH_DB = 40.0


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture(scope="module")
def same_models(easel: Easel) -> None:
    kept = json.loads((HERE / "fingerprint.json").read_text(encoding="utf-8"))
    if fingerprint(easel) != pytest.approx(kept, rel=1e-3):
        pytest.skip("diffusers or transformers here initialise the small models otherwise: run make_goldens.py")


@pytest.mark.usefixtures("same_models")
@pytest.mark.parametrize("name", PICTURES)
def test_a_golden_picture(easel: Easel, name: str):
    golden = numbers(Image.open(HERE / f"{name}.png"))
    painted = numbers(paint(easel, name))
    assert painted.shape == golden.shape
    assert psnr_db(painted, golden) >= ENOUGH_DB


def test_the_measure_notices_a_change(easel: Easel):
    golden = numbers(Image.open(HERE / "txt2img_euler.png"))
    assert psnr_db(golden, golden) == math.inf
    assert psnr_db(golden, numbers(easel.one(**{**PICTURES["txt2img_euler"], "seed": 21}))) < ENOUGH_DB
