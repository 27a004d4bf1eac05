"""Accepted before/after pairs as a training set: a folder of PNG files and one JSON line for each pair. No torch.

The same as a ZIP for the page: its one folder is what `export_pairs` writes.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from danqing.spec.errors import BadFileError, DanqingError, NotFoundError
from danqing.spec.record import Record
from danqing.spec.refine import Refinement, RefineRound
from danqing.studio.piping import Pipe
from danqing.studio.reproduction import request_of_plan

FILE = "pairs.jsonl"
PICTURES = "pictures"


class Shelf(Protocol):
    """What exporting needs of a Studio."""

    def record(self, record_id: str) -> Record:
        """A Record."""
        ...

    def picture_bytes(self, sha256: str) -> bytes:
        """A picture."""
        ...


def export_pairs(refinements: Sequence[Refinement], folder: Path, studio: Shelf) -> int:
    """Add the accepted rounds to a folder; gives how many are new. A pair that is there already is left as it is.

    Layout: `pictures/<record id>.png` and `pairs.jsonl`, a line with brief, both file names, the Requests of both, the
    suggestion, the way it was carried out, both scores and the judge.

    Raises:
        DanqingError: The folder cannot be written.
        NotFoundError: A version was purged meanwhile.
    """
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        known = _known(folder / FILE)
        lines: list[str] = []
        for refinement in refinements:
            for done in refinement.rounds:
                if done.accepted and done.after is not None and (done.before, done.after) not in known:
                    lines.append(json.dumps(_pair(refinement, done, folder, studio), ensure_ascii=False))
                    known.add((done.before, done.after))
        if lines:
            with (folder / FILE).open("a", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise DanqingError(
            f"the pairs cannot be written: {error.strerror or error}",
            field="--export",
            value=str(folder),
            next_step="choose a folder that can be written",
        ) from error
    return len(lines)


def zip_pairs(refinements: Sequence[Refinement], root: str, studio: Shelf) -> Iterator[bytes]:
    """The same as a ZIP with one folder, made while it is read. Pairs whose pictures were purged are left out."""
    pipe = Pipe()
    lines: list[str] = []
    there: set[str] = set()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[arg-type]
        for refinement in refinements:
            for done in refinement.rounds:
                if not done.accepted or done.after is None:
                    continue
                try:
                    records = studio.record(done.before), studio.record(done.after)
                    pictures = {one.id: _png(one, studio) for one in records if one.id not in there}
                    line = json.dumps(_row(refinement, done, *records), ensure_ascii=False)
                except (NotFoundError, BadFileError):
                    continue
                for record_id, data in pictures.items():
                    archive.writestr(f"{root}/{_name(record_id)}", data, zipfile.ZIP_STORED)
                    yield from pipe.take()
                there |= pictures.keys()
                lines.append(line)
        text = "".join(line + "\n" for line in dict.fromkeys(lines))
        archive.writestr(f"{root}/{FILE}", text.encode("utf-8", "replace"), zipfile.ZIP_DEFLATED)
        yield from pipe.take()
    yield from pipe.take()


def _pair(refinement: Refinement, done: RefineRound, folder: Path, studio: Shelf) -> dict[str, Any]:
    before, after = studio.record(done.before), studio.record(done.after or "")
    for record in (before, after):
        _write(record, folder, studio)
    return _row(refinement, done, before, after)


def _row(refinement: Refinement, done: RefineRound, before: Record, after: Record) -> dict[str, Any]:
    return {
        "brief": refinement.brief,
        "before": _name(before.id),
        "after": _name(after.id),
        "before_record": before.id,
        "after_record": after.id,
        "before_request": _request(before),
        "after_request": _request(after),
        "suggestion": done.suggestion.model_dump(mode="json", exclude_defaults=True),
        "way": done.way,
        "reviewer": refinement.reviewer,
        "scores_before": done.scores_before.model_dump(mode="json"),
        "scores_after": None if done.scores_after is None else done.scores_after.model_dump(mode="json"),
    }


def _request(record: Record) -> dict[str, Any]:
    request = request_of_plan(record.plan)
    return {"kind": request.kind, **request.model_dump(mode="json", exclude_defaults=True)}


def _name(record_id: str) -> str:
    """Of a Record's picture in the set."""
    return f"{PICTURES}/{record_id}.png"


def _png(record: Record, studio: Shelf) -> bytes:
    """The Record's picture. The metadata stays out: a training set needs no second copy of the Request."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(studio.picture_bytes(record.picture))) as image:
        image.convert("RGBA" if image.has_transparency_data else "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _write(record: Record, folder: Path, studio: Shelf) -> None:
    """Write the Record's picture if it is not there."""
    path = folder / _name(record.id)
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(_png(record, studio))
        temporary.replace(path)


def _known(path: Path) -> set[tuple[str, str]]:
    """The pairs of an earlier export.

    Raises:
        BadFileError: The file is something else.
    """
    if not path.exists():
        return set()
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {(str(row["before_record"]), str(row["after_record"])) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError(
            "this is no list of pairs", field="--export", value=str(path), next_step="choose another folder"
        ) from error
