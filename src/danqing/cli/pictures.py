"""Where finished pictures are written, and how a Record is told in one row."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.spec.errors import InvalidRequestError
from danqing.spec.record import Record
from danqing.studio.service import Studio

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
_NOT_IN_NAMES = re.compile(r"[^\w]+", re.UNICODE)


@dataclass(frozen=True)
class Target:
    """Where pictures go.

    Attributes:
        folder: An existing folder that can be written to.
        file: The file's name, if one was asked for.
        format: png, jpeg or webp, if the person said so.
    """

    folder: Path
    file: str | None = None
    format: str | None = None


def plan_target(out: str | None, output_format: str | None) -> Target:
    """Check where the pictures are to go, before anything is painted.

    Args:
        out: What was given to `-o`: a file with a picture's suffix, else a folder; None is the current folder.
        output_format: What was given to `--format`.

    Raises:
        InvalidRequestError: The place cannot be written to, or suffix and format disagree.
    """
    if out is None:
        return Target(_writable(Path.cwd(), out), None, output_format)
    path = Path(out).expanduser()
    suffix_format = FORMATS.get(path.suffix.lower())
    if suffix_format is None or path.is_dir():
        return Target(_writable(path, out), None, output_format)
    wanted = {"jpg": "jpeg"}.get(output_format or "", output_format)
    if wanted not in {None, suffix_format}:
        raise InvalidRequestError(
            "the file's suffix and --format disagree",
            field="--format",
            value=output_format,
            allowed=suffix_format,
            next_step="leave --format out, or change the suffix",
        )
    return Target(_writable(path.parent, out), path.name, suffix_format)


def _writable(folder: Path, out: str | None) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InvalidRequestError(
            f"nothing can be written to this folder: {error.strerror}",
            field="--out",
            value=out or str(folder),
            allowed="a file or folder in a place you may write to",
            next_step="choose another place with -o",
        ) from error


def save_pictures(studio: Studio, records: list[Record], target: Target) -> list[dict[str, Any]]:
    """Write the pictures of Records; each row says where."""
    rows: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        path = target.folder / _name(record, number, len(records), target)
        if target.file is None:
            path = _unused(path)
        write_atomically(path, studio.picture_bytes(record.picture))
        rows.append(
            {
                "index": record.index,
                "record": record.id,
                "path": str(path),
                "seed": record.plan.seeds.seed,
                "width_px": record.width_px,
                "height_px": record.height_px,
                "media_type": record.media_type,
                "sha256": record.picture,
            }
        )
    return rows


def _name(record: Record, number: int, count: int, target: Target) -> str:
    suffix = SUFFIXES.get(record.media_type, ".png")
    if target.file is None:
        words = _NOT_IN_NAMES.sub("-", record.plan.base.text.prompt).strip("-")[:40].strip("-").lower()
        return f"{words or 'picture'}-{record.plan.seeds.seed}{suffix}"
    if count == 1:
        return target.file
    file = Path(target.file)
    return f"{file.stem}-{number}{file.suffix}"


def _unused(path: Path) -> Path:
    """This path, or the first numbered one that does not exist: a folder's pictures are never overwritten."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".danqing-", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def record_row(record: Record) -> dict[str, Any]:
    """A Record's main facts, with stable keys."""
    base = record.plan.base
    return {
        "id": record.id,
        "created_at": record.created_at.isoformat(),
        "kind": record.plan.kind,
        "prompt": base.text.prompt,
        "negative_prompt": base.text.negative_prompt,
        "model": base.model.name,
        "seed": record.plan.seeds.seed,
        "sampler": base.sampling.sampler,
        "schedule": base.sampling.schedule,
        "steps": base.sampling.steps,
        "guidance_scale": base.guidance_scale,
        "width_px": record.width_px,
        "height_px": record.height_px,
        "media_type": record.media_type,
        "sha256": record.picture,
        "parent": record.parent,
        "seconds": record.timings.total_s,
        "deleted_at": None if record.deleted_at is None else record.deleted_at.isoformat(),
    }
