"""Taking pictures into a set: from a folder, a ZIP or bytes at hand. What cannot be taken is told, never just lost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from danqing.sets.atomic import settle, write_loose, write_one
from danqing.sets.folder import CONDITIONING, MASKS, PICTURES, files_in
from danqing.sets.layouts import ImportPlan, Planned, plan_import
from danqing.sets.names import free_name
from danqing.sets.pictures import ReadyPicture, alpha_mask, flat_rgb, png_bytes, read_bytes, ready_picture
from danqing.sets.sources import ImportLimits, Source
from danqing.sets.text import decode_text
from danqing.spec.errors import BadFileError, DanqingError, InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.training_edit import ImportReport, Skipped
from danqing.spec.training_set import MAX_CAPTION_CHARS, MAX_SET_PICTURES, TrainingPicture, TrainingSet

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportOptions:
    """How pictures are taken.

    Attributes:
        alpha_masks: What is see-through does not count: the alpha channel becomes the mask, where none is given.
        regularisation: All of them are pictures of the class, not of the subject.
        repeats: Of all of them; None for what their folders say.
        limits: What is taken at most.
        tell: Told how many of how many were looked at; may raise to stop, then nothing was taken.
    """

    alpha_masks: bool = False
    regularisation: bool = False
    repeats: int | None = None
    limits: ImportLimits = field(default_factory=ImportLimits)
    tell: Tell | None = None


@dataclass
class _Taking:
    """An import under way."""

    folder: Path
    source: Source
    options: ImportOptions
    stems: set[str]
    known: dict[str, str]
    pictures: list[TrainingPicture] = field(default_factory=list[TrainingPicture])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    notes: list[str] = field(default_factory=list[str])
    written: list[Path] = field(default_factory=list[Path])


def take_pictures(
    folder: Path, training_set: TrainingSet, source: Source, options: ImportOptions, plan: ImportPlan | None = None
) -> tuple[TrainingSet, ImportReport]:
    """Write a source's pictures into the folder of a set; `set.json` is the caller's to write.

    Args:
        folder: Of the set.
        training_set: As it stands.
        source: Where the pictures are.
        options: How.
        plan: What is taken; by the source's layout if unset.

    Returns:
        The set with them, and what was done.

    Raises:
        BadFileError: A list of the source is damaged.
        InvalidRequestError: The set would hold too many pictures.
        DanqingError: The folder cannot be written; what was written is taken away again.
    """
    plan = plan_import(source) if plan is None else plan
    if len(training_set.pictures) + len(plan.pictures) > MAX_SET_PICTURES:
        raise InvalidRequestError(
            "the set would hold too many pictures",
            field="source",
            value=len(training_set.pictures) + len(plan.pictures),
            allowed=f"{MAX_SET_PICTURES:,} pictures",
            next_step="make several sets",
        )
    taking = _Taking(folder, source, options, _stems(folder), {p.sha256: p.file for p in training_set.pictures})
    try:
        for name in (PICTURES, MASKS, CONDITIONING):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(plan.pictures, start=1):
            _take(taking, one)
            if options.tell is not None:
                options.tell(number, len(plan.pictures))
        settle(taking.written)
    except BaseException as error:
        for path in taking.written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DanqingError(
                f"the pictures cannot be written: {error.strerror or error}",
                value=str(folder),
                next_step="check that the folder can be written and that the disk has room",
            ) from error
        raise
    return _joined(training_set, plan, taking), _report(training_set, plan, taking)


def _take(taking: _Taking, one: Planned) -> None:
    try:
        data = taking.source.read(one.picture)
        ready = ready_picture(data, taking.options.limits.max_pixels)
    except BadFileError as error:
        taking.skipped.append(Skipped(file=one.picture, reason=error.message))
        return
    sha256 = hashlib.sha256(ready.data).hexdigest()
    if sha256 in taking.known:
        same = taking.known[sha256]
        taking.skipped.append(Skipped(file=one.picture, reason=f"the same picture is there already: {same}"))
        return
    name = free_name(PurePosixPath(one.picture).name, ready.suffix, taking.stems)
    stem = name.removesuffix(ready.suffix)
    taking.stems.add(stem.lower())
    taking.known[sha256] = name
    _write(taking, taking.folder / PICTURES / name, ready.data)
    taking.pictures.append(
        TrainingPicture(
            file=name,
            sha256=sha256,
            width_px=ready.width_px,
            height_px=ready.height_px,
            caption=_words(taking, one),
            crop=_crop(one, ready),
            mask=_mask(taking, one, ready, stem),
            repeats=one.repeats if taking.options.repeats is None else taking.options.repeats,
            regularisation=one.regularisation or taking.options.regularisation,
            conditioning=_side(taking, one.conditioning, stem, CONDITIONING),
        )
    )


def _words(taking: _Taking, one: Planned) -> str:
    text = one.caption
    if one.caption_file is not None:
        try:
            text = decode_text(taking.source.read(one.caption_file), one.caption_file)
        except BadFileError as error:
            taking.notes.append(f"{one.caption_file}: {error.message}")
    text = text.replace("\x00", "").strip()
    if len(text) > MAX_CAPTION_CHARS:
        taking.notes.append(f"{one.picture}: its caption was cut to {MAX_CAPTION_CHARS} characters")
    return text[:MAX_CAPTION_CHARS].strip()


def _crop(one: Planned, ready: ReadyPicture) -> BoxPx | None:
    crop = one.kept.crop if one.kept is not None else None
    fits = crop is not None and crop.right_px <= ready.width_px and crop.bottom_px <= ready.height_px
    return crop if fits else None


def _mask(taking: _Taking, one: Planned, ready: ReadyPicture, stem: str) -> str | None:
    if one.mask is not None:
        return _side(taking, one.mask, stem, MASKS, mask=True)
    if not (taking.options.alpha_masks and ready.transparent):
        return None
    _write(taking, taking.folder / MASKS / f"{stem}.png", alpha_mask(ready.data))
    return f"{stem}.png"


def _side(taking: _Taking, name: str | None, stem: str, part: str, *, mask: bool = False) -> str | None:
    """A mask or a control map, written under its picture's name."""
    if name is None:
        return None
    try:
        ready = ready_picture(taking.source.read(name), taking.options.limits.max_pixels)
        data, suffix = (mask_png(ready.data), ".png") if mask else (ready.data, ready.suffix)
    except BadFileError as error:
        taking.notes.append(f"{name}: {error.message}")
        return None
    _write(taking, taking.folder / part / (stem + suffix), data)
    return stem + suffix


def mask_png(data: bytes) -> bytes:
    """A picture's greys as a mask; of one that is see-through, its alpha channel. BadFileError."""
    image = read_bytes(data)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        return png_bytes(image.convert("RGBA").getchannel("A"))
    return png_bytes(flat_rgb(image).convert("L"))


def side_file(folder: Path, part: str, picture: TrainingPicture, data: bytes) -> str:
    """Write a mask or a control map for a picture that is in the set; gives its name. BadFileError; OSError.

    A new name each time: the file that was there is needed if the edit is taken back.
    """
    ready = ready_picture(data)
    content, suffix = (mask_png(ready.data), ".png") if part == MASKS else (ready.data, ready.suffix)
    taken = {Path(name).stem.lower() for name in files_in(folder, part)}
    name = free_name(picture.file, suffix, taken)
    (folder / part).mkdir(parents=True, exist_ok=True)
    write_one(folder / part / name, content)
    return name


def _write(taking: _Taking, path: Path, data: bytes) -> None:
    write_loose(path, data)
    taking.written.append(path)


def _stems(folder: Path) -> set[str]:
    """Stems that are used, of files that no set knows too: nothing is overwritten."""
    names = files_in(folder, PICTURES) | files_in(folder, MASKS) | files_in(folder, CONDITIONING)
    return {Path(name).stem.lower() for name in names}


def _joined(training_set: TrainingSet, plan: ImportPlan, taking: _Taking) -> TrainingSet:
    changes: dict[str, object] = {"pictures": (*training_set.pictures, *taking.pictures)}
    if not training_set.pictures and training_set.kind == "plain":
        changes["kind"] = plan.kind
    for name in ("trigger", "class_words"):
        if not getattr(training_set, name) and getattr(plan, name):
            changes[name] = getattr(plan, name)
    if plan.head is not None:
        note = "\n".join(dict.fromkeys(filter(None, (training_set.licence_note, plan.head.licence_note))))
        changes["licence_note"] = note[:4000]
        if not training_set.pictures:
            changes |= {name: getattr(plan.head, name) for name in ("caption_template", "mirror", "recipe")}
    return training_set.model_copy(update=changes)


def _report(training_set: TrainingSet, plan: ImportPlan, taking: _Taking) -> ImportReport:
    notes = [*plan.notes, *taking.notes]
    if not plan.pictures:
        notes.append("there are no pictures in it")
    added = taking.pictures
    return ImportReport(
        set_name=training_set.name,
        layout=plan.layout,
        added=tuple(picture.file for picture in added),
        skipped=tuple(taking.skipped),
        captions=sum(bool(picture.caption) for picture in added),
        masks=sum(picture.mask is not None for picture in added),
        conditioning=sum(picture.conditioning is not None for picture in added),
        regularisation=sum(picture.regularisation for picture in added),
        notes=tuple(notes),
    )
