"""`annotate`: one picture to one control map, whatever the annotator."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from danqing.annotators import (
    canny,
    lineart,
    mlsd,
    normal,
    relief,
    scribble,
    segmentation,
    shuffle,
    softedge,
    tile,
    tones,
)
from danqing.annotators.learned import IMPLEMENTED, OWN, find_weights, has_package, require_weights
from danqing.annotators.sheet import Bytes, Sheet, split_alpha
from danqing.annotators.sizes import resize_map, resize_picture, working_size
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.annotator_types import AnnotatorInfo
from danqing.spec.registry.annotators import find_annotator, resolve_parameters

Function = Callable[[Sheet], Bytes]
MAX_SEED = 2**64 - 1

CLASSICAL: dict[str, Function] = {
    "none": tones.none,
    "invert": tones.invert,
    "threshold": tones.threshold,
    "grayscale": tones.grayscale,
    "canny": canny.canny,
    "lineart_standard": lineart.lineart_standard,
    "lineart_xdog": lineart.lineart_xdog,
    "softedge_dog": softedge.softedge_dog,
    "scribble_canny": scribble.scribble_canny,
    "scribble_xdog": scribble.scribble_xdog,
    "mlsd_lsd": mlsd.mlsd_lsd,
    "tile_resample": tile.tile_resample,
    "blur_gaussian": tile.blur_gaussian,
    "t2ia_color_grid": tile.color_grid,
    "shuffle": shuffle.shuffle,
    "seg_superpixels": segmentation.seg_superpixels,
    "depth_relief": relief.depth_relief,
    "normal_relief": normal.normal_relief,
    "normal_from_depth": normal.normal_from_depth,
}


def annotate(
    name: str,
    picture: Bytes,
    params: Mapping[str, object] | None = None,
    resolution_px: int | None = None,
    seed: int = 0,
    weights_dir: Path | None = None,
) -> Bytes:
    """The control map of a picture.

    Args:
        name: Key, label or alias of an annotator (`spec.registry.annotators`).
        picture: uint8 `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]` (straight alpha), up to 4096 a side.
        params: Its settings; those left out have their defaults.
        resolution_px: The shorter side at which the annotator works; None for the picture's own size. To be pixel
            perfect for a painting, give `pixel_perfect_resolution`.
        seed: For annotators that draw at random.
        weights_dir: Folder where learned annotators' weights lie, at any depth.

    Returns:
        uint8 `[h, w, 3]`, of the picture's size.

    Raises:
        InvalidRequestError: An unknown annotator or setting, a wrong value, or no picture.
        UnsupportedError: The annotator cannot work on this picture.
        MissingWeightsError: A learned annotator whose package or weights are not installed.
    """
    info = find_annotator(name)
    values = resolve_parameters(info, params or {})
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequestError(
            "the seed is out of range", field="seed", value=seed, allowed=f"a whole number from 0 to {MAX_SEED}"
        )
    rgb, alpha = split_alpha(picture)
    height_px, width_px = rgb.shape[:2]
    work = working_size(height_px, width_px, resolution_px)
    sheet = Sheet(resize_picture(rgb, *work), None if alpha is None else resize_picture(alpha, *work), values, seed)
    found = _run(info, sheet, weights_dir)
    resized = resize_map(found, height_px, width_px, info.map_kind)
    colored = resized if resized.ndim == 3 else np.repeat(resized[..., None], 3, axis=2)
    return np.ascontiguousarray(colored) if not np.shares_memory(colored, picture) else colored.copy()


def is_installed(name: str, weights_dir: Path | None = None) -> bool:
    """Whether `annotate` can run it here: always for a classical one.

    Raises:
        InvalidRequestError: There is no such annotator.
    """
    info = find_annotator(name)
    weights = info.weights
    return weights is None or (has_package(weights) and find_weights(weights, weights_dir) is not None)


def _run(info: AnnotatorInfo, sheet: Sheet, weights_dir: Path | None) -> Bytes:
    if info.weights is None:
        return CLASSICAL[info.key](sheet)
    folder = require_weights(info, weights_dir)
    # by name, so that nothing that imports this module loads torch
    networks = importlib.import_module(OWN.get(info.key, "danqing.annotators.networks"))
    found: Bytes = networks.run(info.key, sheet, folder)
    return found


def implemented() -> frozenset[str]:
    """Keys of every annotator that has code behind it, learned ones included."""
    return frozenset(CLASSICAL) | IMPLEMENTED
