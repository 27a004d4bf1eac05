"""Where the files of interrogators lie. No torch, and nothing is read but small configs."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from danqing.spec.errors import MissingWeightsError
from danqing.spec.registry.interrogators import FOLDER, InterrogatorInfo

_DEPTH_LIMIT = 3
_LISTS = {"wd14": "selected_tags.csv", "deepdanbooru": "tags.txt"}
_ONNX = "*.onnx"


@dataclass(frozen=True)
class TaggerFiles:
    """A tagger: its network and its list of tags."""

    network: Path
    tags: Path


@dataclass(frozen=True)
class ClipFolders:
    """BLIP, perhaps CLIP, and perhaps lists of words."""

    blip: Path
    clip: Path | None
    lists: tuple[Path, ...]


def find_tagger(key: str, models_dir: Path | None) -> TaggerFiles | None:
    """The first folder, by name, with a tagger's list and an ONNX file (`model.onnx` where there are more)."""
    for folder in _folders(models_dir):
        tags = folder / _LISTS[key]
        networks = sorted(folder.glob(_ONNX), key=lambda path: (path.name != "model.onnx", path.name))
        if tags.is_file() and networks:
            return TaggerFiles(networks[0], tags)
    return None


def find_clip_folders(models_dir: Path | None) -> ClipFolders | None:
    """BLIP's folder and what goes with it; None without BLIP."""
    kinds: dict[str, Path] = {}
    lists: list[Path] = []
    for folder in _folders(models_dir):
        kinds.setdefault(_model_type(folder), folder)
        if folder.name == "words":
            lists += sorted(folder.glob("*.txt"))
    blip = kinds.get("blip")
    return None if blip is None else ClipFolders(blip, kinds.get("clip"), tuple(lists))


def is_ready(info: InterrogatorInfo, models_dir: Path | None) -> bool:
    """Whether an interrogator can look: its package and its files are there. The built-in one is always said to."""
    if not info.package:
        return True
    found = find_tagger(info.key, models_dir) if info.key in _LISTS else find_clip_folders(models_dir)
    return found is not None and importlib.util.find_spec(info.module) is not None


def missing(info: InterrogatorInfo, models_dir: Path | None) -> MissingWeightsError:
    """What to install for it."""
    place = FOLDER if models_dir is None else str(models_dir / Path(FOLDER).name)
    steps: list[str] = []
    if importlib.util.find_spec(info.module) is None:
        steps.append('pip install "danqing[interrogate]"')
    steps.append(f"put a folder with {info.needs} into {place}")
    return MissingWeightsError(
        f"{info.name} is not installed",
        field="interrogator",
        value=info.key,
        allowed=f"{info.needs} in a folder of {place}, and the package {info.package}",
        next_step="; ".join([*steps, "or use builtin, which needs nothing"]),
    )


def _folders(models_dir: Path | None) -> Iterator[Path]:
    top = None if models_dir is None else models_dir / Path(FOLDER).name
    if top is None or not top.is_dir():
        return
    for place, names, _ in os.walk(top):
        folder = Path(place)
        names.sort()
        if len(folder.relative_to(top).parts) >= _DEPTH_LIMIT:
            names.clear()
        yield folder


def _model_type(folder: Path) -> str:
    try:
        config: object = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""
