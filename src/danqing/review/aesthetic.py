"""A scorer of its own for the judge: CLIP with an aesthetic predictor over it. Loads torch: for the worker.

Predictors: LAION's linear one and the "improved" MLP of Christoph Schuhmann (both over unit vectors of CLIP ViT-L/14, 1
to 10). Their layers are linear with nothing between them, so any number of them is read.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from danqing.review.asking import shrunk
from danqing.review.vlm_files import model_type
from danqing.spec.errors import BadFileError

FOLDER = "aesthetic"
_SUFFIXES = (".safetensors", ".pth", ".pt")
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
_LAYER = re.compile(r"^(?:layers\.)?(\d+)\.weight$")
_LOWEST, _HIGHEST = 1.0, 10.0
_COSINES = (0.10, 0.35)  # of a CLIP: strangers, and a picture with its own words
_BROKEN = (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError)


@dataclass(frozen=True)
class AestheticFiles:
    """A CLIP folder and a predictor's file."""

    clip: Path
    head: Path


def find_aesthetic(models_dir: Path | None) -> AestheticFiles | None:
    """`aesthetic/` of the models folder: a CLIP folder in transformers' layout and one predictor's file beside it."""
    top = None if models_dir is None else models_dir / FOLDER
    if top is None or not top.is_dir():
        return None
    clips = [path for path in sorted(top.iterdir()) if path.is_dir() and model_type(path) == "clip"]
    heads = [path for path in sorted(top.iterdir()) if path.is_file() and path.suffix in _SUFFIXES]
    return AestheticFiles(clips[0], heads[0]) if clips and heads else None


class AestheticScorer:
    """CLIP and predictor, loaded.

    Args:
        files: Where they lie.
        device: Where they compute.

    Raises:
        BadFileError: They cannot be read or do not fit together.
    """

    def __init__(self, files: AestheticFiles, device: torch.device) -> None:
        self.name = f"{files.clip.name} + {files.head.stem}"[:200]
        self._device = device
        options: dict[str, Any] = {"local_files_only": True}
        try:
            model = transformers.CLIPModel.from_pretrained(files.clip, use_safetensors=True, **options)
            self._words = transformers.AutoTokenizer.from_pretrained(files.clip, trust_remote_code=False, **options)
            self._layers = _layers(_weights(files.head), int(model.config.projection_dim))
        except _BROKEN as error:
            raise BadFileError(
                "the aesthetic predictor cannot be read",
                field="aesthetic",
                value=f"{files.head.name}: {type(error).__name__}: {error}"[:300],
                allowed="linear layers over CLIP's vectors, beside that CLIP in transformers' layout",
                next_step=f"fetch them again, or move them out of models/{FOLDER}",
            ) from error
        self._clip: Any = model.float().to(device).eval()
        self._side = int(model.config.vision_config.image_size)

    @torch.inference_mode()
    def score(self, pictures: Sequence[Image.Image], brief: str) -> list[tuple[float, float]]:
        """(prompt score, aesthetic score), both 0 to 1, of each picture."""
        pixels = torch.from_numpy(np.stack([_pixels(picture, self._side) for picture in pictures])).to(self._device)
        images = _unit(self._clip.get_image_features(pixel_values=pixels))
        length = int(self._clip.config.text_config.max_position_embeddings)
        tokens = self._words([brief], truncation=True, max_length=length, return_tensors="pt").to(self._device)
        texts = _unit(
            self._clip.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        )
        x = images
        for weight, bias in self._layers:
            x = torch.nn.functional.linear(x, weight.to(x), bias.to(x))
        low, high = _COSINES
        fits = (((images @ texts.T)[:, 0] - low) / (high - low)).clamp(0.0, 1.0)
        beauty = ((x[:, 0] - _LOWEST) / (_HIGHEST - _LOWEST)).clamp(0.0, 1.0)
        return list(zip(fits.tolist(), beauty.tolist(), strict=True))


def _weights(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    found: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        raise TypeError("it holds no named weights")
    return found


def _layers(weights: dict[str, Any], width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights and biases in order; they must lead from `width` to one number."""
    numbered = sorted((int(found[1]), name) for name in weights if (found := _LAYER.match(name)) is not None)
    names = [name for _, name in numbered] or [name for name in weights if name in ("weight", "linear.weight")]
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []
    for name in names:
        weight = weights[name].float()
        bias = weights.get(name.removesuffix("weight") + "bias")
        if weight.ndim != 2 or weight.shape[1] != width:
            raise ValueError(f"{name} takes {tuple(weight.shape)}, not vectors of {width}")
        layers.append((weight, torch.zeros(weight.shape[0]) if bias is None else bias.float()))
        width = weight.shape[0]
    if not layers or width != 1:
        raise ValueError("its layers do not lead to one number")
    return layers


def _pixels(picture: Image.Image, side: int) -> NDArray[np.float32]:
    """The middle square in CLIP's scale, `[3, side, side]`."""
    image = shrunk(picture, 4096)
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    values = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255.0
    values = (values - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _unit(found: Any) -> torch.Tensor:
    """Unit vectors of CLIP's answer, a tensor or (newer transformers) an output with one."""
    vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
