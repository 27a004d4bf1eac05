"""Styles and wildcards from the data folder and A1111's own root. Read for each Request, so that edits show at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from danqing.prompt.styles import Style, read_styles
from danqing.prompt.wildcards import WildcardFolder
from danqing.spec.request import Request
from danqing.studio.settings import Settings

if TYPE_CHECKING:
    from danqing.planning.words import PromptLibrary


def styles_of(settings: Settings) -> dict[str, Style]:
    """The styles of every styles.csv, by name; the data folder wins. BadFileError if one cannot be read."""
    folders = reversed(_folders(settings))
    return {name: style for folder in folders for name, style in read_styles(folder / "styles.csv").items()}


def library_for(request: Request, settings: Settings) -> PromptLibrary:
    """What planning needs; files that this Request does not use are left alone, so that they cannot be in its way."""
    from danqing.planning.words import PromptLibrary

    has_wildcards = "__" in request.prompt or "__" in request.negative_prompt or bool(request.styles)
    return PromptLibrary(
        styles=styles_of(settings) if request.styles else {},
        wildcards=_wildcards(settings) if has_wildcards else None,
    )


def _wildcards(settings: Settings) -> WildcardFolder | None:
    folders = [folder / "wildcards" for folder in _folders(settings)]
    return next((WildcardFolder(folder) for folder in folders if folder.is_dir()), None)


def _folders(settings: Settings) -> list[Path]:
    """The one that wins first. The parent of an A1111 models folder is A1111's root, where its styles.csv lies."""
    return list(dict.fromkeys((settings.data_dir, settings.models_path, settings.models_path.parent)))
