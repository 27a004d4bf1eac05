"""Faces restored: aligned to FFHQ's five points, restored by a network, their change brought back with soft edges.

What goes back is the *difference* between the restored and the aligned face. So a network that changes nothing changes
no pixel, detail finer than the network's 512 pixels is kept, and outside the face the picture is the same, bit for bit.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danqing.enhance.spandrel_models import load_spandrel
from danqing.enhance.upscale import read_tensors
from danqing.spec.errors import BadFileError, UnsupportedError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
SIDE_PX = 512
TEMPLATE: Floats = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ],
    np.float32,
)
"""Where eyes, nose and corners of the mouth lie in FFHQ's pictures at 512 px: what restorers were trained on."""
_FEATHER = 0.12
"""Of the face's square: how wide its edge fades."""
_CODEFORMER = ("encoder.blocks.0.weight", "position_emb", "idx_pred_layer.0.weight")


class Restorer(Protocol):
    """What restores aligned faces."""

    def __call__(self, face: Tensor, fidelity: float) -> Tensor:
        """float32 [1, 3, 512, 512] in [0, 1] to the same, restored."""
        ...


class FaceRestorer:
    """A restorer from a file, by spandrel.

    Args:
        path: `.pth` with nothing but tensors, or `.safetensors`.
        device: Where it computes.

    Raises:
        BadFileError: The file is damaged, or holds more than tensors.
        UnsupportedError: It is no face restorer, or one whose architecture is not installed.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.device = device
        self._net: Any = _network(path).to(device, torch.float32).eval()
        self._weighted = self._net.architecture.id == "CodeFormer"

    @torch.inference_mode()
    def __call__(self, face: Tensor, fidelity: float) -> Tensor:
        """float32 [1, 3, 512, 512] in [0, 1] to the same, restored, on the CPU.

        Args:
            face: The aligned face.
            fidelity: CodeFormer's w; the others have none.
        """
        given = face.to(self.device)
        if self._weighted:
            # its own range is −1 to 1; spandrel's call leaves the weight at its default
            answer = self._net.model(given * 2 - 1, w=fidelity, adain=True)[0]
            return ((answer + 1) / 2).clamp(0, 1).float().cpu()
        return self._net(given).clamp(0, 1).float().cpu()


def similarity(points: Floats, template: Floats = TEMPLATE) -> Floats:
    """The turn, scale and shift `[2, 3]` that brings points nearest to the template (least squares; Umeyama, 1991).

    Args:
        points: `[n, 2]` in pixels of the picture.
        template: `[n, 2]` where they shall lie.
    """
    middle, goal = points.mean(axis=0), template.mean(axis=0)
    centred, aimed = points - middle, template - goal
    spread = max(float((centred**2).sum()), 1e-6)
    a = float((centred * aimed).sum()) / spread
    b = float((centred[:, 0] * aimed[:, 1] - centred[:, 1] * aimed[:, 0]).sum()) / spread
    turn = np.array([[a, -b], [b, a]], np.float64)
    return np.asarray(np.hstack([turn, (goal - turn @ middle)[:, None]]), np.float32)


def aligned(rgb: Bytes, matrix: Floats) -> Floats:
    """The face as the template has it, float32 [512, 512, 3], 0 to 255; the picture's edge colours go on outside it."""
    scale = scale_of(matrix)
    # far larger than the template: blurred first, for sampling single pixels would make it rough
    source = cv2.GaussianBlur(rgb, (0, 0), 0.5 / scale) if scale < 0.5 else rgb
    found = cv2.warpAffine(
        source.astype(np.float32), matrix, (SIDE_PX,) * 2, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(found, np.float32).clip(0, 255)


def restored(rgb: Bytes, points: Floats, restorer: Restorer, *, fidelity: float, visibility: float) -> Bytes:
    """A picture with one face restored, uint8 [h, w, 3].

    Args:
        rgb: The picture.
        points: Eyes, nose and corners of the mouth, `[5, 2]` in pixels, from the picture's left.
        restorer: What restores.
        fidelity: CodeFormer's w, 0 to 1.
        visibility: Share of the restored face, 0 to 1.
    """
    matrix = similarity(points)
    if visibility == 0 or scale_of(matrix) < 1e-3:
        return rgb
    face = aligned(rgb, matrix)
    given = torch.from_numpy(face / np.float32(255)).permute(2, 0, 1)[None].contiguous()
    answer = restorer(given, fidelity)[0].permute(1, 2, 0).numpy() * np.float32(255)
    return pasted(rgb, (answer - face) * np.float32(visibility), matrix)


def pasted(rgb: Bytes, change: Floats, matrix: Floats) -> Bytes:
    """A picture with a change of its aligned face brought back, uint8 [h, w, 3].

    Args:
        rgb: The picture.
        change: What to add to the aligned face, float32 [512, 512, 3].
        matrix: How it was aligned `[2, 3]`.
    """
    height, width = rgb.shape[:2]
    shrink = scale_of(matrix)
    smooth = cv2.GaussianBlur(change, (0, 0), shrink / 4) if shrink > 2 else change
    # Faded after that, so that nothing is left at the square's edge, and outside it no pixel changes.
    faded = smooth * edge_mask()[..., None]
    back = cv2.warpAffine(
        faded, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT
    )
    return np.rint(rgb + np.asarray(back, np.float32)).clip(0, 255).astype(np.uint8)


def edge_mask() -> Floats:
    """How much of the aligned square is shown, float32 [512, 512]: 1 inside, smoothly 0 at its edge."""
    place = (np.arange(SIDE_PX, dtype=np.float32) + 0.5) / SIDE_PX
    ramp = (np.minimum(place, 1 - place) / _FEATHER).clip(0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    mask = np.outer(smooth, smooth).astype(np.float32)
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    return mask


def scale_of(matrix: Floats) -> float:
    """How many times larger the aligned face is."""
    return math.hypot(float(matrix[0, 0]), float(matrix[1, 0]))


def points_of_box(box: tuple[float, float, float, float]) -> Floats:
    """Where the five points of an upright face would lie in its box, `[5, 2]`: for detectors that know no points.

    The box is taken to reach from the brows to the chin, as detectors of faces draw it.
    """
    left, top, right, bottom = box
    low, high = np.array([165.0, 150.0], np.float32), np.array([347.0, 440.0], np.float32)
    shares = (TEMPLATE - low) / (high - low)
    return np.asarray(shares * [right - left, bottom - top] + [left, top], np.float32)


def _network(path: Path) -> Any:
    spandrel = load_spandrel()
    state = read_tensors(path)
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(state.get(key), dict):
            state = state[key]
    _more_architectures(spandrel)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # written for older versions of PyTorch
            net = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise _unknown(path, state) from error
    except (RuntimeError, KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise BadFileError(
            f"the face restorer {path.name} cannot be read: {str(error)[:200]}",
            value=str(path),
            next_step="copy the file again, or choose another one",
        ) from error
    if not isinstance(net, spandrel.ImageModelDescriptor) or net.purpose != "FaceSR" or net.input_channels != 3:
        raise _unknown(path, state)
    return net


def _more_architectures(spandrel: Any) -> None:
    """CodeFormer is in a package of its own, for its licence forbids commercial use; used where a person has it."""
    try:
        import spandrel_extra_arches as extra
    except ImportError:
        return
    spandrel.MAIN_REGISTRY.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)


def _unknown(path: Path, state: dict[str, Any]) -> UnsupportedError:
    if any(key in state for key in _CODEFORMER[1:]):
        return UnsupportedError(
            f"{path.name} is a CodeFormer, whose architecture is in a package of its own",
            field="model",
            value=path.name,
            allowed="GFPGAN and RestoreFormer without further packages",
            next_step="if its licence (S-Lab, non-commercial) suits you: pip install --no-deps spandrel_extra_arches",
        )
    return UnsupportedError(
        f"{path.name} is not a face restorer that can be used",
        field="model",
        value=path.name,
        allowed="GFPGAN (v1.3, v1.4), RestoreFormer (and ++), CodeFormer with its own package",
        next_step="choose another file, or a detail step, which needs none",
    )
