"""What finds things in a picture, under the names that people and ADetailer use; run by `pipelines/detecting`."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.registry.annotator_types import WeightsInfo
from danqing.spec.registry.annotators_carried import EXTRA, FACE_FILES, HAND_FILES, MEDIAPIPE_CARRIER, POSE_FILES
from danqing.spec.registry.lookup import match


@dataclass(frozen=True)
class DetectorInfo:
    """A way to find things.

    Attributes:
        key: Stable name in code and Plans.
        name: The label a person sees.
        finds: What it finds, in plain words.
        aliases: Other names people type, ADetailer's among them.
        outlines: Whether it knows outlines, not only boxes.
        takes_file: Whether a file of models/adetailer does the work.
        takes_words: Whether it looks for words.
        weights: What must be installed first; None for what every installation has.
    """

    key: str
    name: str
    finds: str
    aliases: tuple[str, ...] = ()
    outlines: bool = False
    takes_file: bool = False
    takes_words: bool = False
    weights: WeightsInfo | None = None


def _mediapipe(*files: str) -> WeightsInfo:
    source = "the Python package mediapipe 0.10.14 (Apache-2.0)"
    return WeightsInfo("ai-edge-litert", "ai_edge_litert", files, source, MEDIAPIPE_CARRIER, EXTRA)


DETECTORS: tuple[DetectorInfo, ...] = (
    DetectorInfo(
        "mediapipe_face",
        "Faces",
        "faces of people, by MediaPipe's networks",
        ("face", "faces", "mediapipe_face_full", "mediapipe_face_short", "mediapipe_face_mesh"),
        outlines=True,
        weights=_mediapipe(*FACE_FILES),
    ),
    DetectorInfo(
        "mediapipe_eyes",
        "Eyes",
        "the eyes of people, by MediaPipe's networks",
        ("eyes", "eye", "mediapipe_face_mesh_eyes_only"),
        outlines=True,
        weights=_mediapipe(*FACE_FILES),
    ),
    DetectorInfo(
        "mediapipe_hand",
        "Hands",
        "hands of people, by MediaPipe's networks",
        ("hand", "hands"),
        outlines=True,
        weights=_mediapipe(*HAND_FILES),
    ),
    DetectorInfo(
        "mediapipe_person",
        "People",
        "whole people, by MediaPipe's networks",
        ("person", "people", "body"),
        weights=_mediapipe(*POSE_FILES),
    ),
    DetectorInfo(
        "subject",
        "The subject",
        "what stands before a plain background, each thing for itself; needs no weights",
        ("foreground",),
        outlines=True,
    ),
    DetectorInfo(
        "words",
        "Any words",
        "what the words say, among the things and parts of the picture, by the built-in mini-CLIP",
        outlines=True,
        takes_words=True,
    ),
    DetectorInfo(
        "yolo",
        "YOLO file",
        "what a YOLO network in models/adetailer (.onnx) was trained to find",
        outlines=True,
        takes_file=True,
    ),
)


def match_detector(name: str) -> DetectorInfo | None:
    """The detector with this key, label or alias, whatever the case; None if there is none.

    >>> match_detector("word") is None
    True
    """
    return match(DETECTORS, name)
