"""Opens an interrogator by its name. Loads torch for those that need it only."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from danqing.models.interrogators.files import find_clip_folders, find_tagger, is_ready, missing
from danqing.models.interrogators.taggers import Look, Tagger
from danqing.spec.registry.interrogators import find_interrogator
from danqing.spec.sight import Interrogation


class Looker(Protocol):
    """An open interrogator."""

    def look(self, picture: Image.Image, how: Look, /) -> Interrogation:
        """What a picture shows."""
        ...


def open_interrogator(name: str, models_dir: Path | None, cache: Path | None, device: Any) -> Looker:
    """An interrogator other than the built-in one, loaded.

    Args:
        name: Its key or alias.
        models_dir: `interrogators/` in it is searched, three folders deep.
        cache: Where vectors of words may be kept.
        device: Where a torch network computes.

    Raises:
        InvalidRequestError: There is none of this name.
        MissingWeightsError: It is not installed.
        BadFileError: Its files cannot be read.
    """
    info = find_interrogator(name)
    if not info.package or not is_ready(info, models_dir):
        raise missing(info, models_dir)
    tagger = None if info.key == "clip" else find_tagger(info.key, models_dir)
    if tagger is not None:
        return Tagger(info.key, tagger)
    folders = find_clip_folders(models_dir)
    # by name, so that the taggers load no torch
    blip = importlib.import_module("danqing.models.interrogators.blip")
    looker: Looker = blip.ClipInterrogator(folders, cache, device)
    return looker
