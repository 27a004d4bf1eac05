"""Networks in ONNX, run by onnxruntime on the CPU. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from danqing.spec.errors import BadFileError, UnsupportedError


def open_onnx(path: Path, *, what: str, field: str, allowed: str, next_step: str) -> Any:
    """A session of this network, with as many threads as `OMP_NUM_THREADS` says.

    Args:
        path: The file.
        what: What it is to a person: "the weights of …".
        field: Which setting names it.
        allowed: Which file it should be.
        next_step: How to get it.

    Raises:
        BadFileError: It cannot be read.
        UnsupportedError: onnxruntime is not installed; it comes with an extra.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnsupportedError(
            f"{what} needs onnxruntime, which is not installed",
            field=field,
            value=str(path),
            next_step="pip install -c constraints.txt '.[annotators]'",
        ) from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's own errors have no common class but Exception
        raise BadFileError(
            f"{what} cannot be read",
            field=field,
            value=f"{path}: {error}"[:300],
            allowed=allowed,
            next_step=next_step,
        ) from error
