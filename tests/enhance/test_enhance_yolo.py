"""YOLO files: every form of answer, letterboxing, names, segments, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danqing.enhance.yolo import Yolo
from danqing.spec.errors import BadFileError
from tiny_onnx import write_constant

SIDE = 64
RGB = np.full((50, 100, 3), 90, np.uint8)
SCALE = SIDE / 100
TOP = (SIDE - 32) // 2


def inside(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box of the picture in the network's pixels."""
    left, top, right, bottom = (edge * SCALE for edge in box)
    return left, top + TOP, right, bottom + TOP


def middle(box: tuple[float, float, float, float]) -> list[float]:
    left, top, right, bottom = inside(box)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


FIRST, SECOND = (10.0, 10.0, 30.0, 40.0), (60.0, 5.0, 90.0, 25.0)
NAMES = "{0: 'face', 1: 'hand'}"


def version_8() -> np.ndarray:
    rows = np.zeros((6, 40), np.float32)
    rows[:, 0] = [*middle(FIRST), 0.9, 0.1]
    rows[:, 1] = [*middle(SECOND), 0.2, 0.6]
    rows[:, 2] = [*middle((11.0, 10.0, 30.0, 40.0)), 0.8, 0.1]  # the first again
    return rows[None]


def version_5() -> np.ndarray:
    rows = np.zeros((40, 7), np.float32)
    rows[0] = [*middle(FIRST), 1.0, 0.9, 0.1]
    rows[1] = [*middle(SECOND), 0.75, 0.2, 0.8]
    return rows[None]


def end_to_end() -> np.ndarray:
    rows = np.zeros((30, 6), np.float32)
    rows[0] = [*inside(FIRST), 0.9, 0]
    rows[1] = [*inside(SECOND), 0.6, 1]
    return rows[None]


@pytest.mark.parametrize("answer", [version_8, version_5, end_to_end])
def test_every_form_of_answer(tmp_path: Path, answer):
    path = write_constant(tmp_path / "net.onnx", {"out": answer()}, SIDE, {"names": NAMES})
    found = Yolo(path).find(RGB, 0.3)
    assert [(thing.label, round(thing.score, 3)) for thing in found] == [("face", 0.9), ("hand", 0.6)]
    assert np.allclose([thing.box for thing in found], [FIRST, SECOND], atol=0.01)
    assert [thing.label for thing in Yolo(path).find(RGB, 0.7)] == ["face"]


def test_segments_are_outlines_inside_their_box(tmp_path: Path):
    rows = np.zeros((5 + 32, 60), np.float32)
    rows[:5, 0] = [*middle(FIRST), 0.9]
    rows[5, 0] = 1.0
    parts = np.full((1, 32, 16, 16), -1.0, np.float32)
    parts[0, 0, :, :4] = 1.0  # the left quarter of the picture
    path = write_constant(tmp_path / "net.onnx", {"out": rows[None], "parts": parts}, SIDE, {"names": "['face']"})
    (thing,) = Yolo(path).find(RGB, 0.3)
    assert thing.mask is not None
    rows_, columns = np.nonzero(thing.mask)
    assert (columns.min(), rows_.min(), rows_.max()) == (10, 10, 39)
    assert 20 <= columns.max() <= 29
    assert thing.label == "face"


@pytest.mark.parametrize("names", ["", "__import__('os').system('true')", "{'a': 1}", "7", "[" * 50])
def test_strange_names_do_no_harm(tmp_path: Path, names: str):
    path = write_constant(tmp_path / "net.onnx", {"out": version_8()}, SIDE, {"names": names})
    assert [thing.label for thing in Yolo(path).find(RGB, 0.5)] == ["0", "1"]


def test_files_that_are_no_detector(tmp_path: Path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(BadFileError, match=r"bad\.onnx cannot be read"):
        Yolo(tmp_path / "bad.onnx")
    flat = write_constant(tmp_path / "flat.onnx", {"out": np.zeros((1, 5), np.float32)}, SIDE, {})
    with pytest.raises(BadFileError, match="it answers"):
        Yolo(flat).find(RGB, 0.3)
    thin = write_constant(tmp_path / "thin.onnx", {"out": np.zeros((1, 3, 9), np.float32)}, SIDE, {})
    with pytest.raises(BadFileError, match="rows of 3"):
        Yolo(thin).find(RGB, 0.3)
