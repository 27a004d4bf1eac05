"""Where the weights of vision-language models lie. No torch; only small configs are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from danqing.spec.errors import MissingWeightsError

FOLDER: Final = "VLM"
MODEL_TYPES: Final = ("qwen2_5_vl", "qwen2_vl")
_MAX_CONFIG_BYTES = 2**20


def model_type(folder: Path) -> str:
    """`model_type` of a folder in transformers' layout; empty if it is none."""
    config = folder / "config.json"
    try:
        if config.stat().st_size > _MAX_CONFIG_BYTES:
            return ""
        found: object = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(found.get("model_type", "")) if isinstance(found, dict) else ""


def find_qwen(models_dir: Path | None) -> Path | None:
    """The first folder, by name, of a Qwen2-VL or Qwen2.5-VL with weights in safetensors."""
    top = None if models_dir is None else models_dir / FOLDER
    if top is None or not top.is_dir():
        return None
    for folder in sorted(path for path in top.iterdir() if path.is_dir()):
        if model_type(folder) in MODEL_TYPES and any(folder.glob("*.safetensors")):
            return folder
    return None


def missing_qwen(models_dir: Path | None) -> MissingWeightsError:
    """What to install, and where."""
    place = f"models/{FOLDER}" if models_dir is None else str(models_dir / FOLDER)
    return MissingWeightsError(
        "no Qwen-VL is installed",
        field="reviewer",
        value="qwen",
        allowed=f"a folder below {place} with config.json (qwen2_vl or qwen2_5_vl), *.safetensors and its tokenizer",
        next_step=f"put Qwen2.5-VL-3B-Instruct or Qwen2-VL-2B-Instruct, as its makers publish it, into {place}/NAME; "
        "or use the reviewer builtin, which needs nothing, or openai",
    )
