"""mini-CLIP: pictures and words in one space, for interrogation, search by look and scoring.

Loss and scale: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training" (SigLIP), p = σ(e^t · cos + b).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel, CLIPVisionModelWithProjection

from danqing.models.clip_files import ClipFiles, find_clip
from danqing.prompt.tokenizer import ClipTokenizer
from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.store.vectors import sigmoid

Picture: TypeAlias = Image.Image | NDArray[Any] | Tensor
Embeddings: TypeAlias = NDArray[np.float32]
_PICTURE_BATCH = 16
_TEXT_BATCH = 64
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class ClipHead:
    """What joins the two towers.

    Attributes:
        projection: Pooled text state to the common space, [d, text width].
        scale: Factor of the cosine, e^t.
        bias: Added to it.
    """

    projection: Tensor
    scale: float
    bias: float


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes numbers.

    Attributes:
        size_px: Side of the square that the image tower takes.
        mean: Of each channel.
        std: Of each channel.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class MiniClip:
    """Both towers, loaded.

    Args:
        files: Where they came from.
        vision: The image tower, on its device, in float32.
        text: The text tower, on its device, in float32.
        head: What joins them.
        preprocessing: How pictures are prepared.
    """

    def __init__(
        self,
        files: ClipFiles,
        vision: CLIPVisionModelWithProjection,
        text: CLIPTextModel,
        head: ClipHead,
        preprocessing: Preprocessing,
    ) -> None:
        self.files = files
        self.vision = vision
        self.text = text
        self.head = head
        self.preprocessing = preprocessing
        self.tokenizer = ClipTokenizer(files.text_folder / "tokenizer")
        self.device = next(vision.parameters()).device

    @property
    def dim(self) -> int:
        """Width of the common space."""
        return self.head.projection.shape[0]

    @cached_property
    def sha256(self) -> str:
        """Content hash: embeddings of another one cannot be compared with ours."""
        return self.files.sha256()

    @torch.inference_mode()
    def embed_images(self, pictures: Sequence[Picture] | NDArray[Any] | Tensor) -> Embeddings:
        """Embeddings of pictures, L2-normalised, float32 `[n, dim]`.

        A picture may have any size. Transparency is put on white. It is letterboxed, not cropped: the built-in family
        draws one subject that fills the square, and a crop would cut a wide picture's subject; the bars take the
        colour of the edge they extend, which is what a drawing's background would do.

        Args:
            pictures: Pillow images, uint8 arrays `[h, w]`, `[h, w, 3]` or `[h, w, 4]`, or float tensors
                `[3 or 4, h, w]` from 0 to 1; also one array or tensor of them `[n, …]`.

        Raises:
            InvalidRequestError: An array of another shape or kind.
        """
        found = [np.zeros((0, self.dim), np.float32)]
        for start in range(0, len(pictures), _PICTURE_BATCH):
            some = [
                letterbox(picture, self.preprocessing.size_px) for picture in pictures[start : start + _PICTURE_BATCH]
            ]
            pixels = torch.from_numpy(np.stack(some)).to(self.device).permute(0, 3, 1, 2).float() / 255.0
            mean, std = (torch.tensor(x, device=self.device)[:, None, None] for x in self._mean_std())
            found.append(_unit(self.vision(pixel_values=(pixels - mean) / std).image_embeds))
        return np.concatenate(found)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings of texts, L2-normalised, float32 `[n, dim]`; what does not fit in 77 tokens is cut off."""
        ids = [self._ids(text) for text in texts]
        # Neighbours of like length make short batches. The tower is causal, so padding after the end changes nothing.
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.zeros((len(ids), self.dim), np.float32)
        for start in range(0, len(order), _TEXT_BATCH):
            some = order[start : start + _TEXT_BATCH]
            longest = max(len(ids[i]) for i in some)
            padded = [ids[i] + [self.tokenizer.pad_id] * (longest - len(ids[i])) for i in some]
            out[some] = self._embed_ids(torch.tensor(padded, device=self.device), [len(ids[i]) - 1 for i in some])
        return out

    def logits(self, images: Embeddings, texts: Embeddings) -> Embeddings:
        """Scale · cosine + bias for picture i and text j, `[n, m]`."""
        return (images @ texts.T) * np.float32(self.head.scale) + np.float32(self.head.bias)

    def scores(self, images: Embeddings, texts: Embeddings) -> Embeddings:
        """Probability from 0 to 1 that picture i and text j belong together, `[n, m]`, as SigLIP is trained to say."""
        return sigmoid(self.logits(images, texts))

    def _mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.preprocessing.mean, self.preprocessing.std

    def _ids(self, text: str) -> list[int]:
        longest = int(self.text.config.max_position_embeddings)
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text)[: longest - 2], self.tokenizer.eos_id]

    def _embed_ids(self, ids: Tensor, ends: list[int]) -> Embeddings:
        # The state at the end token by its place: transformers looks for the token's id, which a config may misstate.
        states = self.text(ids).last_hidden_state
        pooled = states[torch.arange(len(ends), device=self.device), torch.tensor(ends, device=self.device)]
        return _unit(functional.linear(pooled.float(), self.head.projection))


def load(files: ClipFiles | Path | None = None, device: torch.device | None = None) -> MiniClip:
    """mini-CLIP from its folder; the built-in one for None.

    Raises:
        MissingWeightsError: It is not installed.
        BadFileError: Its files are damaged or do not fit together.
    """
    found = files if isinstance(files, ClipFiles) else find_clip(folder=files)
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
    place = device or torch.device("cpu")
    try:
        vision = CLIPVisionModelWithProjection.from_pretrained(found.folder / "image_encoder", **options)
        text = CLIPTextModel.from_pretrained(found.text_folder / "text_encoder", **options)
        head = _head(load_file(found.head, device=str(place)))
        preprocessing = _preprocessing(json.loads((found.folder / "preprocessor_config.json").read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise _damaged(found, str(error)) from error
    widths = (int(vision.config.projection_dim), int(text.config.hidden_size))
    if widths != tuple(head.projection.shape):
        raise _damaged(found, f"its towers want a text projection of {widths}, it has {tuple(head.projection.shape)}")
    vision.to(place).eval().requires_grad_(requires_grad=False)
    text.to(place).eval().requires_grad_(requires_grad=False)
    return MiniClip(found, vision, text, head, preprocessing)


def _head(weights: dict[str, Tensor]) -> ClipHead:
    scale, bias = (float(weights[name].float().reshape(())) for name in ("logit_scale", "logit_bias"))
    return ClipHead(weights["text_projection.weight"].float(), float(np.exp(min(scale, 10.0))), bias)


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size = config.get("size", 128)
    side = size if isinstance(size, int) else size.get("shortest_edge") or size["height"]
    return Preprocessing(int(side), *(tuple(float(x) for x in config[name]) for name in ("image_mean", "image_std")))


def _damaged(files: ClipFiles, why: str) -> BadFileError:
    return BadFileError(
        f"mini-CLIP cannot be loaded: {why}", value=str(files.folder), next_step="copy the folder again"
    )


def _unit(x: Tensor) -> Embeddings:
    return functional.normalize(x.float(), dim=-1).cpu().numpy()


def letterbox(picture: Picture, size_px: int) -> NDArray[np.uint8]:
    """A picture on white, shrunk or enlarged to fit a square, uint8 `[size_px, size_px, 3]`; see `embed_images`.

    Raises:
        InvalidRequestError: An array of a shape or kind that is no picture.
    """
    image = on_white(to_image(picture))
    scale = size_px / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    spare_y, spare_x = size_px - height, size_px - width
    if spare_y == spare_x == 0:
        return pixels
    first, last = (pixels[0], pixels[-1]) if spare_y else (pixels[:, 0], pixels[:, -1])
    out = np.empty((size_px, size_px, 3), np.uint8)
    top, left = spare_y // 2, spare_x // 2
    half = (slice(None, top), slice(None)) if spare_y else (slice(None), slice(None, left))
    out[:] = np.median(last, axis=0)
    out[half] = np.median(first, axis=0)
    out[top : top + height, left : left + width] = pixels
    return out


def to_image(picture: Picture) -> Image.Image:
    """Any of the forms of a picture as a Pillow image.

    Raises:
        InvalidRequestError: An array of a shape or kind that is no picture.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, Tensor):
        x = picture.detach().float().clamp(0.0, 1.0).cpu()
        array = (x.movedim(0, -1) * 255.0).round().to(torch.uint8).numpy() if x.ndim == 3 else np.zeros(0, np.uint8)
    else:
        array = picture
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidRequestError(
            "this array is no picture",
            value=f"{array.dtype} {tuple(array.shape)}",
            allowed="uint8 [h, w], [h, w, 3] or [h, w, 4]; float tensors [3 or 4, h, w] from 0 to 1",
        )
    return Image.fromarray(array)


def on_white(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent put on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    ground = Image.new("RGB", image.size, _WHITE)
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground
