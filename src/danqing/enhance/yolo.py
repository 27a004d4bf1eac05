"""YOLO networks as ultralytics exports them to ONNX (versions 5 to 11, boxes or segments), run by onnxruntime.

The form of the answer is told from its shape: `[1, 4 + classes (+ 32), n]` (versions 8 and later), `[1, n, 5 +
classes]` (version 5), `[1, n, 6]` (exported with its own suppression). Names of classes stand in the file's metadata as
a Python literal, which is parsed, never run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from danqing.enhance.detailer import Bytes, Floats, Thing, without_doubles
from danqing.models.onnx_files import open_onnx
from danqing.spec.errors import BadFileError

GREY = 114
"""What ultralytics fills the sides of a letterbox with."""
DEFAULT_SIDE_PX = 640
MASK_PARTS = 32
END_TO_END = 6
"""Width of an answer whose doubles are gone already: box, score, class."""
_ALLOWED = "a YOLO detector or segmenter as ultralytics exports it (format=onnx)"
_NEXT = "export or copy the file again, or detect face, hand, person or any words"


@dataclass(frozen=True)
class Letterbox:
    """How a picture was put into the network's square: scaled, then moved.

    Attributes:
        scale: Network pixels per picture pixel.
        left_px: Where the picture begins, in network pixels.
        top_px: As above.
    """

    scale: float
    left_px: float
    top_px: float

    def back(self, boxes: Floats) -> Floats:
        """Boxes `[n, 4]` (x, y, x, y) in pixels of the picture."""
        return np.asarray((boxes - [self.left_px, self.top_px] * 2) / self.scale, np.float32)


class Yolo:
    """A loaded network.

    Args:
        path: An `.onnx` file.

    Raises:
        BadFileError: It is damaged or no detector.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session: Any = open_onnx(
            path, what=f"the detector {path.name}", field="detect", allowed=_ALLOWED, next_step=_NEXT
        )
        given = self._session.get_inputs()[0]
        sides = [side for side in list(given.shape)[2:] if isinstance(side, int) and side > 0]
        self._name, self.side_px = str(given.name), max(sides, default=DEFAULT_SIDE_PX)
        self.names = _names(self._session.get_modelmeta().custom_metadata_map.get("names", ""))

    def find(self, rgb: Bytes, least_score: float) -> list[Thing]:
        """The things in a picture, surest first.

        Args:
            rgb: uint8 [h, w, 3].
            least_score: 0 to 1.

        Raises:
            BadFileError: The network cannot run, or answers in no form that a YOLO has.
        """
        view, frame = _letterboxed(rgb, self.side_px)
        try:
            answers = [np.asarray(one, np.float32) for one in self._session.run(None, {self._name: view})]
        except Exception as error:
            raise self._bad(str(error)) from error
        rows = [one for one in answers if one.ndim == 3 and one.shape[0] == 1]
        if not rows:
            raise self._bad(f"it answers {[list(one.shape) for one in answers]}")
        parts = next((one[0] for one in answers if one.ndim == 4 and one.shape[1] == MASK_PARTS), None)
        boxes, scores, classes, weights = self._read(rows[0][0], parts is not None)
        sure = scores >= max(least_score, 1e-3)
        boxes, scores, classes, weights = boxes[sure], scores[sure], classes[sure], weights[sure]
        order = np.argsort(-scores, kind="stable")[:300]
        found = [
            Thing(float(scores[i]), tuple(frame.back(boxes[i][None])[0].tolist()), None, self._label(int(classes[i])))
            for i in order
        ]
        place = {id(thing): int(i) for thing, i in zip(found, order, strict=True)}
        kept = without_doubles(found)
        if parts is None:
            return kept
        return [
            Thing(
                one.score,
                one.box,
                _outline(weights[place[id(one)]], parts, one, (rgb.shape, frame, self.side_px)),
                one.label,
            )
            for one in kept
        ]

    def _label(self, index: int) -> str:
        return self.names.get(index, str(index))

    def _read(self, rows: Floats, masked: bool) -> tuple[Floats, Floats, Floats, Floats]:
        """Corners [n, 4] in network pixels, scores [n], classes [n], weights of masks [n, 32 or 0]."""
        extra = MASK_PARTS if masked else 0
        if rows.shape[1] == END_TO_END + extra and rows.shape[0] != END_TO_END + extra:
            return rows[:, :4], rows[:, 4], rows[:, 5], rows[:, 6:]
        # Of the two axes the one of the answers is by far the longer.
        turned = rows.T if rows.shape[0] < rows.shape[1] else rows
        width = turned.shape[1] - extra
        if width < 5:
            raise self._bad(f"it answers rows of {turned.shape[1]}")
        weights = turned[:, width:]
        middle, size = turned[:, :2], turned[:, 2:4]
        corners = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
        if turned is rows:  # version 5: objectness stands before the classes
            chances = turned[:, 5:width] * turned[:, 4:5] if width > 5 else turned[:, 4:5]
        else:
            chances = turned[:, 4:width]
        return corners, chances.max(axis=1), chances.argmax(axis=1).astype(np.float32), weights

    def _bad(self, why: str) -> BadFileError:
        return BadFileError(
            f"the detector {self.path.name} cannot be used: {why[:200]}",
            field="detect",
            value=str(self.path),
            allowed=_ALLOWED,
            next_step=_NEXT,
        )


def _names(text: str) -> dict[int, str]:
    """Class numbers to names, as ultralytics writes them: `{0: 'face'}`; empty where that cannot be read."""
    try:
        found: Any = ast.literal_eval(text) if text else {}
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    if isinstance(found, list):
        found = dict(enumerate(found))
    return (
        {int(key): str(name) for key, name in found.items() if str(key).isdecimal()} if isinstance(found, dict) else {}
    )


def _letterboxed(rgb: Bytes, side_px: int) -> tuple[Floats, Letterbox]:
    height, width = rgb.shape[:2]
    scale = side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (side_px - size[0]) // 2, (side_px - size[1]) // 2
    view = np.full((side_px, side_px, 3), GREY, np.uint8)
    view[top : top + size[1], left : left + size[0]] = small
    planes = np.ascontiguousarray(view.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    return planes, Letterbox(scale, left, top)


def _outline(weights: Floats, parts: Floats, thing: Thing, view: tuple[tuple[int, ...], Letterbox, int]) -> Bytes:
    """A segment: a mix of the network's masks, inside the thing's box, uint8 [h, w] of the picture."""
    (height, width, *_), frame, side_px = view
    small = np.tensordot(weights, parts, 1)
    whole = cv2.resize(np.asarray(small, np.float32), (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    left, top = round(frame.left_px), round(frame.top_px)
    inner = whole[top : top + max(1, round(height * frame.scale)), left : left + max(1, round(width * frame.scale))]
    full = np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR))
    mask = np.zeros((height, width), np.uint8)
    box = [round(min(max(edge, 0), most)) for edge, most in zip(thing.box, (width, height) * 2, strict=True)]
    inside = (slice(box[1], box[3]), slice(box[0], box[2]))
    mask[inside] = (full[inside] > 0) * np.uint8(255)
    return mask
