"""Work in a process of its own, for a front without torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import danqing.annotators
from danqing.spec.errors import DanqingError, InvalidRequestError, WorkerError
from danqing.spec.registry.annotators import LEARNED, find_annotator
from danqing.studio.annotating import MapTask
from danqing.studio.elsewhere import in_process


def task(folder: Path, annotator: str = "canny", **changes: Any) -> dict[str, Any]:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = 255
    np.save(folder / "picture.npy", picture)
    return {
        "annotator": annotator,
        "picture": str(folder / "picture.npy"),
        "out": str(folder / "map.npy"),
        "params": {},
        "resolution_px": None,
        "seed": 0,
        "weights_dir": str(folder),
        **changes,
    }


def test_the_work_is_done(tmp_path: Path):
    assert in_process("danqing.annotators", task(tmp_path), what="the network", timeout_s=120.0) == {}
    found = np.load(tmp_path / "map.npy")
    assert found.shape == (64, 64, 3)
    assert found.any()


def test_an_error_comes_back_in_its_own_words(tmp_path: Path):
    with pytest.raises(InvalidRequestError, match="annotator") as told:
        in_process("danqing.annotators", task(tmp_path, "cany"), what="the network", timeout_s=120.0)
    assert told.value.value == "cany"


def test_a_crash_and_a_delay_are_told(tmp_path: Path):
    with pytest.raises(WorkerError, match="the tool failed"):
        in_process("danqing.no_such_module", {}, what="the tool", timeout_s=60.0)
    with pytest.raises(WorkerError, match="took too long"):
        in_process("danqing.annotators", task(tmp_path), what="the tool", timeout_s=0.01)


def test_progress_and_result_arrive(tmp_path: Path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones((512, 1024), np.float32)}, tmp_path / "a.safetensors")
    said: list[float] = []
    plain = {"tool": "convert", "source": str(tmp_path / "a.safetensors"), "out": str(tmp_path / "b.safetensors")}
    found = in_process("danqing.models.tools", plain, what="convert", timeout_s=120.0, progress=said.append)
    assert found["tensors"] == 1
    assert said
    assert all(0 < share <= 1 for share in said)


def test_an_installed_network_runs_in_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A map task of a network: the picture goes there and the map comes back (a formula stands in for the network)."""
    monkeypatch.setattr(danqing.annotators, "is_installed", lambda *_: True)
    info = dataclasses.replace(find_annotator("canny"), weights=LEARNED[0].weights)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = 255
    made = MapTask(info, {}, None, 0, tmp_path).run(picture)
    assert np.array_equal(made, MapTask(find_annotator("canny"), {}, None, 0, tmp_path).run(picture))


def test_what_is_no_known_error_still_is_one():
    assert isinstance(DanqingError.from_dict({"error": {"code": "?", "message": "x"}}), DanqingError)
