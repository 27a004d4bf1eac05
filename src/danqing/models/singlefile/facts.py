"""What a checkpoint in one file does not say of itself: the published facts of its family. No torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

CONFIGS_DIR = Path(__file__).parent.parent / "families" / "configs"
CLIP_TOKENIZER = CONFIGS_DIR / "clip_tokenizer"

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIXES = ("first_stage_model.", "vae.")
EMA_PREFIX = "model_ema."

# Which name in a file's text encoder decides on its family, the first one first.
_BY_TEXT_ENCODER = (
    ("sdxl", "conditioner.embedders.1.model."),
    ("sdxl-refiner", "conditioner.embedders.0.model."),
    ("sd2", "cond_stage_model.model."),
    ("sd1", "cond_stage_model.transformer."),
)


def facts_of(config: str) -> dict[str, Any]:
    """The facts of a family: `scheduler`, `unet`, `vae`, `texts`.

    Args:
        config: Name of a file in `families/configs`: sd1, sd2, sdxl, sdxl-refiner.
    """
    return copy.deepcopy(_read(config))


@lru_cache(maxsize=16)
def _read(config: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((CONFIGS_DIR / f"{config}.json").read_text(encoding="utf-8")))


def config_of(names: Mapping[str, Any]) -> str | None:
    """Which facts fit a file, from the names of its text encoder's tensors; None where it has none of these."""
    for config, prefix in _BY_TEXT_ENCODER:
        if any(name.startswith(prefix) for name in names):
            return config
    return None
