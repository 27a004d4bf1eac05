"""The evaluator's network: a residual CNN for pictures, a small transformer for captions."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own habit)

from danqing.training.builtin.groupnorm import use_fast_group_norm
from danqing.training.evaluation.config import EvaluatorConfig
from danqing.training.evaluation.words import MAX_WORDS, PAD

GROUPS = 8


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut (He et al. 2016, pre-activation); the first may halve the side."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(min(GROUPS, narrow), narrow), nn.GroupNorm(min(GROUPS, wide), wide)
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(narrow, wide, 1, stride, bias=False) if (narrow, stride) != (wide, 1) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, narrow, h, w]` → `[n, wide, h / stride, w / stride]`."""
        y = F.silu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        return kept + self.conv2(F.silu(self.norm2(self.conv1(y))))


class ImageTower(nn.Module):
    """Stem and residual stages, then mean and maximum over the picture."""

    def __init__(self, config: EvaluatorConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 3, 2, 1)
        stages: list[nn.Module] = []
        for i, width in enumerate(widths):
            before = widths[max(0, i - 1)]
            blocks = [
                Residual(before if b == 0 else width, width, 2 if i and b == 0 else 1) for b in range(config.blocks)
            ]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(2 * widths[-1])
        self.project = nn.Linear(2 * widths[-1], config.dim, bias=False)

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """What each stage sees of pictures `[n, 3, s, s]`: `[n, widths[i], s / 2^(i+1), …]`."""
        out = [self.stem(pixels)]
        for stage in self.stages:
            out.append(stage(out[-1]))
        return out[1:]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Vectors `[n, dim]`, not normalised."""
        last = F.silu(self.features(pixels)[-1])
        return self.project(self.norm(torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1)))


class TextTower(nn.Module):
    """Words with their places through a transformer that looks both ways, averaged."""

    def __init__(self, config: EvaluatorConfig, vocabulary: int) -> None:
        super().__init__()
        width = config.text_width
        self.words = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.places = nn.Parameter(0.02 * torch.randn(MAX_WORDS, width))
        layer = nn.TransformerEncoderLayer(
            width, config.text_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.text_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, config.dim, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors `[n, dim]` of word numbers `[n, words]`, not normalised."""
        absent = ids == PAD
        x = self.layers(self.words(ids) + self.places[: ids.shape[1]], src_key_padding_mask=absent)
        there = (~absent).unsqueeze(-1).to(x.dtype)
        return self.project(self.norm((x * there).sum(1) / there.sum(1)))


class Towers(nn.Module):
    """Both, with SigLIP's scale and bias (Zhai et al. 2023, t' = log 10, b = -10)."""

    def __init__(self, config: EvaluatorConfig, vocabulary: int) -> None:
        super().__init__()
        self.image, self.text = ImageTower(config), TextTower(config, vocabulary)
        self.logit_scale = nn.Parameter(torch.tensor(float(np.log(10.0))))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0))
        use_fast_group_norm(self)

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit vectors `[n, dim]` of pictures `[n, 3, s, s]` in [-1, 1]."""
        return F.normalize(self.image(pixels).float(), dim=-1)

    def embed_texts(self, ids: torch.Tensor) -> torch.Tensor:
        """Unit vectors `[n, dim]` of word numbers `[n, words]`."""
        return F.normalize(self.text(ids).float(), dim=-1)


def build_towers(config: EvaluatorConfig, vocabulary: int) -> Towers:
    """Both towers with fresh weights from the evaluator's own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Towers(config, vocabulary)
