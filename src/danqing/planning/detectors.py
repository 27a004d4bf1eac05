"""Which detector a name means: one of the registry, a file, or words to look for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from danqing.spec.enhancer import EnhancerFile, EnhancerKind
from danqing.spec.errors import InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.model import ModelRef
from danqing.spec.registry.detectors import DETECTORS, DetectorInfo, match_detector

WORDS_MARK = "word:"
_FILE_LIKE = re.compile(r"\.(pt|pth|onnx|safetensors)$|yolo", re.IGNORECASE)


class DetectorFinder(Protocol):
    """What this needs of the catalogue."""

    def enhancers(self, kind: EnhancerKind) -> Sequence[EnhancerFile]:
        """Every detector file."""
        ...

    def find_enhancer(self, name: str, kind: EnhancerKind) -> EnhancerFile | None:
        """The one with this name, or None."""
        ...


@dataclass(frozen=True)
class Chosen:
    """A detector, the file that it needs, and the words that it looks for."""

    info: DetectorInfo
    file: ModelRef | None = None
    words: str = ""


def chosen_detector(name: str, catalog: DetectorFinder, where: str) -> Chosen:
    """What a name means: `word:…` always words; else a file of this name, a detector, or words.

    Args:
        name: As typed.
        catalog: Where files are found.
        where: The field, for messages.

    Raises:
        NotFoundError: It looks like the name of a file, and there is none.
        UnsupportedError: The file is a pickled program.
        InvalidRequestError: There are no words behind `word:`.
    """
    wanted = name.strip()
    if wanted.lower().startswith(WORDS_MARK):
        return _words(wanted[len(WORDS_MARK) :], where)
    file = catalog.find_enhancer(wanted, "detector")
    if file is not None:
        if not file.path.lower().endswith(".onnx"):
            raise UnsupportedError(
                f"{file.name} is a pickled program of ultralytics, which would have to be run to be read",
                field=where,
                value=file.path,
                allowed="the same network as .onnx",
                next_step=f"where you trust the file, run `yolo export model={file.name}.pt format=onnx` once and put "
                "the .onnx beside it; or detect face, hand, person or any words",
            )
        return Chosen(_info("yolo"), file.ref)
    info = match_detector(wanted)
    if info is not None and not info.takes_file and not info.takes_words:
        return Chosen(info)
    if _FILE_LIKE.search(wanted):
        there = [one.name for one in catalog.enhancers("detector")]
        raise NotFoundError(
            "there is no such detector file",
            field=where,
            value=name,
            allowed=", ".join([*there, *(one.key for one in DETECTORS if not one.takes_file and not one.takes_words)]),
            next_step="put the file (.onnx) into models/adetailer, or detect face, hand, person or any words",
        )
    return _words(wanted, where)


def _words(text: str, where: str) -> Chosen:
    words = text.strip()
    if not words:
        raise InvalidRequestError(
            "there is nothing to look for",
            field=where,
            value=text,
            allowed="words, such as `apple`",
            next_step="say what shall be found",
        )
    return Chosen(_info("words"), words=words)


def _info(key: str) -> DetectorInfo:
    return next(info for info in DETECTORS if info.key == key)
