"""Before/after pairs to learn from: a folder of `danqing refine --export`, or a training set of kind `pairs`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from danqing.sets.buckets import Bucket, place
from danqing.sets.folder import SET_FILE, conditioning_path, picture_path, read_set
from danqing.sets.lists import PAIRS_FILE
from danqing.sets.names import is_plain_name
from danqing.sets.pictures import flat_rgb, open_file
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.training.own.seeds import seed_of


@dataclass(frozen=True)
class Pair:
    """A picture before and after a revision that the judge accepted.

    Attributes:
        brief: What both show.
        before, after: In RGB, of one size, which the model can be trained at.
        seed: From which the model paints its own picture of the brief.
    """

    brief: str
    before: Image.Image
    after: Image.Image
    seed: int


@dataclass(frozen=True)
class _Files:
    brief: str
    before: Path
    after: Path
    seed: int


def read_pairs(named: str, sets_dir: Path, sizes: Sequence[Bucket]) -> list[Pair]:
    """The pairs of a folder or of a training set, at sizes that the model can be trained at.

    Args:
        named: A folder with `pairs.jsonl`, or the name of a set.
        sets_dir: Where sets lie.
        sizes: Each pair takes the one where it loses least.

    Raises:
        NotFoundError: There is neither.
        InvalidRequestError: There is no pair in it.
        BadFileError: A list or a picture is damaged or missing.
    """
    folder = Path(named)
    if is_plain_name(named) and (sets_dir / named / SET_FILE).is_file():
        found = _of_set(sets_dir / named)
    elif named and (folder / PAIRS_FILE).is_file():
        found = _of_folder(folder)
    else:
        raise NotFoundError(
            "there are no pairs here",
            field="pairs",
            value=named,
            allowed="a folder made by `danqing refine --export`, or the name of a training set of kind pairs",
            next_step="refine pictures with --export FOLDER first",
        )
    if not found:
        raise InvalidRequestError(
            "no pair was accepted yet",
            field="pairs",
            value=named,
            allowed="at least one pair with a brief",
            next_step="refine more pictures with --export FOLDER",
        )
    return [_opened(one, sizes) for one in found]


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """sha256 over all that is learnt from."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.brief, pair.seed, pair.before.size]).encode())
        digest.update(pair.before.tobytes() + pair.after.tobytes())
    return digest.hexdigest()


def _of_folder(folder: Path) -> list[_Files]:
    path = folder / PAIRS_FILE
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [_row(row, folder, number) for number, row in enumerate(rows)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(
            "this is no list of pairs", field="pairs", value=str(path), next_step="export the pairs again"
        ) from error


def _row(row: dict[str, Any], folder: Path, number: int) -> _Files:
    """A line of the list.

    Raises:
        ValueError: A name in it leads out of the folder.
    """
    before, after = (folder / str(row[key]) for key in ("before", "after"))
    if not all(path.resolve().is_relative_to(folder.resolve()) for path in (before, after)):
        raise ValueError(before, after)
    request = row.get("before_request")
    seed = cast("dict[str, Any]", request).get("seed") if isinstance(request, dict) else None
    return _Files(str(row["brief"]), before, after, seed if isinstance(seed, int) else seed_of(0, "pair", number))


def _of_set(folder: Path) -> list[_Files]:
    """The pictures of a set that bring the one before; it stands where a control map would."""
    found: list[_Files] = []
    for number, picture in enumerate(read_set(folder).pictures):
        before = conditioning_path(folder, picture)
        if before is not None and picture.repeats:
            seed = seed_of(0, "pair", number)
            found.append(_Files(picture.caption, before, picture_path(folder, picture), seed))
    return found


def _opened(files: _Files, sizes: Sequence[Bucket]) -> Pair:
    """Both pictures, the same part of each."""
    before, after = (flat_rgb(open_file(path)) for path in (files.before, files.after))
    if after.size != before.size:
        after = after.resize(before.size, Image.Resampling.LANCZOS)
    placed = place(*before.size, sizes)
    box, size = placed.box.as_tuple(), (placed.bucket.width_px, placed.bucket.height_px)
    cut = [image.resize(size, Image.Resampling.LANCZOS, box=box) for image in (before, after)]
    return Pair(files.brief, cut[0], cut[1], files.seed)
