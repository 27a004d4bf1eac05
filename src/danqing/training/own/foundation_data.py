"""What models that are trained from nothing learn from: the built-in drawings, or a training set, as small squares."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from danqing.sets.folder import read_set
from danqing.sets.pictures import open_rgb
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import FoundationRequest
from danqing.training.builtin.captions import style_words
from danqing.training.builtin.dataset import Picture, is_held_out, load
from danqing.training.builtin.shards import reduce_rgba
from danqing.training.own.context import Context
from danqing.training.own.data import pictures_of
from danqing.training.own.seeds import rng_of

DEFAULT_SUBJECT = "face, -line, -face-costume"
"""Faces of all emoji styles in colour: one kind of thing, simple, and several hundred drawings of it."""
EVERYTHING = "all"
DATA_VARIABLE = "DANQING_BUILTIN_DATA"
DATA_FOLDER = "builtin"
SOURCE_PX = 128
LEAST = 16
HOLD_OUT_FROM, HOLD_OUT_EACH = 40, 10
_DRAWINGS_NOTE = (
    "Emoji drawings of Fluent Emoji (MIT), Noto Emoji (Apache-2.0), Twemoji, EmojiOne 2 and Streamline (CC-BY-4.0) and "
    "others; packages, versions and attributions are in the datasheet beside the data and in NOTICE."
)


@dataclass(frozen=True)
class FoundationData:
    """Pictures to learn from, and others to measure with.

    Attributes:
        shown: uint8 `[n, s, s, 3]`.
        held_out: Never trained on; `[m, s, s, 3]`, `m` may be 0.
        mirror: Whether pictures are also shown mirrored.
        what: They are, in words.
        licence_note: Of the pictures.
    """

    shown: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    mirror: bool
    what: str
    licence_note: str = ""

    def digest(self) -> str:
        """Of all pixels that are trained on."""
        return hashlib.sha256(np.ascontiguousarray(self.shown).tobytes()).hexdigest()

    def batch(self, seed: int, number: int, size: int) -> Tensor:
        """Pictures of one step, each epoch in an order of its own: float32 `[size, 3, s, s]` in [-1, 1]."""
        count = len(self.shown)
        first = number * size
        places = np.arange(first, first + size)
        orders = {int(e): rng_of(seed, "order", int(e)).permutation(count) for e in np.unique(places // count)}
        rows = np.array([orders[int(place // count)][place % count] for place in places])
        pixels = self.shown[rows]
        if self.mirror:
            flipped = rng_of(seed, "mirror", number).random(size) < 0.5
            pixels = np.where(flipped[:, None, None, None], pixels[:, :, ::-1], pixels)
        return to_scale(pixels)


def to_scale(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 `[n, s, s, 3]` → float32 `[n, 3, s, s]` in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 127.5 - 1.0


def to_pixels(x: Tensor) -> NDArray[np.uint8]:
    """`[n, 3, s, s]` in [-1, 1] → uint8 `[n, s, s, 3]`."""
    levels = ((x.detach().float().cpu().clamp(-1, 1) + 1.0) * 127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def open_data(request: FoundationRequest, context: Context) -> FoundationData:
    """The Request's pictures at its size.

    Raises:
        NotFoundError: The built-in drawings were not made yet, or there is no such set.
        InvalidRequestError: Nothing, or too little, is left to learn from.
    """
    found = _of_set(request, context) if request.dataset is not None else _of_drawings(request, context)
    if len(found.shown) < LEAST:
        raise InvalidRequestError(
            "too few pictures to learn from",
            field="subject" if request.dataset is None else "dataset",
            value=f"{len(found.shown)} of {request.subject or request.dataset or DEFAULT_SUBJECT}",
            allowed=f"at least {LEAST}; hundreds give better pictures",
            next_step="name a wider subject, for example face, animal or all, or import more pictures",
        )
    return found


def builtin_folder(context: Context) -> Path:
    """Where the built-in drawings lie: `training/builtin` of the data folder, or as the environment says."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else context.sets_dir.parent / DATA_FOLDER


def _of_drawings(request: FoundationRequest, context: Context) -> FoundationData:
    dataset = load(builtin_folder(context), SOURCE_PX)
    subject = request.subject.strip() or DEFAULT_SUBJECT
    chosen = choose(dataset.pictures, subject)

    def drawn(pictures: list[Picture]) -> NDArray[np.uint8]:
        small = [on_white(reduce_rgba(np.asarray(dataset.rgba[one.row]), request.size_px)) for one in pictures]
        return np.stack(small) if small else np.zeros((0, request.size_px, request.size_px, 3), np.uint8)

    shown = drawn([one for one in chosen if not is_held_out(one.concept.hexcode)])
    held_out = drawn([one for one in chosen if is_held_out(one.concept.hexcode)])
    what = f"{len(shown)} built-in drawings ({subject}), also mirrored; {len(held_out)} of other subjects held out"
    return FoundationData(shown, held_out, True, what, _DRAWINGS_NOTE)


def choose(pictures: tuple[Picture, ...], subject: str) -> list[Picture]:
    """The drawings that a subject names.

    Terms stand between commas. Groups (`face-smiling`, or `face` for all whose names begin so) and English labels add
    up; styles narrow that down; a term behind `-` leaves its drawings out; `all` stands for everything.

    Raises:
        InvalidRequestError: A term names nothing.
    """
    terms = [term.strip().lower() for term in subject.split(",") if term.strip()]
    styles, subjects, unwanted = set[str](), set[str](), set[str]()
    known = {name for one in pictures for name in _names(one) | _styles(one)}
    every_style = {name for one in pictures for name in _styles(one)}
    for term in terms:
        plain = term.removeprefix("-").strip()
        if plain not in known and plain != EVERYTHING:
            groups = sorted({one.concept.subgroup.split("-")[0] for one in pictures})
            raise InvalidRequestError(
                "no built-in drawing has this group, style or label",
                field="subject",
                value=plain,
                allowed=f"groups {', '.join(groups)}; styles {', '.join(sorted({p.style for p in pictures}))}; labels",
            )
        if term.startswith("-"):
            unwanted.add(plain)
        elif plain in every_style:
            styles.add(plain)
        elif plain != EVERYTHING:
            subjects.add(plain)
    return [
        one
        for one in pictures
        if (not subjects or _names(one) & subjects)
        and (not styles or _styles(one) & styles)
        and not (_names(one) | _styles(one)) & unwanted
    ]


def _names(picture: Picture) -> set[str]:
    group = picture.concept.subgroup
    return {group, group.split("-")[0], picture.concept.words["en"][0].lower()}


def _styles(picture: Picture) -> set[str]:
    return {picture.style, style_words(picture.style, "en")[0].lower()}


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA `[h, w, 4]`, straight alpha, over white: `[h, w, 3]`."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    return np.rint(rgba[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)


def _of_set(request: FoundationRequest, context: Context) -> FoundationData:
    folder = context.sets_dir / str(request.dataset)
    made = read_set(folder)
    pictures = pictures_of(made)
    pixels = [_square(open_rgb(folder, one), request.size_px) for one in pictures]
    empty = np.zeros((0, request.size_px, request.size_px, 3), np.uint8)
    held = set(range(HOLD_OUT_EACH // 2, len(pixels), HOLD_OUT_EACH)) if len(pixels) >= HOLD_OUT_FROM else set[int]()
    # A picture with more repeats is shown that many times in an epoch.
    shown = [one for i, one in enumerate(pixels) if i not in held for _ in range(pictures[i].repeats)]
    kept = [one for i, one in enumerate(pixels) if i in held]
    what = f"{len(pixels) - len(held)} pictures of the set {made.name}, {len(held)} held out"
    return FoundationData(
        np.stack(shown) if shown else empty, np.stack(kept) if kept else empty, False, what, made.licence_note
    )


def _square(image: Image.Image, size_px: int) -> NDArray[np.uint8]:
    """The middle square at the size asked for, `[s, s, 3]`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side)).resize((size_px, size_px), Image.Resampling.LANCZOS)
    return np.asarray(cut.convert("RGB"))
