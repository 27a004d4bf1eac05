"""A control map before anything is painted. Formulas run here; networks in their own process, which loads torch."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from danqing.spec.base import MAX_SIDE_PX, MIN_SIDE_PX, Data, PictureRef
from danqing.spec.control import ControlResize, ParamName, ParamValue
from danqing.spec.registry.annotator_types import AnnotatorInfo
from danqing.spec.registry.annotators import WEIGHTS_FOLDER, find_annotator, resolve_parameters
from danqing.store.base import Upload
from danqing.studio.elsewhere import in_process
from danqing.studio.stored import picture_hash

if TYPE_CHECKING:
    from danqing.annotators.sizes import ResizeMode
    from danqing.studio.service import Studio

Pixels = NDArray[np.uint8]
_TIMEOUT_S = 900
_RESOLUTION_PX = (16, 2048)
_RESIZES: dict[str, ResizeMode] = {"stretch": "just_resize", "crop": "crop_and_resize", "fill": "resize_and_fill"}


class AnnotateRequest(Data):
    """The control map of a picture, to look at or to use as a unit's picture with the annotator `none`."""

    image: PictureRef
    annotator: str = Field(min_length=1, max_length=64, description="key, label or alias of an annotator")
    params: dict[ParamName, ParamValue] = Field(default_factory=dict[str, ParamValue], max_length=16)
    resolution_px: int | None = Field(
        default=None, ge=_RESOLUTION_PX[0], le=_RESOLUTION_PX[1], description="shorter side it works at"
    )
    width_px: int | None = Field(
        default=None,
        ge=MIN_SIDE_PX,
        le=MAX_SIDE_PX,
        description="of the painting, with `height_px`: the map is pixel perfect for it, unless resolution_px is given",
    )
    height_px: int | None = Field(default=None, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    resize_mode: ControlResize = Field(default="crop", description="how the map will be fitted to the painting")
    seed: int = Field(default=0, ge=0, le=2**53, description="for annotators that draw at random")


@dataclass(frozen=True)
class Annotated:
    """A control map, kept like an upload.

    Attributes:
        picture: The map.
        annotator: What made it.
        params: Its settings, all of them.
    """

    picture: Upload
    annotator: AnnotatorInfo
    params: dict[str, Any]


def annotate(studio: Studio, request: AnnotateRequest) -> Annotated:
    """The control map of a stored picture.

    Raises:
        NotFoundError: The picture is not there.
        InvalidRequestError: An unknown annotator or setting, or a wrong value.
        UnsupportedError: The annotator cannot work on this picture.
        MissingWeightsError: A network whose package or weights are not installed.
        WorkerError: The network's process failed.
    """
    info = find_annotator(request.annotator)
    params = resolve_parameters(info, request.params)
    pixels = picture_pixels(studio.picture_bytes(picture_hash(request.image, studio)))
    task = MapTask(info, params, _resolution(request, pixels.shape[:2]), request.seed, weights_dir(studio))
    buffer = io.BytesIO()
    Image.fromarray(task.run(pixels)).save(buffer, "PNG")
    return Annotated(studio.upload(buffer.getvalue(), name=f"{info.key}.png"), info, params)


def weights_dir(studio: Studio) -> Path:
    """Where the weights of learned annotators lie."""
    return studio.settings.models_path / Path(WEIGHTS_FOLDER).name


def is_ready(studio: Studio, annotator: str) -> bool:
    """Whether an annotator can run: always for a formula, for a network if its package and weights are installed."""
    from danqing.annotators import is_installed

    return is_installed(annotator, weights_dir(studio))


@dataclass(frozen=True)
class MapTask:
    """One control map to make.

    Attributes:
        info: The annotator.
        params: Its settings, resolved.
        resolution_px: The shorter side it works at; None for the picture's own.
        seed: For annotators that draw at random.
        weights_dir: Where the weights of networks lie.
    """

    info: AnnotatorInfo
    params: dict[str, Any]
    resolution_px: int | None
    seed: int
    weights_dir: Path

    def run(self, pixels: Pixels) -> Pixels:
        """The map, uint8 `[h, w, 3]`: here if a formula makes it or it cannot run, else in a process with torch."""
        from danqing.annotators import annotate as make
        from danqing.annotators import is_installed

        if self.info.weights is None or not is_installed(self.info.key, self.weights_dir):
            return make(self.info.key, pixels, self.params, self.resolution_px, self.seed, self.weights_dir)
        with tempfile.TemporaryDirectory(prefix="danqing-annotate-") as place:
            picture, out = Path(place) / "picture.npy", Path(place) / "map.npy"
            np.save(picture, pixels, allow_pickle=False)
            in_process(
                "danqing.annotators",
                {
                    "annotator": self.info.key,
                    "picture": str(picture),
                    "out": str(out),
                    "params": self.params,
                    "resolution_px": self.resolution_px,
                    "seed": self.seed,
                    "weights_dir": str(self.weights_dir),
                },
                timeout_s=_TIMEOUT_S,
                what="the network",
            )
            found: Pixels = np.load(out, allow_pickle=False)
            return found


def picture_pixels(data: bytes) -> Pixels:
    """A checked picture as `[h, w, 3 or 4]`; 16-bit grey (depth maps) is brought to 8 bits."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            wide = np.asarray(image).astype(np.int64)
            grey = (np.clip(wide, 0, 65535) // 257).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"), np.uint8)


def _resolution(request: AnnotateRequest, size_px: tuple[int, int]) -> int | None:
    from danqing.annotators import pixel_perfect_resolution

    if request.resolution_px is not None or request.width_px is None or request.height_px is None:
        return request.resolution_px
    target = (request.height_px, request.width_px)
    wanted = pixel_perfect_resolution(size_px, target, _RESIZES[request.resize_mode])
    return min(max(wanted, _RESOLUTION_PX[0]), _RESOLUTION_PX[1])
