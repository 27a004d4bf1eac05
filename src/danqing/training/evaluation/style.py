"""Which style a picture is in, from its pixels: simple features and a linear classifier learnt from real drawings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.models.colors import hue_saturation_value
from danqing.training.evaluation.pixels import LEAST_SUBJECT, subject_mask

SIDE_PX = 128
STEPS = np.array([0.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], np.float32)
"""Edges of the histogram of brightness steps between neighbours, 0 to 255."""


def style_features(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What tells styles apart, whatever is drawn: `[25]`.

    Steps of brightness inside the drawing (flat areas, soft shading, hard edges), how few colours cover it, saturation
    and brightness, how much of it is black or grey, how much outline it has for its size.
    """
    if rgb.shape[0] != SIDE_PX:
        rgb = np.asarray(cv2.resize(rgb, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    mask = subject_mask(rgb)
    if mask.mean() < LEAST_SUBJECT:
        mask = np.ones_like(mask)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    inside = inside if inside.any() else mask
    steps = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8)[inside]
    histogram = np.bincount(np.searchsorted(STEPS, steps), minlength=len(STEPS) + 1) / len(steps)
    coarse = (rgb[inside] // 16).astype(np.int64) @ np.array([256, 16, 1])
    shares = np.sort(np.bincount(coarse, minlength=1))[::-1] / len(coarse)
    covered = [float(shares[:k].sum()) for k in (1, 2, 4, 8, 16)]
    _, saturation, value = hue_saturation_value(rgb[inside])
    outline = float((mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).sum())
    tones = [
        float(f(x)) for x in (saturation, value) for f in (np.mean, np.std, lambda v: np.quantile(v, 0.1), np.median)
    ]
    rest = [
        float(np.log1p((shares > 0.002).sum())),
        float((value < 0.2).mean()),
        float((saturation < 0.14).mean()),
        outline / float(np.sqrt(mask.sum())),
    ]
    return np.asarray([*histogram, *covered, *tones, *rest], np.float32)


@dataclass(frozen=True)
class StyleReader:
    """A linear classifier over features and their squares.

    Attributes:
        styles: What it tells apart.
        mean: Of the features, `[2 f]`.
        std: Their spread.
        weight: `[styles, 2 f]`.
        bias: `[styles]`.
    """

    styles: tuple[str, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def read(self, pictures: NDArray[np.uint8]) -> list[str]:
        """The style of each picture `[n, h, w, 3]`."""
        x = (_widened(pictures) - self.mean) / self.std
        return [self.styles[int(i)] for i in np.argmax(x @ self.weight.T + self.bias, 1)]


def _widened(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = np.stack([style_features(picture) for picture in pictures])
    return np.concatenate([x, x * x], 1)


def learn_styles(pictures: NDArray[np.uint8], styles: list[str], penalty: float = 1e-3) -> StyleReader:
    """Multinomial logistic regression by L-BFGS.

    Args:
        pictures: Real drawings in their scenes, `[n, h, w, 3]`.
        styles: The style of each.
        penalty: Weight of the squared coefficients.
    """
    names = tuple(sorted(set(styles)))
    x = _widened(pictures)
    mean, std = x.mean(0), x.std(0) + 1e-4
    inputs = torch.from_numpy((x - mean) / std)
    goal = torch.tensor([names.index(style) for style in styles])
    weight = torch.zeros(len(names), x.shape[1], requires_grad=True)
    bias = torch.zeros(len(names), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weight.T + bias, goal) + penalty * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return StyleReader(names, mean, std, weight.detach().numpy(), bias.detach().numpy())
