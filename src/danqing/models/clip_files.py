"""Where mini-CLIP lies and which one it is. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.models.catalog import BUILTIN_DIR
from danqing.models.hashes import HashCache
from danqing.spec.errors import MissingWeightsError
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.spec.registry.picture_styles import PICTURE_STYLES, PictureStyle

CLIP_NAME = "danqing-mini-clip"
USER_DIR = "mini-clip"
_HEAD = "text_projection.safetensors"
_TEXT_PARTS = ("text_encoder", "tokenizer")
_SMALL_FILES = ("preprocessor_config.json", "image_encoder/config.json", "text_encoder/config.json")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class ClipFiles:
    """The files of one mini-CLIP.

    Attributes:
        folder: `image_encoder/`, `preprocessor_config.json`, `text_projection.safetensors`, `vocabulary.json`.
        text_folder: `text_encoder/` and `tokenizer/`: the same folder, or the built-in model beside it.
    """

    folder: Path
    text_folder: Path

    @property
    def head(self) -> Path:
        """Text projection, logit scale and bias."""
        return self.folder / _HEAD

    @property
    def vocabulary(self) -> Path:
        """The concepts that can be named."""
        return self.folder / "vocabulary.json"

    def styles(self) -> tuple[PictureStyle, ...]:
        """The styles it was trained on, as its danqing.json lists them; every known one if it lists none."""
        try:
            about: Any = json.loads((self.folder / "danqing.json").read_text(encoding="utf-8"))
            listed = [str(name) for name in about.get("styles", [])]
        except (OSError, ValueError, AttributeError, TypeError):
            listed = []
        known = tuple(PICTURE_STYLES[name] for name in listed if name in PICTURE_STYLES)
        return known or tuple(PICTURE_STYLES.values())

    def sha256(self) -> str:
        """A hash over everything that an embedding depends on: weights, configs, tokenizer."""
        total, hashes = hashlib.sha256(), HashCache(None)
        weights = (
            hashes.folder(self.folder / "image_encoder"),
            hashes.file(self.head),
            hashes.folder(self.text_folder / "text_encoder"),
        )
        total.update(" ".join(weights).encode())
        small = [self.folder / name for name in _SMALL_FILES[:2]] + [self.text_folder / _SMALL_FILES[2]]
        small += [self.text_folder / "tokenizer" / name for name in _TOKENIZER_FILES]
        for path in small:
            if path.is_file():
                total.update(f" {path.name} {hashes.file(path)}".encode())
        return total.hexdigest()


def find_clip(models_dir: Path | None = None, *, folder: Path | None = None) -> ClipFiles:
    """The mini-CLIP to use: a folder that was named, else `mini-clip/` of the models folder, else the built-in one.

    Raises:
        MissingWeightsError: None of them is there, or the one that is there is incomplete.
    """
    if folder is None:
        own = models_dir / USER_DIR if models_dir is not None else None
        folder = own if own is not None and own.is_dir() else BUILTIN_DIR / CLIP_NAME
    text_folder = folder if (folder / "text_encoder").is_dir() else folder.parent / BUILTIN_MODEL
    files = ClipFiles(folder, text_folder)
    wanted = (
        folder / "image_encoder" / "config.json",
        folder / "preprocessor_config.json",
        files.head,
        *(text_folder / part for part in _TEXT_PARTS),
    )
    absent = [path for path in wanted if not path.exists()]
    if absent:
        raise MissingWeightsError(
            "interrogation, search by look and scoring need mini-CLIP, and it is not installed completely",
            value=str(absent[0]),
            allowed=f"a folder with image_encoder/, preprocessor_config.json, {_HEAD} and vocabulary.json",
            next_step=f"reinstall Danqing from a complete checkout (the folder is {BUILTIN_DIR / CLIP_NAME}), or put "
            f"your own mini-CLIP into {USER_DIR}/ of the models folder",
        )
    return files
