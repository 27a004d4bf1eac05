"""IP-Adapter weights and the image encoder that feeds them (Ye et al. 2023, arXiv 2308.06721).

The module's state is the published file's content to the name: `image_proj.proj.*`, `image_proj.norm.*`,
`ip_adapter.{1, 3, 5 …}.to_k_ip.weight` and `to_v_ip.weight`, numbered as diffusers orders a UNet's cross-attentions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from danqing.models.clip import letterbox
from danqing.models.precision import Precision
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ImageEncoderInfo, IpAdapterInfo

TOKENS = 4
# OpenAI's preprocessing, which published encoders were trained with.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ImageProjection(nn.Module):
    """An image embedding to tokens as wide as text states.

    Args:
        embedding: Width of the embedding.
        width: Width of a token.
        tokens: How many.
    """

    def __init__(self, embedding: int, width: int, tokens: int = TOKENS) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Tokens [n, tokens, width] of embeddings [n, embedding]."""
        return self.norm(self.proj(embeddings).unflatten(1, (-1, self.norm.normalized_shape[0])))


class ImageLayer(nn.Module):
    """What one cross-attention layer reads image tokens with."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(width, inner, bias=False)
        self.to_v_ip = nn.Linear(width, inner, bias=False)


class IpAdapterWeights(nn.Module):
    """All that an IP-Adapter adds to a UNet.

    Args:
        embedding: Width of the image embedding.
        width: Width of a text state.
        inner: Width of each cross-attention's keys, in diffusers' order.
        tokens: Image tokens for each picture.
    """

    def __init__(self, embedding: int, width: int, inner: Sequence[int], tokens: int = TOKENS) -> None:
        super().__init__()
        self.image_proj = ImageProjection(embedding, width, tokens)
        self.ip_adapter = nn.ModuleDict({str(2 * i + 1): ImageLayer(width, size) for i, size in enumerate(inner)})

    @property
    def embedding_width(self) -> int:
        """Width of the image embedding that it reads."""
        return self.image_proj.proj.in_features

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def save(self, path: Path, metadata: dict[str, str] | None = None) -> None:
        """Write the published form, in float16."""
        tensors = {name: tensor.detach().half().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})


def read_ip_adapter(path: Path) -> IpAdapterWeights:
    """The weights in a file, in float32 on the CPU.

    Raises:
        BadFileError: It is no ordinary IP-Adapter, or parts are missing.
    """
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        out, embedding = tensors["image_proj.proj.weight"].shape
        width = len(tensors["image_proj.norm.weight"])
        count = sum(name.endswith(".to_k_ip.weight") for name in tensors)
        inner = [len(tensors[f"ip_adapter.{2 * i + 1}.to_k_ip.weight"]) for i in range(count)]
        weights = IpAdapterWeights(embedding, width, inner, out // width)
        weights.load_state_dict(tensors)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadFileError(
            f"this is no ordinary IP-Adapter, or it is damaged: {error}",
            value=str(path),
            allowed="image_proj.proj, image_proj.norm and ip_adapter.N.to_k_ip / to_v_ip",
            next_step="copy the file again, or choose another image adapter",
        ) from error
    return weights.eval().requires_grad_(False)


@dataclass
class LoadedIpAdapter:
    """An IP-Adapter on its device: the projection in float32, the layers in the denoiser's format.

    Attributes:
        info: What the catalogue knows of it.
        weights: The network.
    """

    info: IpAdapterInfo
    weights: IpAdapterWeights

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return self.weights.size_bytes


def load_ip_adapter(info: IpAdapterInfo, precision: Precision, device: torch.device) -> LoadedIpAdapter:
    """Load an IP-Adapter file.

    Args:
        info: From the catalogue; `path` is the file.
        precision: Number formats of the model it works in.
        device: Where it shall compute.
    """
    weights = read_ip_adapter(Path(info.path)).to(device)
    weights.ip_adapter.to(precision.denoiser)
    return LoadedIpAdapter(info, weights)


@dataclass
class ImageEncoder:
    """A CLIP image tower on its device, in float32.

    Attributes:
        info: What the catalogue knows of it.
        vision: The tower.
        size_px: Side of the square that it takes.
        mean: Of each channel.
        std: Of each channel.
    """

    info: ImageEncoderInfo
    vision: CLIPVisionModelWithProjection
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(p.numel() * p.element_size() for p in self.vision.parameters())

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Tensor]) -> Tensor:
        """Embeddings float32 [n, width] of pictures uint8 [h, w, 3] of any size, not normalised, as IP-Adapter wants.

        The built-in tower sees the whole picture with its edges carried on; others see the middle square, which is
        what published IP-Adapters were trained with.
        """
        squares = np.stack([self._square(picture.cpu().numpy()) for picture in pictures])
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255.0
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        place = next(self.vision.parameters()).device
        return self.vision(pixel_values=((pixels - mean) / std).to(place)).image_embeds.float().cpu()

    def _square(self, picture: np.ndarray) -> np.ndarray:
        if self.info.whole_picture:
            return letterbox(picture, self.size_px)
        return np.asarray(
            ImageOps.fit(Image.fromarray(picture), (self.size_px, self.size_px), Image.Resampling.BICUBIC)
        )


def load_image_encoder(info: ImageEncoderInfo, device: torch.device) -> ImageEncoder:
    """Load a transformers folder with a CLIP image tower.

    Raises:
        UnsupportedError: Its preprocessing cannot be read.
    """
    folder = Path(info.path)
    vision = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    config = _preprocessing(folder)
    try:
        mean, std = (
            tuple(float(one) for one in config.get(name, default))
            for name, default in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD))
        )
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"the preprocessing of {folder.name} cannot be read: {error}") from error
    vision = vision.to(device).eval().requires_grad_(False)
    return ImageEncoder(info, vision, int(vision.config.image_size), mean, std)


def _preprocessing(folder: Path) -> dict[str, Any]:
    for place in (folder, folder.parent):
        file = place / "preprocessor_config.json"
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8"))
    return {}
