"""Latent → RGB: a linear map per model, good enough for a live preview and thousands of times cheaper than the VAE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from danqing.spec.model import ModelInfo


class LatentRgb:
    """rgb = latent · factors + bias in [−1, 1], fitted by least squares on decoded pictures.

    Args:
        factors: [channels, 3], or None until `fit` is called.
        bias: [3].
    """

    def __init__(self, factors: Tensor | None = None, bias: Tensor | None = None) -> None:
        self.factors = factors
        self.bias = bias

    @classmethod
    def of(cls, info: ModelInfo) -> LatentRgb:
        """The map that lies beside the model (`danqing.json`, RGB in [0, 1]), or an empty one."""
        about = Path(info.weights_path) / "danqing.json"
        if about.is_file():
            data = json.loads(about.read_text(encoding="utf-8"))
            if "latent_rgb_factors" in data:
                factors, bias = torch.tensor(data["latent_rgb_factors"]), torch.tensor(data["latent_rgb_bias"])
                return cls(factors * 2.0, bias * 2.0 - 1.0)
        return cls()

    @property
    def ready(self) -> bool:
        """Whether there is a map."""
        return self.factors is not None

    def fit(self, latent: Tensor, picture: Tensor) -> None:
        """Fit the map on latents [b, c, h, w] and their pictures [b, 3, H, W] in [−1, 1]."""
        small = torch.nn.functional.adaptive_avg_pool2d(picture.float(), latent.shape[-2:])
        pixels = latent.float().permute(0, 2, 3, 1).reshape(-1, latent.shape[1])
        rows = torch.cat([pixels, torch.ones(len(pixels), 1, device=pixels.device)], dim=1)
        target = small.permute(0, 2, 3, 1).reshape(-1, 3)
        ridge = 1e-3 * len(rows) * torch.eye(rows.shape[1], device=rows.device)
        solution = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ target).cpu()
        self.factors, self.bias = solution[:-1], solution[-1]

    def paint(self, latent: Tensor) -> npt.NDArray[np.uint8] | None:
        """A picture uint8 [h, w, 3] of the first latent of [b, c, h, w], or None without a map."""
        if self.factors is None or self.bias is None:
            return None
        one = latent[0].float().cpu()
        rgb = torch.addmm(self.bias.float(), one.flatten(1).T, self.factors.float())
        return to_uint8(rgb.reshape(*one.shape[1:], 3))


def to_uint8(picture: Tensor) -> npt.NDArray[np.uint8]:
    """Values in [−1, 1], any shape, to rounded bytes."""
    scaled = (picture.float().cpu() + 1.0) * 127.5
    array: npt.NDArray[np.uint8] = scaled.clamp(0, 255).round().to(torch.uint8).numpy()
    return array
