"""Upscaling by super-resolution networks: any file that spandrel knows, any size, alpha kept, memory bounded.

Sizes follow A1111: the network enlarges as often as it takes to reach the size asked for (at most three times), then
Lanczos brings the picture to it exactly.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from danqing.enhance.spandrel_models import load_spandrel
from danqing.enhance.tiles import Pixels, Tiling, enlarge_tiled
from danqing.spec.errors import BadFileError, UnsupportedError

MOST_TIMES = 3
MAX_BETWEEN_PX = 2**28
"""Pixels of a picture between two enlargements, at most; beyond, Lanczos goes the rest of the way."""
SMALLEST_TILE_PX = 64
_CONVOLUTION = 4
"""Dimensions of a convolution's weight."""
PICKLES = (".pth", ".pt", ".ckpt", ".bin")
Tiles = Generator[Tensor, Tensor, Image.Image]
"""Yields tiles `[1, 3, h, w]` in [0, 1], takes enlarged ones, returns the picture."""


class Upscaler:
    """A loaded network.

    Args:
        path: A file in one of spandrel's architectures: `.safetensors`, or `.pth`/`.pt` that holds tensors only.
        device: Where it computes; in half precision on a GPU if it was made for that, else in float32.

    Raises:
        BadFileError: The file is damaged, or holds more than tensors.
        UnsupportedError: It is no super-resolution network that spandrel knows.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.device = device
        self._net: Any = _network(path)
        self.scale = int(self._net.scale)
        self._grey = self._net.input_channels == 1
        half = device.type == "cuda" and self._net.supports_half
        self.dtype = torch.float16 if half else torch.float32
        self._net.to(device, self.dtype).eval()
        self.tiling: Tiling | None = None

    @property
    def size_bytes(self) -> int:
        """Memory of its weights."""
        return sum(p.numel() * p.element_size() for p in self._net.model.parameters())

    def work_bytes(self, side_px: int) -> int:
        """Memory of one plane of numbers as wide as the network's widest layer, at the size of its answer.

        Args:
            side_px: Of a tile.
        """
        widest = max((p.shape[0] for p in self._net.model.parameters() if p.ndim == _CONVOLUTION), default=64)
        return widest * (side_px * self.scale) ** 2 * self.dtype.itemsize

    @torch.inference_mode()
    def __call__(self, tiles: Tensor) -> Tensor:
        """`[n, 3, h, w]` in [0, 1] → float32 `[n, 3, scale·h, scale·w]` in [0, 1], on the CPU."""
        if self.tiling is not None and max(tiles.shape[-2:]) > self.tiling.tile_px:
            return torch.cat([self._smaller(tile, self.tiling) for tile in tiles])
        return torch.cat([self._one(tile[None]) for tile in tiles])

    def tile_smaller(self, than_px: int) -> bool:
        """Halve the tiles after one of `than_px` did not fit. False when they are as small as is sensible."""
        side = (self.tiling.tile_px if self.tiling else than_px) // 2
        if side < SMALLEST_TILE_PX:
            return False
        self.tiling = Tiling(tile_px=side)
        return True

    def _one(self, tile: Tensor) -> Tensor:
        own = tile.mean(1, keepdim=True) if self._grey else tile
        large = self._net(own.to(self.device, self.dtype)).float().cpu()
        return large.expand(-1, 3, -1, -1) if large.shape[1] == 1 else large

    def _smaller(self, tile: Tensor, tiling: Tiling) -> Tensor:
        pixels = np.rint(tile.permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8)
        whole = _drive(enlarge_tiled(pixels, tiling), self._one)
        return torch.from_numpy(whole.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)


def upscale(
    picture: Image.Image, size: tuple[int, int], network: Upscaler, tiling: Tiling | None = None
) -> Image.Image:
    """A picture at exactly `size`, in RGB, or RGBA if it has transparent parts.

    Args:
        picture: Any mode.
        size: Width and height asked for.
        network: A loaded upscaler.
        tiling: How to cut it; tiles of 192 px if not given.
    """
    return _drive(upscale_steps(picture, size, tiling or Tiling()), network)


def upscale_steps(picture: Image.Image, size: tuple[int, int], tiling: Tiling) -> Tiles:
    """As `upscale`, for whoever runs the network elsewhere."""
    rgba = has_alpha(picture)
    colour = np.asarray(_filled(picture.convert("RGBA")) if rgba else picture.convert("RGB"))
    large = yield from _plane(colour, size, tiling)
    if not rgba:
        return large
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    opacity = yield from _plane(np.repeat(alpha[..., None], 3, axis=2), size, tiling)
    large.putalpha(Image.fromarray(np.rint(np.asarray(opacity, np.float32).mean(2)).astype(np.uint8)))
    return large


def has_alpha(picture: Image.Image) -> bool:
    """Whether a picture has transparent parts."""
    if picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in picture.info:
        return False
    return picture.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def tiles_expected(picture: Image.Image, tiling: Tiling) -> int:
    """How many tiles the first enlargement takes: a lower bound of the work."""
    return tiling.count(*picture.size) * (2 if has_alpha(picture) else 1)


def _plane(pixels: Pixels, target: tuple[int, int], tiling: Tiling) -> Generator[Tensor, Tensor, Image.Image]:
    width, height = target
    for _ in range(MOST_TIMES):
        before = pixels.shape
        pixels = yield from enlarge_tiled(pixels, tiling)
        scale = pixels.shape[0] // before[0]
        enough = pixels.shape[0] >= height and pixels.shape[1] >= width
        if enough or scale == 1 or pixels.shape[0] * pixels.shape[1] * scale * scale > MAX_BETWEEN_PX:
            break
    large = Image.fromarray(pixels)
    return large if large.size == target else large.resize(target, Image.Resampling.LANCZOS)


def _filled(rgba: Image.Image) -> Image.Image:
    """RGB with each wholly transparent pixel in the colour of the nearest other one, so that edges get no halo."""
    pixels = np.asarray(rgba)
    clear = pixels[..., 3] == 0
    if clear.any() and not clear.all():
        rows, columns = distance_transform_edt(clear, return_distances=False, return_indices=True)
        pixels = pixels[rows, columns]
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3]))


def _drive(steps: Generator[Tensor, Tensor, Any], network: Any) -> Any:
    tile = next(steps)
    while True:
        try:
            tile = steps.send(network(tile))
        except StopIteration as stop:
            return stop.value


def _network(path: Path) -> Any:
    spandrel = load_spandrel()
    state = read_tensors(path)
    try:
        with warnings.catch_warnings():
            # Some architectures were written for older versions of PyTorch, which is nothing a person can act upon.
            warnings.simplefilter("ignore")
            net = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise _unknown(path, "no architecture that spandrel knows") from error
    except (RuntimeError, KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise BadFileError(
            f"the upscaler {path.name} cannot be read: {error}",
            value=str(path),
            next_step="copy the file again, or choose another upscaler",
        ) from error
    if not isinstance(net, spandrel.ImageModelDescriptor) or net.purpose not in ("SR", "Restoration"):
        raise _unknown(path, f"{net.architecture.name}, made for {net.purpose}")
    if net.input_channels not in (1, 3) or net.output_channels not in (1, 3):
        raise _unknown(path, f"{net.input_channels} channels to {net.output_channels}")
    return net


def _unknown(path: Path, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{path.name} is not an upscaler that can be used",
        field="upscaler",
        value=what,
        allowed="super-resolution networks of spandrel's architectures (ESRGAN, Real-ESRGAN, SwinIR, HAT, DAT, …)",
        next_step="choose another upscaler",
    )


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a weights file; nothing in it is executed.

    Raises:
        BadFileError: It is damaged, or a pickle that holds more than tensors and plain values.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".safetensors":
            return load_file(path)
        if suffix in PICKLES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old pickle protocols
                state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict):
                return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise BadFileError(
            f"the weights in {path.name} cannot be read safely: {str(error).partition(chr(10))[0][:200]}",
            value=str(path),
            allowed=".safetensors, or .pth with nothing but tensors",
            next_step="copy the file again; if it is a TorchScript or a whole pickled model, look for its state dict",
        ) from error
    raise BadFileError(f"{path.name} holds no weights", value=str(path), allowed=".safetensors, .pth, .pt")
