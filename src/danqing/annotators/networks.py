"""Runs learned annotators. This module loads torch: it is imported by name, and only when its weights are there."""

from __future__ import annotations

import contextlib
import importlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from danqing.annotators.learned import DETECTORS
from danqing.annotators.palette import ADE20K
from danqing.annotators.sheet import Bytes, Floats, Sheet
from danqing.annotators.sizes import resize_map, resize_picture
from danqing.models.broken import BROKEN
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from danqing.spec.registry.annotators import find_annotator

_STEP_PX = 64
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(key: str, sheet: Sheet, folder: Path) -> Bytes:
    """The map of a learned annotator, `[h, w]` or `[h, w, 3]`.

    Args:
        key: Its registry key.
        sheet: The picture and the settings.
        folder: Where its weights lie.

    Raises:
        MissingWeightsError: Its package does not load here.
        BadFileError: Its weights cannot be read.
    """
    with torch.inference_mode():
        if key == "depth_anything":
            return _depth(sheet, folder)
        if key == "seg_upernet_ade20k":
            return _segmentation(sheet, folder)
        return _detected(key, sheet, folder)


def _detected(key: str, sheet: Sheet, folder: Path) -> Bytes:
    detector = DETECTORS[key]
    options = dict(detector.options) | {name: sheet.number(ours) for ours, name in detector.passed.items()}
    network = _detector(detector.name, folder)
    # these networks want sides that are multiples of 64, and controlnet-aux rounds to them
    side_px = max(_STEP_PX, round(sheet.short_px / _STEP_PX) * _STEP_PX)
    sizes = {"detect_resolution": side_px, "image_resolution": side_px, "output_type": "np"}
    found = np.asarray(network(sheet.rgb, **sizes, **options), np.uint8)
    return resize_map(found, sheet.rgb.shape[0], sheet.rgb.shape[1], find_annotator(key).map_kind)


@lru_cache(maxsize=2)
def _detector(name: str, folder: Path) -> Any:
    try:
        package = importlib.import_module("controlnet_aux")
    except ImportError as error:
        raise MissingWeightsError(
            f"controlnet-aux does not load here: {error}",
            value="controlnet-aux",
            next_step="install what it asks for (torchvision and timm among them), then try again",
        ) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            network = getattr(package, name).from_pretrained(str(folder))
    except BROKEN as error:
        raise _unreadable(folder, error) from error
    return network.to(_device()) if hasattr(network, "to") else network


@lru_cache(maxsize=2)
def _model(kind: str, folder: Path) -> Any:
    transformers = importlib.import_module("transformers")
    try:
        model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except BROKEN as error:
        raise _unreadable(folder, error) from error
    return model.to(_device()).eval()


def _depth(sheet: Sheet, folder: Path) -> Bytes:
    """Near is white, `[h, w]`."""
    model = _model("AutoModelForDepthEstimation", folder)
    patch = int(getattr(model.config, "patch_size", 0) or getattr(model.config.backbone_config, "patch_size", 0) or 16)
    depth = model(pixel_values=_pixels(sheet.rgb, 518, patch)).predicted_depth[:, None].float()
    depth = functional.interpolate(depth, sheet.rgb.shape[:2], mode="bicubic", align_corners=False)[0, 0]
    values: Floats = depth.cpu().numpy()
    if getattr(model.config, "depth_estimation_type", "relative") == "metric":
        values = -values
    span = float(values.max() - values.min())
    near = (values - values.min()) / span if span > 0 else np.zeros_like(values)
    return np.rint(near * 255).astype(np.uint8)


def _segmentation(sheet: Sheet, folder: Path) -> Bytes:
    """ADE20K's colours, `[h, w, 3]`."""
    model = _model("UperNetForSemanticSegmentation", folder)
    if model.config.num_labels != len(ADE20K):
        raise UnsupportedError(
            "this model does not know the classes of ADE20K",
            field="annotator",
            value=f"{model.config.num_labels} classes in {folder.name}",
            allowed=f"{len(ADE20K)} classes",
            next_step="install a model trained on ADE20K",
        )
    logits = model(pixel_values=_pixels(sheet.rgb, 512, 32)).logits.float()
    logits = functional.interpolate(logits, sheet.rgb.shape[:2], mode="bilinear", align_corners=False)
    return ADE20K[logits[0].argmax(0).cpu().numpy()]


def _pixels(rgb: Bytes, side_px: int, multiple: int) -> torch.Tensor:
    """`[1, 3, h, w]` float32 in ImageNet's scale, the shorter side near `side_px`, both multiples of `multiple`."""
    scale = side_px / min(rgb.shape[:2])
    height_px, width_px = (
        max(multiple, round(side * scale / multiple) * multiple) if side * scale < 4096 else 4096 // multiple * multiple
        for side in rgb.shape[:2]
    )
    resized = resize_picture(rgb, height_px, width_px).astype(np.float32) / 255
    scaled = (resized - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    return torch.from_numpy(scaled.transpose(2, 0, 1)[None].copy()).to(_device())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _unreadable(folder: Path, error: Exception) -> BadFileError:
    return BadFileError(
        "these weights cannot be read",
        field="weights",
        value=f"{folder}: {type(error).__name__}: {error}"[:300],
        allowed="the files as their authors publish them",
        next_step="fetch them again",
    )
