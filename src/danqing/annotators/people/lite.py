"""Runs a .tflite file with ai-edge-litert. No torch."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np

from danqing.annotators.learned import find_file
from danqing.annotators.sheet import Floats
from danqing.spec.errors import BadFileError

_MOST_THREADS = 4
_LOCK = threading.Lock()


class LiteModel:
    """A network from a .tflite file; one thread at a time.

    Args:
        path: The file.

    Raises:
        BadFileError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0) or min(_MOST_THREADS, os.cpu_count() or 1)
        try:
            self._network = Interpreter(model_path=str(path), num_threads=threads)
            self._network.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise BadFileError(
                "this network cannot be read",
                field="weights",
                value=f"{path}: {error}"[:300],
                allowed="the file as mediapipe 0.10.14 brings it",
                next_step="install mediapipe 0.10.14 again",
            ) from error
        self._into = self._network.get_input_details()[0]
        self._out = self._network.get_output_details()

    @property
    def side_px(self) -> int:
        """Side of the square it looks at."""
        return int(self._into["shape"][1])

    def __call__(self, picture: Floats) -> list[Floats]:
        """Its answers without the batch, in the file's order, from `[side, side, 3]` as it was trained to see it."""
        with _LOCK:
            self._network.set_tensor(self._into["index"], np.ascontiguousarray(picture[None], np.float32))
            self._network.invoke()
            return [np.array(self._network.get_tensor(out["index"])[0], np.float32) for out in self._out]


def open_model(folder: Path, name: str) -> LiteModel:
    """A network of a folder, kept in memory."""
    return _opened(find_file(folder, name) or folder / name)


@lru_cache(maxsize=8)
def _opened(path: Path) -> LiteModel:
    return LiteModel(path)


def sigmoid(values: Floats) -> Floats:
    """σ, safe for large numbers."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -80, 80))), np.float32)
