"""What libraries raise when a file of weights, or a folder as transformers saves it, is damaged."""

from __future__ import annotations

import pickle

from safetensors import SafetensorError

BROKEN: tuple[type[Exception], ...] = (
    SafetensorError,
    RuntimeError,
    OSError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    pickle.UnpicklingError,
)
