"""Overlapping windows: their shares sum to one, and what changes nothing gives back exactly what it was given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.enhance.tiled import Grid, Mixer

SIDES = st.integers(1, 60)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, side=st.integers(4, 32), overlap=st.integers(0, 16))
def test_shares_sum_to_one_everywhere(height: int, width: int, side: int, overlap: int):
    grid = Grid(height, width, side, min(overlap, side // 2))
    total = torch.zeros(height, width)
    for window, share in zip(grid.windows(), grid.shares(), strict=True):
        assert share.shape == (window.height, window.width)
        assert float(share.min()) > 0
        window.of(total).add_(share)
    assert (total - 1).abs().max() < 1e-5


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, side=st.integers(4, 32), overlap=st.integers(0, 16), seed=st.integers(0, 99))
def test_an_identity_reconstructs_exactly(height: int, width: int, side: int, overlap: int, seed: int):
    grid = Grid(height, width, side, min(overlap, side // 2))
    plane = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 80
    mixer = Mixer(grid, 3)
    for window in grid.windows():
        mixer.add(window, window.of(plane).clone())
    assert torch.equal(mixer.result, plane)


@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_the_mix_is_the_sum_by_shares(overlap: int):
    grid = Grid(20, 31, 16, overlap)
    mixer, expected = Mixer(grid, 2), torch.zeros(1, 2, 20, 31)
    for place, (window, share) in enumerate(zip(grid.windows(), grid.shares(), strict=True)):
        made = torch.full((1, 2, window.height, window.width), float(place))
        mixer.add(window, made)
        window.of(expected).add_(made * share)
    assert torch.allclose(mixer.result, expected, atol=1e-5)
    assert float(mixer.result.std()) > 0
