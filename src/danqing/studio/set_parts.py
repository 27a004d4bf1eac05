"""Parts of `studio.training_sets`: a set in a row, changes to a set and to a picture, sets put aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from danqing.sets.captions import check_template
from danqing.sets.crop import suggest_crop
from danqing.sets.folder import PICTURES, SET_FILE, picture_path, read_set
from danqing.sets.history import last_edit
from danqing.sets.pictures import flat_rgb, open_file
from danqing.spec.errors import DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.geometry import BoxPx
from danqing.spec.training_edit import PictureChanges, SetChanges, SetSummary
from danqing.spec.training_set import Complaint, TrainingPicture, TrainingSet

REMOVED_SETS = ".removed"
STAMP = "%Y%m%dT%H%M%S%f"


def summary_of(folder: Path) -> SetSummary:
    """A set as a row of the list; one that cannot be read says why."""
    changed = datetime.fromtimestamp((folder / SET_FILE).stat().st_mtime, UTC)
    try:
        found = read_set(folder)
    except DanqingError as error:
        return SetSummary.model_construct(name=folder.name, changed_at=changed, error=error.message)
    pictures = found.pictures
    complaints: Counter[Complaint] = Counter(one for picture in pictures for one in picture.complaints)
    edit = last_edit(folder)
    sizes = (file.stat().st_size for file in (folder / PICTURES).glob("*") if file.suffix != ".txt")
    return SetSummary(
        name=found.name,
        kind=found.kind,
        pictures=len(pictures),
        captioned=sum(bool(picture.caption) for picture in pictures),
        regularisation=sum(picture.regularisation for picture in pictures),
        masks=sum(picture.mask is not None for picture in pictures),
        complaints=dict(complaints),
        trigger=found.trigger,
        recipe=found.recipe,
        cover=next((picture.file for picture in pictures if "unreadable" not in picture.complaints), None),
        bytes=sum(sizes),
        changed_at=changed,
        undo=None if edit is None else edit.what,
    )


def with_changes(training_set: TrainingSet, changes: SetChanges) -> TrainingSet:
    """A set with other words. InvalidRequestError."""
    given = changes.model_dump(exclude_none=True)
    if "caption_template" in given:
        check_template(given["caption_template"])
    for name in ("trigger", "class_words"):
        if name in given:
            given[name] = " ".join(str(given[name]).split())
    return training_set.model_copy(update=given)


def chosen(training_set: TrainingSet, files: Collection[str] | None) -> list[TrainingPicture]:
    """The pictures of these names; all for None. NotFoundError if one is not there."""
    if files is None:
        return list(training_set.pictures)
    wanted = set(files)
    missing = wanted - {picture.file for picture in training_set.pictures}
    if missing:
        raise NotFoundError(
            "the set has no picture of this name",
            field="files",
            value=min(missing),
            allowed=", ".join(picture.file for picture in training_set.pictures[:10]) or "none: the set is empty",
            next_step="see them with danqing dataset show",
        )
    return [picture for picture in training_set.pictures if picture.file in wanted]


def picture_changes(folder: Path, picture: TrainingPicture, changes: PictureChanges) -> dict[str, Any]:
    """The fields of a picture that change. InvalidRequestError; BadFileError."""
    given: dict[str, Any] = changes.model_dump(include={"repeats", "regularisation"}, exclude_none=True)
    if changes.caption is not None:
        given["caption"] = changes.caption.strip()
    if sum((changes.crop is not None, changes.whole, changes.crop_way is not None)) > 1:
        raise InvalidRequestError(
            "a picture gets one crop",
            field="crop",
            allowed="one of crop, crop_way and whole",
            next_step="leave the others out",
        )
    if changes.whole:
        given["crop"] = None
    elif changes.crop is not None:
        given["crop"] = _inside(changes.crop, picture)
    elif changes.crop_way is not None:
        image = flat_rgb(open_file(picture_path(folder, picture)))
        aspect = changes.aspect or image.width / image.height
        given["crop"] = suggest_crop(image, aspect, changes.crop_way)
    return given


def with_fitting_crop(picture: TrainingPicture) -> TrainingPicture:
    """The picture without its crop, if its file was exchanged for one that the crop reaches beyond."""
    crop = picture.crop
    if crop is None or (crop.right_px <= picture.width_px and crop.bottom_px <= picture.height_px):
        return picture
    return picture.model_copy(update={"crop": None})


def renamed(folder: Path, target: Path) -> None:
    """Move a set's folder. DanqingError."""
    try:
        folder.rename(target)
    except OSError as error:
        raise DanqingError(
            f"the set's folder cannot be moved: {error.strerror or error}",
            value=str(folder),
            next_step="close programs that have it open, and try again",
        ) from error


def removed_at(path: Path) -> float:
    """When a set was put aside, in seconds of the epoch; 0 for a folder that is no such set."""
    try:
        return datetime.strptime(path.name.partition("-")[0], STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _inside(crop: BoxPx, picture: TrainingPicture) -> BoxPx | None:
    if crop.right_px > picture.width_px or crop.bottom_px > picture.height_px:
        raise InvalidRequestError(
            "the crop reaches beyond the picture",
            field="crop",
            value=crop.as_tuple(),
            allowed=f"inside {picture.file}, {picture.width_px}×{picture.height_px} px",
            next_step="make it smaller",
        )
    return None if crop.as_tuple() == (0, 0, picture.width_px, picture.height_px) else crop
