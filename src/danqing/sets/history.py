"""Edits of a set that can be taken back: what changed is written down, files that leave are put aside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from danqing.sets.atomic import write_one
from danqing.sets.folder import CONDITIONING, MASKS, PICTURES, caption_file, write_set
from danqing.sets.names import is_plain_name
from danqing.spec.base import Data
from danqing.spec.errors import ConflictError, DanqingError
from danqing.spec.training_edit import UndoReport
from danqing.spec.training_set import TrainingPicture, TrainingSet

HISTORY = "history"
REMOVED = "removed"
KEPT_EDITS = 20
_FOUND = frozenset({"complaints", "like", "sharpness"})
"""What a check finds is no edit."""


class Change(Data):
    """One picture before and after; None where it was not, or is no longer, there; else the fields that changed."""

    file: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Edit(Data):
    """One edit."""

    number: int = Field(ge=1)
    what: str
    at: datetime
    head_before: dict[str, Any] = Field(default_factory=dict[str, Any])
    head_after: dict[str, Any] = Field(default_factory=dict[str, Any])
    changes: tuple[Change, ...] = ()


def commit(folder: Path, before: TrainingSet, after: TrainingSet, what: str) -> TrainingSet:
    """Write a set after an edit; gives it as it was written. The caller holds the lock.

    Args:
        folder: Of the set.
        before: As it was read under the same lock.
        after: As it is to be.
        what: The edit in a few words; an undo says them.
    """
    after = settled(after)
    changes = _changes(before, after)
    heads = _heads(before, after)
    if not changes and not heads[0]:
        return before
    numbers = _numbers(folder)
    number = (numbers[-1] if numbers else 0) + 1
    edit = Edit(
        number=number, what=what, at=datetime.now(UTC), head_before=heads[0], head_after=heads[1], changes=changes
    )
    try:
        for name in (HISTORY, REMOVED):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_one(folder / HISTORY / f"{number:06d}.json", edit.model_dump_json(exclude_none=False).encode())
        write_set(folder, after)
        for change in changes:
            if change.after is None:
                _move(folder, change, back=False)
        _forget(folder, [*numbers, number][:-KEPT_EDITS])
    except OSError as error:
        raise DanqingError(
            f"the training set cannot be written: {error.strerror or error}",
            value=str(folder),
            next_step="check that the folder can be written and that the disk has room",
        ) from error
    return after


def undo(folder: Path, current: TrainingSet) -> tuple[TrainingSet, UndoReport]:
    """Take the last edit back; what was changed again since then stays as it is. The caller holds the lock.

    Raises:
        ConflictError: There is nothing to take back.
    """
    edit = last_edit(folder)
    if edit is None:
        raise ConflictError(
            "there is nothing to undo in this set",
            value=current.name,
            allowed=f"the last {KEPT_EDITS} edits",
            next_step="look at its pictures",
        )
    pictures = {picture.file: picture for picture in current.pictures}
    undone = kept = 0
    for change in edit.changes:
        if _take_back(folder, pictures, change):
            undone += 1
        else:
            kept += 1
    head = {
        name: old for name, old in edit.head_before.items() if _head(current).get(name) == edit.head_after.get(name)
    }
    changed = TrainingSet.model_validate({**_head(current), **head, "name": current.name})
    restored = settled(changed.model_copy(update={"pictures": tuple(pictures.values())}))
    write_set(folder, restored)
    for change in edit.changes:
        if change.before is None and change.file not in pictures:
            _move(folder, change, back=False)
    _entry(folder, edit.number).unlink(missing_ok=True)
    return restored, UndoReport(what=edit.what, undone=undone, kept=kept)


def last_edit(folder: Path) -> Edit | None:
    """The edit that an undo would take back; one that cannot be read is passed over."""
    for number in reversed(_numbers(folder)):
        try:
            return Edit.model_validate_json(_entry(folder, number).read_bytes())
        except (OSError, ValidationError):
            continue
    return None


def settled(training_set: TrainingSet) -> TrainingSet:
    """The set in its order, without complaints that an edit has answered."""
    names = {picture.file for picture in training_set.pictures}
    pictures = sorted((_answered(one, names) for one in training_set.pictures), key=lambda p: (p.file.lower(), p.file))
    return training_set.model_copy(update={"pictures": tuple(pictures)})


def _answered(picture: TrainingPicture, names: set[str]) -> TrainingPicture:
    gone = {"no_caption"} if picture.caption else set[str]()
    gone |= {"duplicate"} if picture.like is not None and picture.like not in names else set[str]()
    if not gone & set(picture.complaints):
        return picture
    left = tuple(one for one in picture.complaints if one not in gone)
    return picture.model_copy(update={"complaints": left, "like": None if "duplicate" in gone else picture.like})


def _changes(before: TrainingSet, after: TrainingSet) -> tuple[Change, ...]:
    old = {picture.file: picture for picture in before.pictures}
    new = {picture.file: picture for picture in after.pictures}
    found: list[Change] = []
    for file in sorted(old.keys() | new.keys()):
        one, other = old.get(file), new.get(file)
        if one == other:
            continue
        was, now = _plain(one), _plain(other)
        if was is not None and now is not None:
            fields = {name for name in was if was[name] != now[name]}
            was = {name: was[name] for name in fields}
            now = {name: now[name] for name in fields}
            if not fields:
                continue
        found.append(Change(file=file, before=was, after=now))
    return tuple(found)


def _take_back(folder: Path, pictures: dict[str, TrainingPicture], change: Change) -> bool:
    """Whether something was taken back."""
    current = pictures.get(change.file)
    if change.before is None:
        return pictures.pop(change.file, None) is not None
    if change.after is None:
        if current is not None or not _move(folder, change, back=True):
            return False
        pictures[change.file] = TrainingPicture.model_validate(change.before)
        return True
    now = _plain(current)
    if current is None or now is None:
        return False
    fields = {name: old for name, old in change.before.items() if now[name] == change.after.get(name)}
    if fields:
        pictures[change.file] = TrainingPicture.model_validate({**current.model_dump(mode="json"), **fields})
    return bool(fields)


def _move(folder: Path, change: Change, *, back: bool) -> bool:
    """Put a picture's files aside or back; whether the picture itself is where it is to be."""
    for part, name in _files_of(change):
        here, aside = folder / part / name, folder / REMOVED / f"{part}-{name}"
        start, end = (aside, here) if back else (here, aside)
        if start.is_file() and not start.is_symlink() and not (back and end.exists()):
            start.replace(end)
    return (folder / PICTURES / change.file).is_file() == back


def _files_of(change: Change) -> list[tuple[str, str]]:
    """Folders and names of everything that belongs to a picture that came or went."""
    picture = change.before or change.after or {}
    names = (
        (PICTURES, change.file),
        (PICTURES, caption_file(change.file)),
        (MASKS, picture.get("mask")),
        (CONDITIONING, picture.get("conditioning")),
    )
    return [(part, name) for part, name in names if name is not None and is_plain_name(name)]


def _forget(folder: Path, numbers: Iterable[int]) -> None:
    """Edits that can no longer be taken back, and the files that only they needed."""
    old = list(numbers)
    if not old:
        return
    for number in old:
        _entry(folder, number).unlink(missing_ok=True)
    needed: set[str] = set()
    for number in _numbers(folder):
        edit = Edit.model_validate_json(_entry(folder, number).read_bytes())
        needed |= {f"{part}-{name}" for change in edit.changes for part, name in _files_of(change)}
    for path in (folder / REMOVED).iterdir():
        if path.name not in needed and not path.is_dir():
            path.unlink()


def _numbers(folder: Path) -> list[int]:
    try:
        return sorted(int(path.stem) for path in (folder / HISTORY).glob("*.json") if path.stem.isdecimal())
    except OSError:
        return []


def _entry(folder: Path, number: int) -> Path:
    return folder / HISTORY / f"{number:06d}.json"


def _plain(picture: TrainingPicture | None) -> dict[str, Any] | None:
    return None if picture is None else picture.model_dump(mode="json", exclude=set(_FOUND))


def _head(training_set: TrainingSet) -> dict[str, Any]:
    return training_set.model_dump(mode="json", exclude={"pictures", "name"})


def _heads(before: TrainingSet, after: TrainingSet) -> tuple[dict[str, Any], dict[str, Any]]:
    old, new = _head(before), _head(after)
    names = [name for name in old if old[name] != new[name]]
    return {name: old[name] for name in names}, {name: new[name] for name in names}
