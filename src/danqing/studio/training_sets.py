"""Training sets in the data folder: made, filled, edited, taken back. Safe between threads and processes; no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from danqing.sets.atomic import locked
from danqing.sets.buckets import STEP_PX, BucketRow, bucket_table, make_buckets
from danqing.sets.captions import count_tags, edited
from danqing.sets.folder import (
    CONDITIONING,
    MASKS,
    PICTURES,
    SET_FILE,
    conditioning_path,
    find_sets,
    mask_path,
    picture_path,
    read_set,
    write_set,
)
from danqing.sets.history import commit, undo
from danqing.sets.importing import ImportOptions, side_file, take_pictures
from danqing.sets.layouts import ImportPlan
from danqing.sets.names import checked_set_name, set_folder
from danqing.sets.pictures import open_rgb
from danqing.sets.sources import Source
from danqing.spec.errors import ConflictError, DanqingError, NotFoundError
from danqing.spec.registry.style_projects import find_style_project
from danqing.spec.training_edit import (
    CaptionEdit,
    EditReport,
    ImportReport,
    PictureChanges,
    SetChanges,
    SetSummary,
    TagCount,
    UndoReport,
)
from danqing.spec.training_set import SetKind, TrainingPicture, TrainingSet
from danqing.store.thumbnails import make_thumbnail
from danqing.studio.set_intake import SetIntake
from danqing.studio.set_parts import (
    REMOVED_SETS,
    STAMP,
    chosen,
    picture_changes,
    removed_at,
    renamed,
    summary_of,
    with_changes,
    with_fitting_crop,
)

Edited = Callable[[TrainingSet], TrainingSet]


class TrainingSets(SetIntake):
    """Every set in one folder.

    Args:
        root: `DATA_DIR/training/sets`.
        undo_window_s: How long a removed set can be restored.
    """

    def __init__(self, root: Path, undo_window_s: float = 7 * 24 * 3600.0) -> None:
        self.root = root
        self._undo_window_s = undo_window_s

    # --- sets -------------------------------------------------------------------------------------------------------
    def summaries(self) -> list[SetSummary]:
        """Every set, the latest changed first; one that cannot be read says why."""
        return [summary_of(folder) for folder in find_sets(self.root)]

    def names(self) -> list[str]:
        """Of every set, as `summaries` orders them; none is read."""
        return [folder.name for folder in find_sets(self.root)]

    def get(self, name: str) -> TrainingSet:
        """A set as it stands. NotFoundError; BadFileError."""
        return read_set(self.folder(name))

    def summary(self, name: str) -> SetSummary:
        """A set as the list shows it. NotFoundError."""
        return summary_of(self.folder(name))

    def folder(self, name: str) -> Path:
        """Where a set lies. NotFoundError; InvalidRequestError for a name that none can have."""
        folder = set_folder(self.root, name)
        if not (folder / SET_FILE).is_file():
            raise NotFoundError(
                "there is no training set of this name",
                field="name",
                value=name,
                allowed=", ".join(path.name for path in find_sets(self.root)[:20]) or "none yet",
                next_step="see them with danqing dataset list, or make one with danqing dataset new",
            )
        return folder

    def create(
        self, name: str, *, kind: SetKind | None = None, recipe: str | None = None, changes: SetChanges | None = None
    ) -> TrainingSet:
        """A new, empty set.

        Args:
            name: Also its folder's.
            kind: What it teaches; the recipe's if unset, else `plain`.
            recipe: A ready-made style project.
            changes: Trigger and the like, on top of the recipe's.

        Raises:
            InvalidRequestError: A name that none can have, or no such recipe.
            ConflictError: There is one of this name.
        """
        made = TrainingSet(name=checked_set_name(name), kind=kind or "plain")
        if recipe is not None:
            project = find_style_project(recipe)
            made = TrainingSet(
                name=made.name,
                kind=kind or "style",
                trigger=project.trigger,
                class_words=project.class_words,
                caption_template=project.caption_template,
                licence_note=project.licence_note,
                recipe=project.key,
            )
        if changes is not None:
            made = with_changes(made, changes)
        folder = set_folder(self.root, made.name)
        taken = {path.name.casefold() for path in find_sets(self.root)}
        if made.name.casefold() in taken or folder.exists():
            raise ConflictError(
                "there is a training set of this name already",
                field="name",
                value=name,
                allowed="a name that no set has",
                next_step="choose another name, or import into that set",
            )
        write_set(folder, made)
        return made

    def change(self, name: str, changes: SetChanges) -> TrainingSet:
        """Other words, kind or licence note. InvalidRequestError; NotFoundError."""
        return self._edit(name, "set", lambda current: with_changes(current, changes))[1]

    def rename(self, name: str, new_name: str) -> TrainingSet:
        """Another name. ConflictError if a set has it."""
        target = set_folder(self.root, new_name)
        with self._locked(name) as folder:
            if target.exists() and not (target.samefile(folder) and target != folder):
                raise ConflictError(
                    "there is a training set of this name already",
                    field="new_name",
                    value=new_name,
                    next_step="choose another name",
                )
            renamed(folder, target)
        return read_set(target)

    def remove(self, name: str) -> None:
        """Put a set aside; `restore` brings it back inside the undo window. NotFoundError."""
        self.purge()
        with self._locked(name) as folder:
            aside = self.root / REMOVED_SETS
            aside.mkdir(parents=True, exist_ok=True)
            renamed(folder, aside / f"{datetime.now(UTC).strftime(STAMP)}-{name}")

    def restore(self, name: str) -> TrainingSet:
        """Bring the set of this name that was removed last back.

        Raises:
            NotFoundError: None was removed, or too long ago.
            ConflictError: There is one of this name meanwhile.
        """
        target = set_folder(self.root, name)
        found = [path for path in self._removed() if path.name.partition("-")[2] == name]
        if not found:
            raise NotFoundError(
                "no set of this name was removed", field="name", value=name, next_step="see danqing dataset list"
            )
        if target.exists():
            raise ConflictError(
                "there is a set of this name again", field="name", value=name, next_step="rename that one first"
            )
        renamed(max(found), target)
        return read_set(target)

    def removed(self) -> list[str]:
        """Names of the sets that can be restored, the last removed first."""
        return list(dict.fromkeys(path.name.partition("-")[2] for path in sorted(self._removed(), reverse=True)))

    def purge(self) -> int:
        """Delete for good what was removed before the undo window; gives how many sets."""
        import shutil

        before = time.time() - self._undo_window_s
        old = [path for path in self._removed() if removed_at(path) < before]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
        return len(old)

    # --- pictures in ------------------------------------------------------------------------------------------------
    def import_source(
        self, name: str, source: Source, options: ImportOptions, plan: ImportPlan | None = None
    ) -> ImportReport:
        """Take whatever a source holds in; one undo takes it out again."""
        with self._locked(name) as folder:
            current = read_set(folder)
            joined, report = take_pictures(folder, current, source, options, plan)
            commit(folder, current, joined, f"import of {len(report.added)} pictures")
        return report

    # --- edits ------------------------------------------------------------------------------------------------------
    def edit_captions(self, name: str, edit: CaptionEdit, files: Collection[str] | None = None) -> EditReport:
        """Change the captions of some pictures, or of all. InvalidRequestError; NotFoundError."""
        what = f"captions: {edit.action}"
        return self._edit_pictures(name, what, files, lambda one: {"caption": edited(one.caption, edit)})

    def set_captions(self, name: str, captions: Mapping[str, tuple[str, str]], what: str) -> EditReport:
        """New captions by file: what stood there, what is to stand there. One that changed meanwhile stays."""

        def put(one: TrainingPicture) -> dict[str, object]:
            stood, new = captions[one.file]
            return {"caption": new if one.caption == stood else one.caption}

        here = {picture.file for picture in self.get(name).pictures}
        return self._edit_pictures(name, what, here & captions.keys(), put)

    def change_pictures(self, name: str, changes: PictureChanges, files: Collection[str] | None = None) -> EditReport:
        """Crop, repeats, caption, class picture or not, of some pictures or of all.

        Raises:
            InvalidRequestError: A crop reaches beyond a picture.
            BadFileError: A picture whose crop is looked for cannot be read.
        """
        folder = self.folder(name)
        return self._edit_pictures(name, "pictures", files, lambda one: picture_changes(folder, one, changes))

    def remove_pictures(self, name: str, files: Collection[str]) -> EditReport:
        """Take pictures out of a set; an undo brings them back. NotFoundError."""

        def without(current: TrainingSet) -> TrainingSet:
            gone = {picture.file for picture in chosen(current, files)}
            left = tuple(picture for picture in current.pictures if picture.file not in gone)
            return current.model_copy(update={"pictures": left})

        before, after = self._edit(name, f"removal of {len(set(files))} pictures", without)
        return EditReport(what="removal", changed=len(before.pictures) - len(after.pictures))

    def set_mask(self, name: str, file: str, data: bytes | None) -> TrainingPicture:
        """Give a picture a mask (white where it counts), or take it away. BadFileError; NotFoundError."""
        return self._set_side(name, file, MASKS, data)

    def set_conditioning(self, name: str, file: str, data: bytes | None) -> TrainingPicture:
        """Give a picture a control map, or the picture before it, or take it away. BadFileError; NotFoundError."""
        return self._set_side(name, file, CONDITIONING, data)

    def undo(self, name: str) -> UndoReport:
        """Take the last edit back. ConflictError if there is none."""
        with self._locked(name) as folder:
            return undo(folder, read_set(folder))[1]

    def keep_findings(self, name: str, checked: TrainingSet) -> TrainingSet:
        """Write what a check found, beside whatever was edited meanwhile. It is no edit."""
        found = {picture.file: picture for picture in checked.pictures}
        names = ("complaints", "like", "sharpness", "sha256", "width_px", "height_px")
        with self._locked(name) as folder:
            current = read_set(folder)
            pictures = tuple(
                with_fitting_crop(one.model_copy(update={key: getattr(found[one.file], key) for key in names}))
                if one.file in found
                else one
                for one in current.pictures
            )
            kept = current.model_copy(update={"pictures": pictures})
            write_set(folder, kept)
        return kept

    # --- looking ----------------------------------------------------------------------------------------------------
    def picture(self, name: str, file: str) -> TrainingPicture:
        """One picture of a set. NotFoundError."""
        return chosen(self.get(name), [file])[0]

    def picture_file(self, name: str, file: str, part: str = PICTURES) -> Path:
        """The file of a picture, of its mask (`masks`) or of its map (`conditioning`). NotFoundError."""
        folder, picture = self.folder(name), self.picture(name, file)
        found = {PICTURES: picture_path, MASKS: mask_path, CONDITIONING: conditioning_path}[part](folder, picture)
        if found is None:
            raise NotFoundError(f"this picture has no file in {part}", field="file", value=file)
        return found

    def thumbnail(self, name: str, file: str) -> bytes:
        """A WebP of at most 256 px a side, cut to the picture's crop. NotFoundError; BadFileError."""
        return make_thumbnail(open_rgb(self.folder(name), self.picture(name, file)))

    def tags(self, name: str) -> list[TagCount]:
        """Tags of a set and in how many captions each stands."""
        return count_tags(self.get(name).pictures)

    def buckets(self, name: str, size_px: int, step_px: int = STEP_PX) -> list[BucketRow]:
        """Into which sizes the pictures fall. InvalidRequestError."""
        return bucket_table(self.get(name).pictures, make_buckets(size_px, step_px))

    # --- inside -----------------------------------------------------------------------------------------------------
    @contextmanager
    def _locked(self, name: str) -> Generator[Path]:
        folder = self.folder(name)
        try:
            with locked(folder):
                yield folder
        except OSError as error:
            raise DanqingError(
                f"the training set cannot be written: {error.strerror or error}",
                value=str(folder),
                next_step="check that the folder can be written and that the disk has room",
            ) from error

    def _edit(self, name: str, what: str, edit: Edited) -> tuple[TrainingSet, TrainingSet]:
        with self._locked(name) as folder:
            current = read_set(folder)
            return current, commit(folder, current, edit(current), what)

    def _edit_pictures(
        self,
        name: str,
        what: str,
        files: Collection[str] | None,
        change: Callable[[TrainingPicture], dict[str, object]],
    ) -> EditReport:
        def all_of_them(current: TrainingSet) -> TrainingSet:
            meant = {picture.file for picture in chosen(current, files)}
            pictures = tuple(
                one.model_copy(update=change(one)) if one.file in meant else one for one in current.pictures
            )
            return current.model_copy(update={"pictures": pictures})

        before, after = self._edit(name, what, all_of_them)
        old = {picture.file: picture for picture in before.pictures}
        return EditReport(what=what, changed=sum(old[one.file] != one for one in after.pictures))

    def _set_side(self, name: str, file: str, part: str, data: bytes | None) -> TrainingPicture:
        key = "mask" if part == MASKS else "conditioning"
        with self._locked(name) as folder:
            current = read_set(folder)
            picture = chosen(current, [file])[0]
            new = None if data is None else side_file(folder, part, picture, data)
            changed = picture.model_copy(update={key: new})
            pictures = tuple(changed if one.file == file else one for one in current.pictures)
            commit(folder, current, current.model_copy(update={"pictures": pictures}), f"{key} of {file}")
        return changed

    def _removed(self) -> list[Path]:
        try:
            entries = [Path(entry.path) for entry in os.scandir(self.root / REMOVED_SETS) if entry.is_dir()]
        except FileNotFoundError:
            return []
        return [path for path in entries if removed_at(path) > 0]
