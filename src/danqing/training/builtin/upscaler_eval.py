"""How good an upscaler is on held-out drawings: PSNR and SSIM, beside Lanczos and nearest neighbour."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.upscaler_config import UpscalerConfig
from danqing.training.builtin.upscaler_data import SCALE, Rgb, as_tensor, degrade, over

Enlarge = Callable[[Rgb], Rgb]


def psnr_db(first: Rgb, second: Rgb) -> float:
    """PSNR of two pictures `[h, w, 3]` in dB, peak 255, at most 60."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float(10 * np.log10(255.0**2 / max(error, 255.0**2 / 1e6)))


def ssim(first: Rgb, second: Rgb) -> float:
    """SSIM of the luma of two pictures (Wang et al. 2004: Gaussian window of 11 px, σ 1.5)."""

    def luma(picture: Rgb) -> NDArray[np.float64]:
        return picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5), np.float64)[5:-5, 5:-5]

    x, y = luma(first), luma(second)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    values = ((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(values.mean())


def by_filter(resampling: Image.Resampling) -> Enlarge:
    """Enlargement by one of Pillow's filters."""

    def enlarge(small: Rgb) -> Rgb:
        size = (small.shape[1] * SCALE, small.shape[0] * SCALE)
        return np.asarray(Image.fromarray(small).resize(size, resampling))

    return enlarge


def by_network(network: nn.Module, device: torch.device) -> Enlarge:
    """Enlargement by a network, in float32."""

    @torch.no_grad()
    def enlarge(small: Rgb) -> Rgb:
        output = network(as_tensor(small[None]).to(device))[0].permute(1, 2, 0)
        return (output.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    return enlarge


def measure(
    network: nn.Module, rgba: Rgb, rows: NDArray[np.int64], config: UpscalerConfig, device: torch.device
) -> dict[str, dict[str, float]]:
    """Mean PSNR (dB) and SSIM on whole pictures over white, of the network, Lanczos and nearest neighbour.

    Args:
        network: `[n, 3, h, w]` → `[n, 3, 4h, 4w]`.
        rgba: Every drawing.
        rows: Those that were held out.
        config: Degradations.
        device: Where the network is.

    Returns:
        `clean` (reduced by area) and `worn` (also blurred, noisy, compressed; the same every time), each with
        `model_db`, `lanczos_db`, `nearest_db`, `model_ssim`, …
    """
    ways = {
        "model": by_network(network, device),
        "lanczos": by_filter(Image.Resampling.LANCZOS),
        "nearest": by_filter(Image.Resampling.NEAREST),
    }
    answers: dict[str, dict[str, list[float]]] = {}
    for row in rows.tolist():
        drawing = np.asarray(rgba[row])
        side = drawing.shape[0] // SCALE * SCALE
        sharp = over(drawing[:side, :side], np.full((side, side, 3), 255, np.float32))
        clean = np.asarray(Image.fromarray(sharp).resize((side // SCALE, side // SCALE), Image.Resampling.BOX))
        worn = degrade(sharp, step_rng(0, "eval", row), config)
        for kind, small in (("clean", clean), ("worn", worn)):
            found = answers.setdefault(kind, {})
            for name, enlarge in ways.items():
                large = enlarge(small)
                found.setdefault(f"{name}_db", []).append(psnr_db(large, sharp))
                found.setdefault(f"{name}_ssim", []).append(ssim(large, sharp))
    return {
        kind: {name: round(float(np.mean(values)), 4) for name, values in found.items()}
        for kind, found in answers.items()
    }
