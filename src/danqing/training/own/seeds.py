"""Randomness that depends on (seed, purpose, number) alone, so that a run goes on exactly wherever it was killed."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

_MASK = (1 << 64) - 1


def seed_of(seed: int, purpose: str, number: int) -> int:
    """A 63-bit seed, well mixed (SplitMix64's finaliser, Steele et al. 2014).

    Args:
        seed: The run's.
        purpose: What is drawn, for example "noise": other purposes get other numbers.
        number: Which step, batch, epoch or picture.
    """
    salt = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    z = (seed * 0x9E3779B97F4A7C15 + salt * 0xD1B54A32D192ED03 + number * 0x8CB92BA72F3D8DD7) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return (z ^ (z >> 31)) >> 1


def rng_of(seed: int, purpose: str, number: int) -> np.random.Generator:
    """NumPy's generator."""
    return np.random.default_rng(seed_of(seed, purpose, number))


def torch_of(seed: int, purpose: str, number: int) -> torch.Generator:
    """PyTorch's generator on the CPU: noise drawn there is alike on every device."""
    return torch.Generator().manual_seed(seed_of(seed, purpose, number))
