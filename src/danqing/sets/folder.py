"""A training set as it lies on the disk: `set.json`, `pictures/`, captions beside them, `masks/`, `conditioning/`.

A person may edit the captions with any editor and take pictures away by hand: `.txt` files win over `set.json`, and
what is no longer there is left out. Nothing outside the folder is read or written: names are plain names, links are no
files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from danqing.sets.atomic import write_all, write_one
from danqing.sets.names import is_plain_name
from danqing.sets.text import decode_text
from danqing.spec.complaints import from_validation_error
from danqing.spec.errors import BadFileError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.training_set import MAX_CAPTION_CHARS, TrainingPicture, TrainingSet

SET_FILE = "set.json"
PICTURES = "pictures"
MASKS = "masks"
CONDITIONING = "conditioning"
CAPTION_SUFFIX = ".txt"
MAX_SET_BYTES = 128 * 1024 * 1024
"""Of `set.json`: 20 000 pictures with long captions."""
MAX_CAPTION_BYTES = 4 * MAX_CAPTION_CHARS
MAX_PIXELS = 256_000_000
"""Of one picture."""
_NEXT = "repair the file, or begin a new set and import the pictures"


def read_set(folder: Path) -> TrainingSet:
    """The set in a folder: as `set.json` says, with the captions of the `.txt` files, without pictures that are gone.

    Raises:
        NotFoundError: There is no set.
        BadFileError: `set.json` or a caption cannot be read, or names a file outside of the folder.
    """
    found = parse_set(_read_json(folder / SET_FILE), str(folder / SET_FILE))
    there = files_in(folder, PICTURES)
    masks, maps = files_in(folder, MASKS), files_in(folder, CONDITIONING)
    pictures = tuple(
        _as_it_lies(folder, picture, there, masks, maps) for picture in found.pictures if picture.file in there
    )
    return found.model_copy(update={"name": _name_of(folder, found), "pictures": pictures})


def write_set(folder: Path, training_set: TrainingSet) -> None:
    """Write captions that differ, then `set.json`: each file is whole or as it was.

    Raises:
        BadFileError: A name in it leads out of the folder.
        DanqingError: The folder cannot be written.
    """
    _check_names(training_set, str(folder / SET_FILE))
    try:
        for name in (PICTURES, MASKS, CONDITIONING):
            (folder / name).mkdir(parents=True, exist_ok=True)
            _check_folder(folder / name)
        there = files_in(folder, PICTURES)
        changed: dict[Path, bytes] = {}
        for picture in training_set.pictures:
            name = caption_file(picture.file)
            kept = _caption(folder, name) if name in there else ""
            if kept != picture.caption:
                changed[folder / PICTURES / name] = picture.caption.encode("utf-8", "replace")
        write_all(changed)
        text = json.dumps(_plain(training_set), ensure_ascii=False, indent=1)
        write_one(folder / SET_FILE, text.encode("utf-8", "replace"))
    except OSError as error:
        raise DanqingError(
            f"the training set cannot be written: {error.strerror or error}",
            value=str(folder),
            next_step="check that the folder can be written and that the disk has room",
        ) from error


def picture_path(folder: Path, picture: TrainingPicture) -> Path:
    """Where a picture of the set lies. BadFileError if its name leads elsewhere."""
    return _path(folder, PICTURES, picture.file)


def mask_path(folder: Path, picture: TrainingPicture) -> Path | None:
    """Where its mask lies, or None. BadFileError if its name leads elsewhere."""
    return None if picture.mask is None else _path(folder, MASKS, picture.mask)


def conditioning_path(folder: Path, picture: TrainingPicture) -> Path | None:
    """Where its control map or its picture before lies, or None. BadFileError if its name leads elsewhere."""
    return None if picture.conditioning is None else _path(folder, CONDITIONING, picture.conditioning)


def files_in(folder: Path, name: str) -> set[str]:
    """Names of the plain files in `pictures`, `masks` or `conditioning`; a link is none, for it may lead anywhere.

    Raises:
        BadFileError: The folder itself is a link.
    """
    _check_folder(folder / name)
    try:
        with os.scandir(folder / name) as entries:
            return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def caption_file(picture: str) -> str:
    """The name of a picture's caption file.

    >>> caption_file("cat.png")
    'cat.txt'
    """
    return Path(picture).stem + CAPTION_SUFFIX


def find_sets(sets_dir: Path) -> list[Path]:
    """Folders of sets, the latest changed first; a folder without `set.json` is none."""
    try:
        entries = [entry for entry in os.scandir(sets_dir) if entry.is_dir() and is_plain_name(entry.name)]
    except FileNotFoundError:
        return []
    dated: list[tuple[float, Path]] = []
    for entry in entries:
        file = Path(entry.path) / SET_FILE
        if file.is_file():
            dated.append((file.stat().st_mtime, Path(entry.path)))
    return [path for _, path in sorted(dated, key=lambda one: (-one[0], one[1].name))]


def set_digest(training_set: TrainingSet) -> str:
    """sha256 of everything a trainer sees of the set: a cache or a resumed run can tell that it changed."""
    unseen = {"complaints", "like", "sharpness"}
    shown = [picture.model_dump(mode="json", exclude=unseen) for picture in training_set.pictures]
    head = training_set.model_dump(mode="json", exclude={"pictures", "licence_note", "recipe", "name"})
    return hashlib.sha256(json.dumps([head, shown], sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SET_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            "there is no training set here",
            value=str(path.parent),
            allowed=f"a folder with {SET_FILE}",
            next_step="see the sets with danqing dataset list",
        ) from error
    except OSError as error:
        raise BadFileError(
            f"the training set cannot be read: {error.strerror}", value=str(path), next_step=_NEXT
        ) from error
    if len(data) > MAX_SET_BYTES:
        raise BadFileError(
            "the list of the set is too large", value=str(path), allowed=f"{MAX_SET_BYTES:,} bytes", next_step=_NEXT
        )
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadFileError(
            f"the list of the set is not JSON: {error}", value=str(path), allowed="JSON in UTF-8", next_step=_NEXT
        ) from error


def parse_set(data: Any, where: str) -> TrainingSet:
    """A set from what `set.json` holds; nothing it names lies outside of its folder.

    Raises:
        BadFileError: What is wrong with it; `where` says of which file.
    """
    try:
        found = TrainingSet.model_validate(data)
    except ValidationError as error:
        told = from_validation_error(error, (TrainingSet, TrainingPicture))
    except InvalidRequestError as error:  # an empty box
        told = error
    else:
        _check_names(found, where)
        _check_sizes(found, where)
        return found
    raise BadFileError(
        f"the list of the set is wrong: {told.message}",
        field=told.field,
        value=told.value,
        allowed=told.allowed,
        next_step=f"correct {where}, or {_NEXT}",
    )


def _check_names(training_set: TrainingSet, where: str) -> None:
    seen: set[str] = set()
    for picture in training_set.pictures:
        for name in (picture.file, picture.mask, picture.conditioning):
            if name is not None and not is_plain_name(name):
                raise BadFileError(
                    "the set names a file outside of its folder",
                    field="file",
                    value=name,
                    allowed="plain names of files in pictures/, masks/ and conditioning/",
                    next_step=f"correct {where}",
                )
        if picture.file in seen:
            raise BadFileError(
                "the set names a picture twice",
                field="file",
                value=picture.file,
                allowed="each picture once",
                next_step=f"correct {where}",
            )
        seen.add(picture.file)


def _check_sizes(training_set: TrainingSet, where: str) -> None:
    """A trainer believes these numbers: they must not make it fill the memory, or cut where nothing is."""
    for picture in training_set.pictures:
        crop = picture.crop
        beyond = crop is not None and (crop.right_px > picture.width_px or crop.bottom_px > picture.height_px)
        if beyond or picture.width_px * picture.height_px > MAX_PIXELS:
            raise BadFileError(
                "the crop of a picture reaches beyond it" if beyond else "a picture has too many pixels",
                field=picture.file,
                value=crop.as_tuple() if crop is not None and beyond else f"{picture.width_px}×{picture.height_px}",
                allowed=f"inside {picture.width_px}×{picture.height_px}" if beyond else f"{MAX_PIXELS:,} pixels",
                next_step=f"correct {where}",
            )


def _as_it_lies(
    folder: Path, picture: TrainingPicture, there: set[str], masks: set[str], maps: set[str]
) -> TrainingPicture:
    changes: dict[str, Any] = {}
    name = caption_file(picture.file)
    if name in there:
        caption = _caption(folder, name)
        if caption != picture.caption:
            changes["caption"] = caption
    if picture.mask is not None and picture.mask not in masks:
        changes["mask"] = None
    if picture.conditioning is not None and picture.conditioning not in maps:
        changes["conditioning"] = None
    return picture.model_copy(update=changes) if changes else picture


def _caption(folder: Path, name: str) -> str:
    path = folder / PICTURES / name
    with path.open("rb") as file:
        data = file.read(MAX_CAPTION_BYTES + 1)
    text = decode_text(data, str(path)).strip()
    if len(data) > MAX_CAPTION_BYTES or len(text) > MAX_CAPTION_CHARS:
        raise BadFileError(
            "the caption is too long",
            value=str(path),
            allowed=f"{MAX_CAPTION_CHARS} characters",
            next_step="shorten it; a model reads the first 75 tokens, some 50 words",
        )
    return text


def _check_folder(path: Path) -> None:
    if path.is_symlink():
        raise BadFileError(
            "a folder of the set is a link to another place",
            value=str(path),
            allowed="plain folders",
            next_step="copy the pictures into the set: danqing dataset import",
        )


def _path(folder: Path, part: str, name: str) -> Path:
    if not is_plain_name(name):
        raise BadFileError("this names no file of the set", field="file", value=name, allowed="a plain name")
    path = folder / part / name
    if path.is_symlink():
        raise BadFileError("a file of the set is a link to another place", field="file", value=name)
    return path


def _name_of(folder: Path, found: TrainingSet) -> str:
    """The folder's name, if it can be one: a person may have renamed it."""
    try:
        return TrainingSet(name=folder.name).name
    except ValidationError:
        return found.name


def _plain(training_set: TrainingSet) -> dict[str, Any]:
    head = training_set.model_dump(mode="json", exclude={"pictures"})
    return {**head, "pictures": _shown(training_set.pictures)}


def _shown(pictures: Iterable[TrainingPicture]) -> list[dict[str, Any]]:
    return [picture.model_dump(mode="json", exclude_defaults=True) for picture in pictures]
