"""The files that people keep beside a model: previews, A1111's and Civitai's notes, configs, a VAE of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from danqing.spec.files import ModelNotes

# In A1111's order: the plain name before `.preview`.
_PICTURES = ("png", "jpg", "jpeg", "webp", "gif", "avif")
PREVIEW_ENDINGS = tuple(ending for kind in _PICTURES for ending in (f".{kind}", f".preview.{kind}"))
VAE_ENDINGS = (".vae.safetensors", ".vae.pt", ".vae.ckpt")
_NOTES_ENDINGS = (".json", ".civitai.info", ".metadata.json", ".txt", ".description.txt", ".yaml", ".yml")
_ENDINGS = (*PREVIEW_ENDINGS, *_NOTES_ENDINGS, *VAE_ENDINGS)
_LIMIT_BYTES = 4_000_000
_TEXT_LIMIT_CHARS = 20_000
_MOST_TAGS = 20
# A tag that nearly every training picture has is what calls the subject up.
_TRIGGER_SHARE = 0.9
_MOST_TRIGGERS = 3


@dataclass(frozen=True)
class Sidecars:
    """Names of the files beside a model.

    Attributes:
        preview: The picture to show, in the order in which A1111 looks.
        vae: The VAE that A1111 would load with it.
        names: All of them.
    """

    preview: str | None = None
    vae: str | None = None
    names: tuple[str, ...] = ()


def find_sidecars(stem: str, beside: Collection[str]) -> Sidecars:
    """The sidecars of a model.

    Args:
        stem: The model's name without its ending.
        beside: The names in its folder.
    """
    found = tuple(stem + ending for ending in _ENDINGS if stem + ending in beside)
    if not found:
        return _NONE
    preview = next((name for name in found if name[len(stem) :] in PREVIEW_ENDINGS), None)
    vae = next((name for name in found if name[len(stem) :] in VAE_ENDINGS), None)
    return Sidecars(preview, vae, found)


_NONE = Sidecars()


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What calls a LoRA's subject up, from its own metadata: as stated, else the tags of nearly all pictures."""
    stated = metadata.get("modelspec.trigger_phrase", "").strip()
    if stated:
        return (stated,)
    counts = _tag_counts(metadata)
    most = max(counts.values(), default=0)
    often = [tag for tag, count in counts.items() if count >= _TRIGGER_SHARE * most]
    return tuple(often[:_MOST_TRIGGERS]) if most > 1 and len(often) <= 2 * _MOST_TRIGGERS else ()


def frequent_tags(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The training tags of a LoRA, first the most frequent."""
    return tuple(list(_tag_counts(metadata))[:_MOST_TAGS])


def read_notes(path: Path, metadata: Mapping[str, str] | None = None) -> ModelNotes:
    """What the sidecars and the metadata of a model say; a sidecar that cannot be read says nothing.

    Args:
        path: The model's file.
        metadata: Of its header.
    """
    words = metadata or {}
    stem = path.with_suffix("")
    user = _json(Path(f"{stem}.json"))
    civitai = _json(Path(f"{stem}.civitai.info")) or _json(Path(f"{stem}.metadata.json"))
    model = civitai.get("model")
    model = cast("dict[str, Any]", model) if isinstance(model, dict) else {}
    trained = civitai.get("trainedWords")
    triggers = tuple(str(word) for word in cast("list[Any]", trained)) if isinstance(trained, list) else ()
    activation = _text(user.get("activation text"))
    description = (
        _text(user.get("description"))
        or _file_text(Path(f"{stem}.txt"))
        or _file_text(Path(f"{stem}.description.txt"))
        or _text(civitai.get("description"))
        or _text(model.get("description"))
        or words.get("modelspec.description", "")
    )
    return ModelNotes(
        description=description[:_TEXT_LIMIT_CHARS],
        notes=_text(user.get("notes")),
        activation_text=activation,
        negative_text=_text(user.get("negative text")),
        preferred_weight=_number(user.get("preferred weight")),
        base_model=_text(user.get("sd version")) or _text(civitai.get("baseModel")),
        trigger_words=tuple(dict.fromkeys(filter(None, (activation, *triggers, *trigger_words(words))))),
        tags=frequent_tags(words),
    )


def _tag_counts(metadata: Mapping[str, str]) -> dict[str, int]:
    """Training tags with how often they were used, first the most frequent (kohya's ss_tag_frequency)."""
    try:
        sets: Any = orjson.loads(metadata.get("ss_tag_frequency") or "{}")
    except ValueError:
        return {}
    counts: dict[str, int] = {}
    folders = cast("dict[str, Any]", sets).values() if isinstance(sets, dict) else ()
    for folder in folders:
        tags = cast("dict[str, Any]", folder).items() if isinstance(folder, dict) else ()
        for tag, count in tags:
            if isinstance(count, int) and (word := str(tag).strip()):
                counts[word] = counts.get(word, 0) + count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data: Any = orjson.loads(file.read(_LIMIT_BYTES))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _file_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_TEXT_LIMIT_CHARS).strip()
    except OSError:
        return ""


def _text(value: Any) -> str:
    return value.strip()[:_TEXT_LIMIT_CHARS] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    # A1111 writes 0 where nothing was set.
    return number if number and abs(number) < 100 else None
