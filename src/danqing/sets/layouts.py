"""How other programs lay out training pictures, read from the names of the files alone (and their lists).

Known: pictures with `.txt` or `.caption` beside them (A1111, kohya); `10_name class` folders with repeats, and `reg`
folders (kohya, DreamBooth); `metadata.json` (kohya), `metadata.jsonl` and `train.jsonl` (datasets), `captions.json`;
masks as `NAME-masklabel.png` (OneTrainer) or in `masks/`; ControlNet sets as `conditioning/` beside the pictures or as
`prompt.json` with source and target (Zhang's fill50k); `pairs.jsonl` of `danqing refine --export`; sets of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from danqing.sets.lists import Listed, read_lists
from danqing.sets.pictures import PICTURE_SUFFIXES
from danqing.sets.sources import Source
from danqing.spec.training_edit import Layout
from danqing.spec.training_set import SetKind, TrainingPicture, TrainingSet

CAPTION_SUFFIXES = (".txt", ".caption")
MASK_LABEL = "-masklabel"
_KOHYA = re.compile(r"^(\d{1,5})_(.*)$")
_REGULARISATION = re.compile(r"^(\d{1,5}_)?(reg|regs?_?images?|regulari[sz]ation.*|class_?images?)$", re.IGNORECASE)
_MASKS = frozenset({"mask", "masks"})
_MAPS = frozenset({"conditioning", "conditioning_images", "control", "controls", "source", "conditioning_data"})
_TARGETS = frozenset({"pictures", "images", "image", "img", "target", "targets"})
_MAX_REPEATS = 10_000


@dataclass(frozen=True)
class Planned:
    """A picture that is to join a set; names are those of the source.

    Attributes:
        caption: Its words, if a list or a folder's name says them.
        caption_file: A file with its words, which counts more.
        kept: What a set of ours says of it.
    """

    picture: str
    caption: str = ""
    caption_file: str | None = None
    mask: str | None = None
    conditioning: str | None = None
    repeats: int = 1
    regularisation: bool = False
    kept: TrainingPicture | None = None


@dataclass(frozen=True)
class ImportPlan:
    """What a source holds.

    Attributes:
        head: What it says of the whole set: kind, trigger, class words.
    """

    layout: Layout
    pictures: tuple[Planned, ...]
    kind: SetKind = "plain"
    trigger: str = ""
    class_words: str = ""
    head: TrainingSet | None = None
    notes: tuple[str, ...] = field(default=())


def plan_import(source: Source) -> ImportPlan:
    """What would be taken from a source, and how.

    Raises:
        BadFileError: One of its lists cannot be read.
    """
    lists = read_lists(source)
    if lists.head is not None:
        return _of_ours(source, lists)
    if lists.pairs:
        kind: SetKind = "pairs" if lists.layout == "pairs" else "control"
        return ImportPlan(lists.layout, tuple(_pairs(source, lists)), kind)
    return _of_folders(source, lists)


def _of_ours(source: Source, lists: Listed) -> ImportPlan:
    head, root = lists.head, lists.root
    assert head is not None  # noqa: S101 - the caller looked
    names = set(source.names)
    pictures: list[Planned] = []
    for picture in head.pictures:
        way = f"{root}pictures/{picture.file}"
        if way in names:
            mask, before = f"{root}masks/{picture.mask}", f"{root}conditioning/{picture.conditioning}"
            pictures.append(
                Planned(
                    way,
                    picture.caption,
                    _caption_file(way, names),
                    mask if mask in names else None,
                    before if before in names else None,
                    picture.repeats,
                    picture.regularisation,
                    picture,
                )
            )
    return ImportPlan("danqing", tuple(pictures), head.kind, head.trigger, head.class_words, head)


def _pairs(source: Source, lists: Listed) -> Iterable[Planned]:
    names = set(source.names)
    for after, before, words in lists.pairs:
        if after in names and before in names:
            yield Planned(after, words, _caption_file(after, names), conditioning=before)


def _of_folders(source: Source, lists: Listed) -> ImportPlan:
    names = set(source.names)
    shown = {name for name in source.names if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES}
    maps = _side_pictures(shown, _MAPS)
    masks = _side_pictures(shown - set(maps.values()), _MASKS) | _labels(shown)
    beside = set(maps.values()) | set(masks.values())
    planned = [
        _planned(name, source.title, names, lists.words)
        for name in source.names
        if name in shown and name not in beside
    ]
    pictures = tuple(replace(one, mask=masks.get(one.picture), conditioning=maps.get(one.picture)) for one in planned)
    subjects = [_folder_words(one.picture, source.title) for one in pictures if not one.regularisation]
    named = next((words for words in subjects if words), "")
    layout: Layout = "control" if maps else "kohya" if any(subjects) or _any_reg(pictures) else "plain"
    kind: SetKind = "control" if maps else "subject" if layout == "kohya" else "plain"
    trigger, _, class_words = named.partition(" ")
    different = sorted({words for words in subjects if words and words != named})
    notes = (
        (f"several subjects: the trigger is {trigger!r}; the others stay in their captions: {', '.join(different)}",)
        if different
        else ()
    )
    return ImportPlan(layout, pictures, kind, trigger[:80], class_words.strip()[:200], notes=notes)


def _planned(name: str, title: str, names: set[str], words: dict[str, str]) -> Planned:
    repeats, said, regularisation = 1, "", False
    for part in _folders(name, title):
        regularisation = regularisation or _REGULARISATION.match(part) is not None
        found = _KOHYA.match(part)
        if found:
            repeats = min(int(found[1]), _MAX_REPEATS)
            said = "" if _REGULARISATION.match(part) else _blanks(found[2])
    listed = words.get(_key(name)) or words.get(PurePosixPath(name).stem.casefold()) or said
    return Planned(name, listed, _caption_file(name, names), repeats=repeats, regularisation=regularisation)


def _folder_words(name: str, title: str) -> str:
    """What the `10_name class` folder of a picture says."""
    for part in reversed(_folders(name, title)):
        found = _KOHYA.match(part)
        if found and not _REGULARISATION.match(part):
            return _blanks(found[2])
    return ""


def _folders(name: str, title: str) -> list[str]:
    """The folders that a picture lies in; the root's own name among them where kohya would read it."""
    root = [title] if _KOHYA.match(title) else []
    return [*root, *PurePosixPath(name).parts[:-1]]


def _blanks(words: str) -> str:
    return " ".join(words.replace("_", " ").split())


def _any_reg(pictures: Iterable[Planned]) -> bool:
    return any(one.regularisation for one in pictures)


def _caption_file(name: str, names: set[str]) -> str | None:
    stem = str(PurePosixPath(name).with_suffix(""))
    return next((stem + suffix for suffix in CAPTION_SUFFIXES if stem + suffix in names), None)


def _labels(shown: set[str]) -> dict[str, str]:
    """Masks that lie beside their pictures, by picture."""
    stems = {str(PurePosixPath(name).with_suffix("")): name for name in shown}
    return {
        stems[stem.removesuffix(MASK_LABEL)]: name
        for stem, name in stems.items()
        if stem.endswith(MASK_LABEL) and stem.removesuffix(MASK_LABEL) in stems
    }


def _side_pictures(shown: set[str], folders: frozenset[str]) -> dict[str, str]:
    """Pictures in folders of these names that have a partner of the same name elsewhere, by partner.

    `a/masks/x.png` belongs to `a/x.jpg`, or to `a/images/x.jpg`.
    """
    partners: dict[tuple[str, str], str] = {}
    for name in sorted(shown):
        way = PurePosixPath(name)
        home = way.parent.parent if way.parent.name.lower() in _TARGETS else way.parent
        if way.parent.name.lower() not in folders:
            partners.setdefault((str(home), way.stem.casefold()), name)
            partners.setdefault((str(way.parent), way.stem.casefold()), name)
    found: dict[str, str] = {}
    for name in sorted(shown):
        way = PurePosixPath(name)
        if way.parent.name.lower() in folders:
            partner = partners.get((str(way.parent.parent), way.stem.removesuffix(MASK_LABEL).casefold()))
            if partner is not None:
                found[partner] = name
    return found


def _key(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")).casefold()
