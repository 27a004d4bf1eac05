"""Straight lines by M-LSD tiny (Gu and others, "Towards Light-weight and Real-time Line Segment Detection", 2022).

The weights are those of lhwcv/mlsd_pytorch, `mlsd_tiny_512_fp32.pth`.
"""

from __future__ import annotations

import pickle
import threading
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from danqing.annotators.learned import find_file
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_picture
from danqing.spec.errors import BadFileError

FILE = "mlsd_tiny_512_fp32.pth"
SIDE_PX = 512
MOST_LINES = 200
_PEAK = 5  # a centre is the highest of so many places around
_CENTRE = 7  # before it come the seven channels of a second task that training alone uses
# (expansion, width, repeats, stride) of MobileNetV2's stages; the features kept are those after these layers
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
_KEPT = (3, 6, 10)
_LOCK = threading.Lock()


class _Step(nn.Sequential):
    """Convolution, norm, ReLU6; a stride of 2 pads below and to the right only, as TensorFlow does."""

    def __init__(self, into: int, out: int, side: int = 3, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride == 2 else side // 2
        super().__init__(
            nn.Conv2d(into, out, side, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(out), nn.ReLU6()
        )
        self._halves = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)) if self._halves else x)


class _Residual(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, into: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        first = [] if expansion == 1 else [_Step(into, wide, 1)]
        self.conv = nn.Sequential(
            *first,
            _Step(wide, wide, stride=stride, groups=wide),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self._adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self._adds else self.conv(x)


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Step(4, 32, stride=2)]
        into = 32
        for expansion, out, repeats, stride in _STAGES:
            for place in range(repeats):
                layers.append(_Residual(into, out, stride if place == 0 else 1, expansion))
                into = out
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in _KEPT:
                found.append(x)
        return found


def _conv(into: int, out: int, side: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (side // 2)
    return nn.Sequential(nn.Conv2d(into, out, side, padding=padding, dilation=dilation), nn.BatchNorm2d(out), nn.ReLU())


class _Joined(nn.Module):
    """Fine features beside coarse ones, brought to twice their size."""

    def __init__(self, fine: int, coarse: int, fine_out: int, coarse_out: int) -> None:
        super().__init__()
        self.conv1 = _conv(coarse, coarse_out)
        self.conv2 = _conv(fine, fine_out)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        up = functional.interpolate(self.conv1(coarse), scale_factor=2.0, mode="bilinear", align_corners=True)
        return torch.cat((self.conv2(fine), up), dim=1)


class _Mixed(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1 = _conv(into, into, 3)
        self.conv2 = _conv(into, out, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x) + x)


class _Head(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1 = _conv(into, into, 3, dilation=5)
        self.conv2 = _conv(into, into, 3)
        self.conv3 = nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)))


class MlsdTiny(nn.Module):
    """The network; its parts have the names of the published file."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.block12 = _Joined(32, 64, 64, 64)
        self.block13 = _Mixed(128, 64)
        self.block14 = _Joined(24, 64, 32, 32)
        self.block15 = _Mixed(64, 64)
        self.block16 = _Head(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of centres and displacements of both ends `[b, 5, h/2, w/2]` of RGB and ones, −1 to 1."""
        fine, middle, coarse = self.backbone(x)
        x = self.block13(self.block12(middle, coarse))
        x = self.block16(self.block15(self.block14(fine, x)))
        return functional.interpolate(
            x[:, _CENTRE : _CENTRE + 5], scale_factor=2.0, mode="bilinear", align_corners=True
        )


def run(key: str, sheet: Sheet, folder: Path) -> Bytes:
    """White lines on black `[h, w]`."""
    del key
    height_px, width_px = sheet.rgb.shape[:2]
    drawn = np.zeros((height_px, width_px), np.uint8)
    found = lines(sheet.rgb, folder, sheet.number("value_threshold"), sheet.number("distance_threshold"))
    for x0, y0, x1, y1 in np.rint(found).astype(int):
        cv2.line(drawn, (int(x0), int(y0)), (int(x1), int(y1)), 255, 1)
    return drawn


def lines(rgb: Bytes, folder: Path, least_score: float, least_length: float) -> Floats:
    """Both ends of each line, `[n, 4]` in pixels: x, y, x, y.

    Args:
        rgb: `[h, w, 3]`.
        folder: Where the weights lie.
        least_score: Of a line's centre, 0 to 1.
        least_length: In places of the map, which has 256 a side.
    """
    height_px, width_px = rgb.shape[:2]
    pixels = np.ones((SIDE_PX, SIDE_PX, 4), np.float32)
    pixels[..., :3] = resize_picture(rgb, SIDE_PX, SIDE_PX)
    values = torch.from_numpy((pixels / 127.5 - 1).transpose(2, 0, 1)[None].copy())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _LOCK, torch.inference_mode():
        found = _network(find_file(folder, FILE) or folder / FILE, device)(values.to(device)).float().cpu()
        heat = torch.sigmoid(found[:, :1])
        heat = heat * (functional.max_pool2d(heat, _PEAK, 1, _PEAK // 2) == heat)
        scores, places = heat.flatten().topk(MOST_LINES)
    side = found.shape[-1]
    centres = np.stack([places.numpy() % side, places.numpy() // side], axis=1).astype(np.float32)
    shifts = found[0, 1:].flatten(1)[:, places].T.numpy()
    lengths = np.hypot(shifts[:, 0] - shifts[:, 2], shifts[:, 1] - shifts[:, 3])
    keep = (scores.numpy() > least_score) & (lengths > least_length)
    ends = (np.concatenate([centres, centres], axis=1) + shifts)[keep]
    return np.asarray(ends * np.array([width_px, height_px] * 2, np.float32) / side, np.float32)


@lru_cache(maxsize=1)
def _network(path: Path, device: torch.device) -> MlsdTiny:
    network = MlsdTiny()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, ValueError, TypeError, AttributeError, pickle.UnpicklingError, EOFError) as error:
        raise BadFileError(
            "the weights of M-LSD tiny cannot be read",
            field="weights",
            value=f"{path}: {error}"[:300],
            allowed="mlsd_tiny_512_fp32.pth of lhwcv/mlsd_pytorch",
            next_step="fetch it again",
        ) from error
    return network.to(device).eval()
