"""Networks as a person chooses them: what is beside a file, what calls it up, whether it fits a model. No torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from danqing.models.networks import Glance, NetworkShelf
from danqing.models.sidecars import PREVIEW_ENDINGS, find_sidecars, read_notes
from danqing.planning.networks import misfits, words_of
from danqing.spec.errors import DanqingError
from danqing.spec.files import ModelNotes
from danqing.spec.model import ModelInfo
from danqing.spec.network import Misfit, NetworkCard, NetworkInfo, ShelfKind

KINDS: Final[tuple[ShelfKind, ...]] = ("lora", "embedding", "hypernetwork")
_SHOWN_ENDINGS: Final = tuple(
    ending for ending in PREVIEW_ENDINGS if ending.endswith((".png", ".jpg", ".jpeg", ".webp"))
)
"""Of A1111's previews, those that are a single picture every decoder here reads."""
_DESCRIPTION_CHARS: Final = 300
_TAG: Final = re.compile(r"<[^<>]*>")
"""Some notes carry the network's own tag along."""
_NO_NOTES: Final = ModelNotes()


@dataclass
class NetworkCards:
    """Makes cards, and remembers what stood beside the files.

    Attributes:
        shelf: Where the files are found.
    """

    shelf: NetworkShelf
    _notes: dict[tuple[str, ...], ModelNotes] = field(default_factory=dict[tuple[str, ...], ModelNotes])
    _folders: dict[Path, frozenset[str]] = field(default_factory=dict[Path, frozenset[str]])

    def list(self, model: ModelInfo) -> list[NetworkCard]:
        """Every network file, those that fit the model first, by name."""
        self._folders.clear()  # a person may have put a picture beside a file
        cards = [card for kind in KINDS for card in self._of_kind(kind, model)]
        return sorted(cards, key=lambda card: (KINDS.index(card.kind), card.misfit is not None, card.name.lower()))

    def notes(self, infos: Sequence[NetworkInfo]) -> Sequence[ModelNotes]:
        """What stands beside each of some networks; `trigger_words` are those that its card shows."""
        self._folders.clear()
        found: list[ModelNotes] = []
        for info in infos:
            path = Path(info.path)
            try:
                notes = self._notes_of(path, self._beside(path))
            except OSError:  # the folder went away meanwhile
                notes = _NO_NOTES
            found.append(notes.model_copy(update={"trigger_words": _calls(notes, info.trigger_words)}))
        return found

    def preview(self, kind: ShelfKind, name: str) -> Path | None:
        """The picture beside a network; None where there is none, or where it is a link that leads out of the folder.

        Args:
            kind: Of the network.
            name: Its name below its folder, as a card has it. A name that no network has finds nothing.
        """
        path = self.shelf.file(name, kind)
        return None if path is None else _preview(path, self._beside(path, fresh=True))

    def _of_kind(self, kind: ShelfKind, model: ModelInfo) -> Iterator[NetworkCard]:
        seen = list(self.shelf.glance(kind))
        stems = Counter(one.name.rpartition("/")[2].lower() for one in seen)
        for one in seen:
            stem = one.name.rpartition("/")[2]
            yield self._card(one, kind, stem if stems[stem.lower()] == 1 else one.name, model)

    def _card(self, seen: Glance, kind: ShelfKind, written: str, model: ModelInfo) -> NetworkCard:
        beside = self._beside(seen.path)
        notes = self._notes_of(seen.path, beside)
        preview = _preview(seen.path, beside)
        known: dict[str, Any] = {
            "kind": kind,
            "name": seen.name,
            "written": written,
            "base_model": notes.base_model,
            "negative_words": notes.negative_text,
            "preferred_weight": notes.preferred_weight,
            "description": notes.description[:_DESCRIPTION_CHARS],
            "preview": str(preview.stat().st_mtime_ns) if preview else None,
        }
        info = seen.info
        words = tuple(dict.fromkeys(word for word, _ in words_of(info))) if isinstance(info, NetworkInfo) else ()
        if kind == "embedding" and words and written.lower() not in (word.lower() for word in words):
            known["written"] = next((word for word in words if word.lower() == seen.path.stem.lower()), words[0])
        if isinstance(info, DanqingError):
            return NetworkCard(**known, misfit="unreadable", why=str(info))
        misfit, why = _fit(info, model)
        return NetworkCard(
            **known,
            alias=info.alias or "",
            family=info.family,
            words=words if kind == "embedding" else (),
            trigger_words=_calls(notes, seen.trigger_words),
            misfit=misfit,
            why=why,
        )

    def _notes_of(self, path: Path, beside: frozenset[str]) -> ModelNotes:
        names = find_sidecars(path.stem, beside).names
        told = [path.parent / name for name in names if not name.endswith((*PREVIEW_ENDINGS, ".yaml", ".yml"))]
        if not told:
            return _NO_NOTES
        key = (str(path), *(f"{one.name}|{one.stat().st_mtime_ns}" for one in told if one.is_file()))
        if key not in self._notes:
            self._notes[key] = read_notes(path)
        return self._notes[key]

    def _beside(self, path: Path, *, fresh: bool = False) -> frozenset[str]:
        known = None if fresh else self._folders.get(path.parent)
        if known is None:
            with os.scandir(path.parent) as entries:
                known = frozenset(entry.name for entry in entries)
            self._folders[path.parent] = known
        return known


def _calls(notes: ModelNotes, own: tuple[str, ...]) -> tuple[str, ...]:
    """What the person wrote beside the file goes before what sites say of it, and that before its own metadata."""
    asked = (notes.activation_text,) if notes.activation_text else notes.trigger_words or own
    return tuple(dict.fromkeys(word for text in asked if (word := _TAG.sub("", text).strip(" ,"))))


def _preview(path: Path, beside: frozenset[str]) -> Path | None:
    name = next((path.stem + ending for ending in _SHOWN_ENDINGS if path.stem + ending in beside), None)
    if name is None:
        return None
    picture = path.parent / name
    # The file's own folder is inside the model folders; a picture that is a link must not lead elsewhere.
    inside = picture.is_file() and picture.resolve().is_relative_to(path.parent.resolve())
    return picture if inside else None


def _fit(info: NetworkInfo, model: ModelInfo) -> tuple[Misfit | None, str]:
    """Whether it fits, as planning sees it."""
    if info.kind == "embedding":
        if not info.embeddings or any(one.fits(model.context_width) for one in info.embeddings):
            return None, ""
        widths = ", ".join(str(width) for one in info.embeddings for width in one.widths.values())
        reasons = [f"its vectors are {widths} wide, the model's text states {model.context_width}"]
    else:
        reasons = misfits(info, model)
    if not reasons:
        return None, ""
    return "family" if info.family not in (None, model.family) else "width", "; ".join(reasons)
