"""How large the parts of a folder or of a transformer's file are, and where they stay while its pipeline paints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from danqing.models.headers import read_header
from danqing.models.offloading import tensors_of_parts
from danqing.models.precision import Precision
from danqing.models.residency import WORK_BYTES
from danqing.spec.errors import DanqingError
from danqing.spec.model import ModelInfo


def part_sizes(info: ModelInfo, precision: Precision) -> dict[str, int]:
    """Bytes of each part once it is loaded, from the headers of its files; all are in the denoiser's format."""
    prior = None if info.foreign is None else info.foreign.prior_path
    found: dict[str, int] = {}
    if Path(info.path).is_file():
        return _file_sizes(Path(info.path), precision)
    for start, folder in (("", info.path), ("prior_", prior)):
        for part in sorted(Path(folder).iterdir()) if folder else ():
            numbers = sum(_numbers(part)) if part.is_dir() else 0
            if numbers:
                found[start + part.name] = numbers * precision.denoiser.itemsize
    return found


def _file_sizes(place: Path, precision: Precision) -> dict[str, int]:
    found: dict[str, int] = {}
    for part, path, shape in tensors_of_parts(place):
        name = f"{part} {path.name}"
        found[name] = found.get(name, 0) + math.prod(shape) * precision.denoiser.itemsize
    if place.suffix.lower() == ".gguf":
        # Its weights stay packed.
        found[f"denoiser {place.name}"] = place.stat().st_size
    return found


def place_pipeline(sizes: dict[str, int], free_bytes: int, device: str) -> str:
    """Where the parts stay: "" all on the device, `model` one part at a time, `sequential` one layer at a time.

    Args:
        sizes: Of the parts.
        free_bytes: Free memory of the device.
        device: cuda, mps or cpu; only from cuda can parts be away.

    >>> place_pipeline({"transformer": 12 << 30, "text_encoder": 9 << 30}, 16 << 30, "cuda")
    'model'
    """
    room = free_bytes - WORK_BYTES.get(device, WORK_BYTES["cpu"])
    if device != "cuda" or sum(sizes.values()) <= room:
        return ""
    return "model" if max(sizes.values(), default=0) <= room else "sequential"


def _numbers(folder: Path) -> Iterator[int]:
    """How many numbers each tensor of a part has; a second copy in half precision is not counted."""
    files = sorted(folder.glob("*.safetensors"))
    whole = [path for path in files if ".fp16" not in path.name] or files
    for path in whole:
        try:
            header = read_header(path)
        except DanqingError:
            continue
        yield from (math.prod(tensor.shape) for tensor in header.tensors.values())
