"""LoRA act also in work that shares no batch: careful drags and null-text inversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
import tiny_networks
from easel import Easel, photo

POINT = {"from_x_px": 24, "from_y_px": 24, "to_x_px": 36, "to_y_px": 30}
QUICK = {"identity_steps": 2, "iterations": 3, "drag_steps": 2, "tracks": 2, "pulls": 1}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root: Path = tmp_path_factory.mktemp("exclusive")
    tiny_models.build(root / "Stable-diffusion" / "tiny", seed=1)
    easel = Easel(root)
    tiny_networks.save_lora(root / "Lora" / "ink.safetensors", easel.model(), seed=1)
    return easel


def acts(easel: Easel, *, tagged: tuple[str, ...] = ("prompt",), **fields: Any) -> bool:
    """Whether the LoRA changes the picture, and one of strength 0 does not."""

    def pixels(tag: str) -> np.ndarray:
        words = {name: f"{fields[name]} {tag}".strip() for name in tagged}
        return easel.pixels(**{**fields, **words})

    plain = pixels("")
    assert np.array_equal(pixels("<lora:ink:0>"), plain)
    # In the UNet alone: what the text encoder reads stays as it is.
    return bool(np.abs(pixels("<lora:ink:te=0:unet=1>") - plain).max() > 2)


@pytest.mark.parametrize("method", ["pulled", "gooddrag", "dragdiffusion"])
def test_in_careful_drags(drawn: Easel, method: str):
    fields = {"kind": "drag", "image": drawn.picture(photo(64, 64)), "points": [POINT], "prompt": "the red cat"}
    assert acts(drawn, **fields, mode="quality", method=method, tuning=QUICK, sampling={"steps": 4})


def test_in_fast_drags(drawn: Easel):
    fields = {"kind": "drag", "image": drawn.picture(photo(64, 64)), "points": [POINT], "prompt": "the red cat"}
    assert acts(drawn, **fields, mode="fast", sampling={"steps": 6})


def test_in_null_text_inversion(drawn: Easel):
    fields = {"kind": "words", "image": drawn.picture(photo(64, 64)), "source_prompt": "the red cat"}
    fields |= {"prompt": "the red dog", "inversion": "null_text", "sampling": {"steps": 3}, "guidance": {"scale": 3.0}}
    assert acts(drawn, tagged=("source_prompt",), **fields)
