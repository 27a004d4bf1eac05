"""Paints the golden pictures beside this file: `PYTHONPATH=src:tests python tests/golden/make_goldens.py`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from easel import Easel, box_mask, photo  # noqa: E402
from tiny_models import build_all  # noqa: E402

# Gentle guidance: untrained models amplify rounding, and these pictures must be the same on every machine.
CALM = {"guidance": {"scale": 2.0}, "model": "tiny-v", "seed": 20}
PICTURES: dict[str, dict[str, Any]] = {
    "txt2img_euler": {**CALM, "sampling": {"sampler": "euler", "steps": 8}},
    "txt2img_2m_sde": {**CALM, "sampling": {"sampler": "dpmpp_2m_sde", "steps": 8}},
    "txt2img_words": {**CALM, "prompt": "the (red:1.3) [cat:dog:0.5] AND blue", "sampling": {"steps": 8}},
    "img2img": {**CALM, "kind": "img2img", "strength": 0.6, "sampling": {"steps": 8}},
    "inpaint": {**CALM, "kind": "inpaint", "fill": "fill", "strength": 0.9, "sampling": {"steps": 6}},
    "outpaint": {**CALM, "kind": "outpaint", "margins": {"left_px": 13}, "sampling": {"steps": 6}},
    "hires": {**CALM, "hires": {"scale": 1.5, "strength": 0.5, "steps": 3}, "sampling": {"steps": 4}},
    "refiner": {**CALM, "refiner": {"model": "other", "switch_at": 0.5}, "sampling": {"steps": 6}},
    "variation_nv": {**CALM, "variation": {"seed": 4, "strength": 0.3}, "noise": "nv", "sampling": {"steps": 6}},
}


def paint(easel: Easel, name: str) -> Image.Image:
    """One golden picture."""
    fields = dict(PICTURES[name])
    if fields.get("kind") in ("img2img", "inpaint", "outpaint"):
        fields["image"] = easel.picture(photo(48, 48) if name == "outpaint" else photo())
    if fields.get("kind") == "inpaint":
        fields["mask"] = easel.picture(box_mask(64, 64, (20, 16, 44, 40)))
    return easel.one(**fields)


def fingerprint(easel: Easel) -> dict[str, float]:
    """Mean magnitude of the weights: tells whether a library builds the same random models."""
    found: dict[str, float] = {}
    for name in ("tiny", "other", "tiny-v"):
        model = easel.model(name)
        for part, module in (("unet", model.unet), ("vae", model.vae), ("text", model.text.model)):
            total = torch.stack([parameter.abs().mean() for parameter in module.parameters()]).mean()
            found[f"{name}/{part}"] = round(float(total), 6)
    return found


def main() -> None:
    """Write every picture and the fingerprint."""
    with tempfile.TemporaryDirectory() as folder:
        easel = Easel(build_all(Path(folder)))
        for name in PICTURES:
            paint(easel, name).save(HERE / f"{name}.png", optimize=True)
        (HERE / "fingerprint.json").write_text(json.dumps(fingerprint(easel), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
