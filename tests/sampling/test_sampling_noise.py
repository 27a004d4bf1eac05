"""Seeded noise: known values, variation, resize, delta, Brownian paths, independence of the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.sampling.brownian import TreePath, brownian_interval
from danqing.sampling.noise import (
    BatchNoise,
    NoiseSettings,
    PictureNoise,
    initial_noise,
    paste_centre,
    slerp,
    stream,
)
from danqing.sampling.philox import PhiloxGenerator
from danqing.spec.errors import InvalidRequestError, UnsupportedError

SHAPE = (4, 6, 8)
CPU = torch.device("cpu")


def test_philox_gives_the_numbers_of_an_nvidia_card() -> None:
    generator = PhiloxGenerator(0)
    first = generator.normal((3, 4))
    expected = [
        [-0.92466259, -0.42534415, -2.6438457, 0.14518388],
        [-0.12086647, -0.57972564, -0.62285122, -0.32838709],
        [-1.07454231, -0.36314407, -1.67105067, 2.26550497],
    ]
    # a card computes in float32, this in float64
    np.testing.assert_allclose(first, expected, rtol=0, atol=5e-7)
    assert not np.allclose(generator.normal((3, 4)), first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_philox_equals_the_card() -> None:
    for seed in (0, 1234, 2**40 + 3):
        generator = torch.Generator("cuda").manual_seed(seed)
        philox = PhiloxGenerator(seed)
        for shape in ((1, 4, 64, 64), (1, 4, 64, 64), (2, 16)):
            card = torch.randn(shape, generator=generator, device="cuda").cpu().numpy()
            np.testing.assert_allclose(philox.normal(shape), card, atol=2e-5)


def test_philox_is_normal_and_takes_large_seeds() -> None:
    values = PhiloxGenerator(2**63 + 12345).normal((100_000,))
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1.0, abs=0.02)
    assert not np.allclose(PhiloxGenerator(5).normal((8,)), PhiloxGenerator(5 + 2**32).normal((8,)))


@pytest.mark.parametrize("source", ["cpu", "nv"])
@pytest.mark.parametrize(
    "extra", [{}, {"variation_strength": 0.3, "variation_seed": 9}, {"resize_from": (4, 10)}, {"eta_seed_delta": 31337}]
)
def test_rows_of_a_batch_equal_single_pictures(source: str, extra: dict) -> None:
    each = [NoiseSettings(seed, source, **extra) for seed in (3, 2**33, 0)]
    batch = BatchNoise(each)
    shape = (3, *SHAPE)
    together = [batch.initial(shape), batch.next(shape), batch.next(shape)]
    together.append(batch.brownian(shape, 0.03, 14.6).between(5.0, 2.0))
    for i, one in enumerate(each):
        alone = PictureNoise(one)
        single = (1, *SHAPE)
        rows = [alone.initial(single), alone.next(single), alone.next(single)]
        rows.append(alone.brownian(single, 0.03, 14.6).between(5.0, 2.0))
        for got, row in zip(together, rows, strict=True):
            torch.testing.assert_close(got[i : i + 1], row, rtol=0, atol=0)


def test_cpu_noise_is_torchs() -> None:
    got = PictureNoise(NoiseSettings(42)).initial((1, *SHAPE))
    torch.testing.assert_close(got[0], torch.randn(SHAPE, generator=torch.Generator().manual_seed(42)), rtol=0, atol=0)


def test_rows_share_the_state_of_their_batch() -> None:
    batch = BatchNoise([NoiseSettings(1), NoiseSettings(2)])
    first = batch.rows()[0].initial((1, *SHAPE))
    assert not torch.equal(batch.initial((2, *SHAPE))[:1], first)


def test_delta_changes_only_the_noise_after_the_first() -> None:
    plain, delta = PictureNoise(NoiseSettings(1)), PictureNoise(NoiseSettings(1, eta_seed_delta=31337))
    shape = (1, *SHAPE)
    torch.testing.assert_close(plain.initial(shape), delta.initial(shape), rtol=0, atol=0)
    expected = torch.randn(SHAPE, generator=torch.Generator().manual_seed(31338))
    got = delta.next(shape)
    torch.testing.assert_close(got[0], expected, rtol=0, atol=0)
    assert not torch.equal(plain.next(shape), got)


def test_variation_goes_from_one_seed_to_the_other() -> None:
    own, other = initial_noise(NoiseSettings(1), SHAPE), initial_noise(NoiseSettings(2), SHAPE)

    def mixed(strength: float) -> torch.Tensor:
        return initial_noise(NoiseSettings(1, variation_seed=2, variation_strength=strength), SHAPE)

    torch.testing.assert_close(mixed(0.0), own)
    torch.testing.assert_close(mixed(1.0), other, rtol=1e-5, atol=1e-5)
    assert float(mixed(0.5).std()) == pytest.approx(1.0, abs=0.12)


def test_slerp_by_hand() -> None:
    # columns are vectors along dimension 1: (1, 0) and (0, 1)
    low, high = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
    got = slerp(1 / 3, low, high).flatten().tolist()
    assert got == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)], abs=1e-6)
    torch.testing.assert_close(slerp(0.4, low, low), low)


def test_seed_resize_keeps_the_smaller_noise_in_the_centre() -> None:
    small = initial_noise(NoiseSettings(7), (4, 6, 6))
    large = initial_noise(NoiseSettings(7, resize_from=(6, 6)), (4, 8, 12))
    torch.testing.assert_close(large[:, 1:7, 3:9], small, rtol=0, atol=0)
    around = initial_noise(NoiseSettings(7), (4, 8, 12))
    torch.testing.assert_close(large[:, 0], around[:, 0], rtol=0, atol=0)


def test_paste_crops_a_patch_that_is_larger() -> None:
    patch = torch.arange(36.0).reshape(1, 6, 6)
    torch.testing.assert_close(paste_centre(torch.zeros(1, 2, 6), patch), patch[:, 2:4])
    torch.testing.assert_close(paste_centre(torch.zeros(1, 6, 2), patch), patch[:, :, 2:4])


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 4))
def test_paste_takes_every_size(sizes: tuple[int, int, int, int]) -> None:
    h, w, ph, pw = sizes
    got = paste_centre(torch.zeros(1, h, w), torch.ones(1, ph, pw))
    assert got.shape == (1, h, w)
    assert float(got.sum()) <= min(h, ph) * min(w, pw)


def path(random=None, low: float = 0.0292, high: float = 14.6146) -> TreePath:
    draw = random or (lambda seed, size: stream(seed, "cpu", CPU)(size))
    return TreePath(torch.zeros(1, *SHAPE), [5], low, high, draw)


def test_brownian_increments_add_up_and_do_not_depend_on_the_order() -> None:
    one, two = path(), path()
    late = one.between(2.0, 0.5)
    early = one.between(10.0, 2.0)
    torch.testing.assert_close(two.between(10.0, 2.0), early)
    torch.testing.assert_close(two.between(2.0, 0.5), late)
    whole = two.between(10.0, 0.5)
    torch.testing.assert_close(whole * 9.5**0.5, early * 8**0.5 + late * 1.5**0.5, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(two.between(0.5, 2.0), -late)


def test_brownian_increments_have_unit_variance() -> None:
    draw = lambda seed, size: stream(seed, "cpu", CPU)(size)  # noqa: E731
    wide = TreePath(torch.zeros(1, 1, 200, 200), [1], 0.03, 14.6, draw)
    for pair in ((14.6, 9.0), (9.0, 1.0), (0.05, 0.03)):
        increment = wide.between(*pair)
        assert float(increment.mean()) == pytest.approx(0.0, abs=0.03)
        assert float(increment.std()) == pytest.approx(1.0, abs=0.03)


def test_brownian_source_is_used_and_torchsde_is_left_as_it_was() -> None:
    before = brownian_interval._randn
    nv = PictureNoise(NoiseSettings(5, "nv")).brownian((1, *SHAPE), 0.03, 14.6).between(9.0, 1.0)
    cpu = PictureNoise(NoiseSettings(5)).brownian((1, *SHAPE), 0.03, 14.6).between(9.0, 1.0)
    assert not torch.allclose(nv, cpu)
    assert brownian_interval._randn is before


def test_brownian_steps_finer_than_the_tree_are_still_noise() -> None:
    fine = TreePath(torch.zeros(1, 1, 100, 100), [1], 1e-9, 1.0, lambda seed, size: stream(seed, "cpu", CPU)(size))
    increment = fine.between(2e-9, 1e-9)
    assert float(increment.std()) == pytest.approx(1.0, abs=0.05)


def test_bad_sources_and_seeds() -> None:
    with pytest.raises(InvalidRequestError, match="noise source"):
        PictureNoise(NoiseSettings(1, "dice"))
    with pytest.raises(UnsupportedError, match="choose NV"):
        PictureNoise(NoiseSettings(1, "gpu"))
    with pytest.raises(InvalidRequestError, match="seed"):
        PictureNoise(NoiseSettings(2**64))
