"""Where in a picture is what the words say? Parts of it are compared with the words by mini-CLIP.

Before a plain background the parts are the things that stand there; elsewhere they are windows of four sizes. A part's
score is how far the words (or a concept of mini-CLIP's vocabulary that they name) stand before every other concept of
the vocabulary: mini-CLIP knows drawings of single things, so it can say which of two things a part shows, not what is
where inside a thing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from danqing.enhance.cutout import is_plain, plain_alpha, segments
from danqing.enhance.detailer import Bytes, Floats, Thing, without_doubles
from danqing.models import clip
from danqing.models.clip import MiniClip
from danqing.models.vocabulary import LOCALES, Concept, load_vocabulary
from danqing.spec.errors import InvalidRequestError

WINDOW_SHARES = (1.0, 0.7, 0.5, 0.35)
"""Sides of windows, of the picture's shorter side."""
_STEP = 0.4
_MARGINS = (0.04, 0.15)
"""A thing is looked at with so much of its own side around it."""
_LEAST_CHANCE = 0.02
"""Below this chance that a part and the words belong together, being ahead of other words says little."""
_SAME_WINDOW = 0.2


@dataclass(frozen=True)
class Known:
    """mini-CLIP with the vectors of its vocabulary.

    Attributes:
        clip: The towers.
        concepts: The vocabulary.
        vectors: Of the concepts' English labels, [n, dim].
    """

    clip: MiniClip
    concepts: tuple[Concept, ...]
    vectors: Floats


def load_known(device: torch.device) -> Known:
    """mini-CLIP, loaded; takes about two seconds.

    Raises:
        MissingWeightsError: It is not installed.
        BadFileError: Its files are damaged.
    """
    tower = clip.load(device=device)
    concepts = load_vocabulary(tower.files.vocabulary)
    return Known(tower, concepts, tower.embed_texts([concept.label("en") for concept in concepts]))


def find_words(rgb: Bytes, words: str, known: Known) -> list[Thing]:
    """The parts of a picture that show what the words say, surest first; their scores are from 0 to 1.

    Args:
        rgb: uint8 [h, w, 3].
        words: In English, or a word of the vocabulary in Chinese.
        known: mini-CLIP and its vocabulary.
    """
    parts = things_before_plain(rgb) or windows(*rgb.shape[:2])
    picture = Image.fromarray(rgb)
    vectors = np.stack([_seen(picture, thing, known.clip) for thing in parts])
    scores = chances(vectors, words, known)
    found = [Thing(float(score), thing.box, thing.mask, words) for score, thing in zip(scores, parts, strict=True)]
    return without_doubles(found, _SAME_WINDOW)


def things_before_plain(rgb: Bytes) -> list[Thing]:
    """The things that stand before a plain background, largest first; none where it is not plain."""
    if not is_plain(rgb):
        return []
    found: list[Thing] = []
    for mask in segments(plain_alpha(rgb)):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        found.append(Thing(1.0, box, mask))
    return found


def windows(height_px: int, width_px: int) -> list[Thing]:
    """Square windows of several sizes, evenly over a picture."""
    short = min(height_px, width_px)
    found: list[Thing] = []
    for share in WINDOW_SHARES:
        side = max(8, round(short * share))
        tops, lefts = (_places(length, min(side, length)) for length in (height_px, width_px))
        found += [Thing(0.0, (x, y, x + min(side, width_px), y + min(side, height_px))) for y in tops for x in lefts]
    return found


def _places(length: int, side: int) -> list[float]:
    count = int(np.ceil((length - side) / (side * _STEP))) + 1
    return [float(round(place)) for place in np.linspace(0, length - side, count)]


def chances(vectors: Floats, words: str, known: Known) -> Floats:
    """How likely each part shows what the words say rather than anything else of the vocabulary, [n], 0 to 1.

    Args:
        vectors: Of the parts [n, dim].
        words: What is looked for.
        known: mini-CLIP and its vocabulary.
    """
    head = plain_words(words)
    about = related(head, known.concepts)
    named = naming(head, known.concepts) or about
    labels = [head, *(known.concepts[place].label("en") for place in named)]
    wanted = known.clip.logits(vectors, known.clip.embed_texts(labels)).max(axis=1)
    others = np.array([place for place in range(len(known.concepts)) if place not in about and place not in named])
    rivals = known.clip.logits(vectors, known.vectors[others]).max(axis=1)
    ahead = 1 / (1 + np.exp((rivals - wanted).clip(-60, 60)))
    sure = 1 / (1 + np.exp(-wanted.clip(-60, 60)))
    return np.asarray(ahead * np.minimum(1.0, sure / _LEAST_CHANCE), np.float32)


def plain_words(words: str) -> str:
    """What is looked for, without weights, networks and what stands behind a comma.

    Raises:
        InvalidRequestError: Nothing is left.

    >>> plain_words("(red apple:1.2), 3d")
    'red apple'
    """
    text = re.sub(r"<[^>]*>|[()\[\]{}]|:[\d.]+", "", words)
    head = next((part.strip() for part in re.split(r"[,，、]", text) if part.strip()), "")
    if not head:
        raise InvalidRequestError(
            "there is nothing to look for", field="detect", value=words, allowed="words, such as `apple`"
        )
    return head


def naming(words: str, concepts: Sequence[Concept]) -> set[int]:
    """The concepts whose label holds the words."""
    return {
        place
        for place, concept in enumerate(concepts)
        if _holds(concept.label("en"), words)
        or (not words.isascii() and any(words in concept.label(one) for one in LOCALES))
    }


def related(words: str, concepts: Sequence[Concept]) -> set[int]:
    """The concepts that have the words among their tags: no rivals, and what is looked for where no label names it."""
    wanted = words.casefold()
    return {
        place
        for place, concept in enumerate(concepts)
        if any(wanted == tag.casefold() for one in LOCALES for tag in concept.words[one])
    }


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def _seen(picture: Image.Image, thing: Thing, tower: MiniClip) -> Floats:
    """The vector of a part [dim]; a thing with an outline is looked at alone, before the background, twice."""
    left, top, right, bottom = thing.box
    if thing.mask is None:
        return tower.embed_images([picture.crop((int(left), int(top), int(right), int(bottom)))])[0]
    ground = Image.new("RGB", picture.size, _border_colour(np.asarray(picture)))
    near = Image.fromarray(thing.mask).convert("L")
    alone = Image.composite(picture, ground, near)
    looks: list[Image.Image] = []
    for margin in _MARGINS:
        by = margin * max(right - left, bottom - top)
        view = Image.new("RGB", (round(right - left + 2 * by), round(bottom - top + 2 * by)), ground.getpixel((0, 0)))
        view.paste(alone.crop((int(left), int(top), int(right), int(bottom))), (round(by), round(by)))
        looks.append(view)
    mean = tower.embed_images(looks).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def _border_colour(rgb: Bytes) -> tuple[int, int, int]:
    edges = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    red, green, blue = (int(value) for value in np.median(edges, axis=0))
    return red, green, blue
