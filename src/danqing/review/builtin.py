"""The built-in reviewer: mini-CLIP asks what of the brief is missing, the pixels are measured. Works offline; no torch.

A phrase counts as missing where the picture fits the brief better *without* it: the difference of the two logits needs
no threshold for each word. Named colours are measured instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from danqing.models.backdrop import Palette, measure_palette
from danqing.review.base import BUILTIN
from danqing.review.findings import Findings
from danqing.review.photometric import Fault, find_faults
from danqing.review.phrases import Unit, base_color, colors_in, is_background, phrases_of, units_of
from danqing.review.places import subject_box, windows
from danqing.spec.geometry import BoxPx
from danqing.spec.review import Suggestion
from danqing.store.vectors import Vectors, sigmoid

MISSING = 0.75
"""Logits that a brief must gain by leaving words out for them to count as missing: real drawings mostly stay below."""
POOR = 0.33
"""Chance of the whole brief below which a picture is poor although no single word stands out."""
MOST = 4
_FULL = 3.0  # logits that make the strongest suggestion
_COLOR_SHARE = 0.12


class Eye(Protocol):
    """What is needed of mini-CLIP (`models.clip.MiniClip`)."""

    @property
    def sha256(self) -> str:
        """Which one it is."""
        ...

    def embed_images(self, pictures: Sequence[Any], /) -> Vectors:
        """Unit vectors `[n, dim]`."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> Vectors:
        """Unit vectors `[n, dim]`."""
        ...

    def logits(self, images: Vectors, texts: Vectors, /) -> Vectors:
        """Scale · cosine + bias, `[n, m]`."""
        ...


@dataclass(frozen=True)
class _Look:
    """One picture under review."""

    picture: Image.Image
    brief: str
    phrases: tuple[str, ...]
    vector: Vectors
    palette: Palette
    subject: BoxPx | None


class BuiltinReviewer:
    """Reviews with mini-CLIP and with measurements.

    Args:
        eye: mini-CLIP.
    """

    def __init__(self, eye: Eye) -> None:
        self._eye = eye

    def review(self, picture: Image.Image, brief: str) -> Findings:
        """See `base.Reviewer`."""
        phrases = phrases_of(brief)
        whole = ", ".join(phrases)
        look = _Look(
            picture, whole, phrases, self._eye.embed_images([picture]), measure_palette(picture), subject_box(picture)
        )
        found: list[Suggestion] = []
        chance = 1.0
        if phrases:
            found, chance = self._of_words(look)
        found += [_of_fault(fault, whole) for fault in find_faults(picture)]
        note = f"the brief fits the picture with a chance of {chance:.2f}" if phrases else "there are no words to check"
        kept = sorted(found, key=lambda one: -one.strength)[:MOST]
        return Findings(
            reviewer=BUILTIN,
            model=self._eye.sha256,
            suggestions=tuple(kept),
            note=note if kept else f"nothing to change; {note}",
        )

    def _of_words(self, look: _Look) -> tuple[list[Suggestion], float]:
        units = units_of(look.phrases)
        texts = self._eye.embed_texts([look.brief, *(unit.without for unit in units)])
        logits = self._eye.logits(look.vector, texts)[0]
        chance = float(sigmoid(logits[:1])[0])
        lost = {unit: float(without - logits[0]) for unit, without in zip(units, logits[1:], strict=True)}
        found = {one.prompt: one for one in _of_colors(look)}
        for phrase, (unit, gain) in _worst(lost).items():
            if gain >= MISSING and phrase not in found:
                found[phrase] = self._missing(unit, gain, look)
        if not found and chance < POOR:
            reason = f"the picture as a whole hardly shows the brief (chance {chance:.2f})"
            place = look.subject
            found[look.brief] = Suggestion(box=place, prompt=look.brief[:4000], reason=reason, strength=0.9)
        return list(found.values()), chance

    def _missing(self, unit: Unit, gain: float, look: _Look) -> Suggestion:
        said = f"“{unit.words}” is hardly to be seen: without it the brief fits better (by {gain:.1f} logits)"
        strength = float(np.clip(0.5 + 0.5 * gain / _FULL, 0.5, 1.0))
        return Suggestion(
            box=self._place(unit, look), prompt=unit.phrase[:4000], reason=said[:4000], strength=round(strength, 3)
        )

    def _place(self, unit: Unit, look: _Look) -> BoxPx | None:
        """Where the words belong; None for all of the picture."""
        if is_background(unit.phrase) or unit.phrase != look.phrases[0]:
            if look.subject is not None:
                return None  # a style or a ground is everywhere around one subject
        elif look.subject is not None:
            return look.subject
        return self._window(unit, look)

    def _window(self, unit: Unit, look: _Look) -> BoxPx | None:
        """The window most like the rest of the phrase, else the one least like everything but the words."""
        boxes = windows(look.picture)
        if len(boxes) == 1:
            return None
        seen = self._eye.embed_images([look.picture.crop(box.as_tuple()) for box in boxes])
        likeness = self._eye.logits(seen, self._eye.embed_texts([unit.rest or unit.without]))[:, 0]
        return boxes[int(likeness.argmax() if unit.rest else likeness.argmin())]


def _worst(lost: dict[Unit, float]) -> dict[str, tuple[Unit, float]]:
    """For each phrase, the words in it that are missed least, and by how much."""
    found: dict[str, tuple[Unit, float]] = {}
    for unit, gain in lost.items():
        if unit.phrase not in found or gain > found[unit.phrase][1]:
            found[unit.phrase] = (unit, gain)
    return found


def _of_colors(look: _Look) -> list[Suggestion]:
    """Colours that the brief names and that are not there, by measurement: of the ground, and of the first phrase."""
    found: list[Suggestion] = []
    ground = look.palette.background
    for place, phrase in enumerate(look.phrases):
        asked = [base_color(key) for key in colors_in(phrase)]
        if not asked:
            continue
        if is_background(phrase):
            there = {base_color(key) for key in ground.colors}
            box = None
            known = ground.kind in ("plain", "gradient")
        elif place == 0:
            there = {base_color(share.key) for share in look.palette.colors if share.share >= _COLOR_SHARE}
            box = look.subject
            known = look.subject is not None and bool(look.palette.colors)
        else:
            continue
        if known and there.isdisjoint(asked):  # of a gradient one end is enough: its middle has other names
            reason = f"{' and '.join(asked)} is asked for; measured: {', '.join(sorted(there)) or 'no colour'}"
            found.append(Suggestion(box=box, prompt=phrase[:4000], reason=reason, strength=0.8))
    return found


def _of_fault(fault: Fault, brief: str) -> Suggestion:
    reason = f"{fault.key.replace('_', ' ')}: {fault.words} ({fault.amount:.2f}, limit {fault.limit:.2f})"
    return Suggestion(
        box=fault.box,
        prompt=(brief or "the same, clean")[:4000],
        reason=reason,
        strength=round(0.6 * fault.severity, 3),
    )
