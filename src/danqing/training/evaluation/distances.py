"""Distances between sets of pictures: Fréchet, between seeds, to the nearest training scene."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from danqing.training.evaluation.evaluator import Evaluator

Vectors = NDArray[np.float32]


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(first: Vectors, second: Vectors) -> float:
    """Fréchet distance of two sets of vectors `[n, d]`, `[m, d]`, each taken for a Gaussian (Heusel et al. 2017).

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁^½ Σ₂ Σ₁^½)^½); the symmetric form has no complex roots. Few pictures make it large:
    compare only sets of equal size.
    """
    x, y = first.astype(np.float64), second.astype(np.float64)
    shift = x.mean(0) - y.mean(0)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    half = _root(np.atleast_2d(cov_x))
    cross = np.linalg.eigvalsh(half @ np.atleast_2d(cov_y) @ half)
    trace = np.trace(np.atleast_2d(cov_x)) + np.trace(np.atleast_2d(cov_y)) - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    return float(shift @ shift + max(0.0, float(trace)))


def mean_pairwise(vectors: Vectors) -> float:
    """Mean of 1 - cosine over all pairs of unit vectors `[n, d]`; 0 for one alone."""
    n = len(vectors)
    if n < 2:
        return 0.0
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    return float(1.0 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def pixel_distances(evaluator: Evaluator, pictures: NDArray[np.uint8]) -> list[float]:
    """LPIPS's construction over the evaluator's CNN, for every pair of pictures `[n, h, w, 3]`.

    The squared difference of unit-length activations, averaged over places, summed over stages (Zhang et al. 2018,
    eq. 1, with all channel weights 1): comparable within these pages only.
    """
    layers = evaluator.layers(pictures)
    return [
        float(sum(((x[i] - x[j]) ** 2).sum(0).mean() for x in layers)) for i, j in combinations(range(len(pictures)), 2)
    ]


@dataclass(frozen=True)
class Neighbours:
    """Each picture's nearest of some others.

    Attributes:
        index: Which, `[n]`.
        distance: 1 - cosine, `[n]`.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]


def nearest(vectors: Vectors, others: Vectors) -> Neighbours:
    """The nearest of unit vectors `[m, d]` to each of `[n, d]`."""
    cosines = vectors.astype(np.float64) @ others.T.astype(np.float64)
    index = cosines.argmax(1)
    return Neighbours(index, 1.0 - cosines[np.arange(len(index)), index])


def histogram(distances: NDArray[np.float64], edges: list[float]) -> list[int]:
    """How many distances lie between neighbouring edges; those beyond the ends count in the end bins."""
    inside = np.clip(distances, edges[0], np.nextafter(edges[-1], edges[0]))
    return [int(n) for n in np.histogram(inside, edges)[0]]
