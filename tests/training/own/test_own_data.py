"""Sets as batches: buckets, order, mirrors, masks, captions, caches; the numbers of noise and losses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.sampling.prediction import Prediction
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import InvalidRequestError, NotFoundError, UnsupportedError
from danqing.training.own.captions import CaptionRules, varied
from danqing.training.own.data import Order
from danqing.training.own.noise import Levels, noised, offset_noise, snr_weights, squared_error
from danqing.training.own.seeds import rng_of
from own_runs import context_of, make_set, opened_method, request_of

pytestmark = pytest.mark.filterwarnings("ignore")


def data_of(tiny_sd, tmp_path, **fields):
    return opened_method(request_of(**fields), context_of(tmp_path, tiny_sd)).data


def test_a_batch_has_one_shape_and_depends_on_its_number_alone(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=6)
    data = data_of(tiny_sd, tmp_path, steps=40, mirror=True)
    shapes = Counter()
    for number in range(20):
        batch = data.batch(number)
        buckets = {show.example.bucket for show in batch.shows}
        assert len(buckets) == 1
        wide, high = buckets.pop()
        assert batch.latents.shape == (2, 4, high // 8, wide // 8)
        assert batch.context.shape[:2] == (2, 77)
        shapes[wide, high] += 1
    assert set(shapes) == {(64, 64), (96, 48)} or len(shapes) == 2
    again = data_of(tiny_sd, tmp_path, steps=40, mirror=True).batch(13)
    one = data.batch(13)
    assert torch.equal(again.latents, one.latents)
    assert torch.equal(again.noise, one.noise)
    assert torch.equal(again.times, one.times)
    assert not torch.equal(data.batch(12).noise, one.noise)


def test_every_picture_is_shown_as_often_as_the_others():
    order = Order([[0, 1, 2, 2], [3, 4]], seed=1, per_step=2, steps=600)
    counts = Counter(index for step in range(600) for index in order.of(step))
    shown = {index: counts[index] / 1200 * 6 for index in counts}
    assert shown == pytest.approx({0: 1, 1: 1, 2: 2, 3: 1, 4: 1}, abs=0.15)
    # Inside a bucket the counts differ by one round at most.
    assert abs(counts[0] - counts[1]) <= 1
    assert abs(counts[3] - counts[4]) <= 1


def test_no_buckets_means_the_middle_square(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=6)
    data = data_of(tiny_sd, tmp_path, buckets=False)
    assert {one.bucket for one in data.examples} == {(64, 64)}


def test_a_set_can_ask_for_mirrors_itself(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=6, mirror=True)
    data = data_of(tiny_sd, tmp_path, steps=40)
    assert {show.mirrored for number in range(10) for show in data.batch(number).shows} == {True, False}


def test_a_mirrored_picture_has_the_latents_of_the_mirrored_file(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=1, masks=True)
    data = data_of(tiny_sd, tmp_path, mirror=True)
    plain, turned = (data.reader.picture(data.examples[0], mirrored=way) for way in (False, True))
    assert torch.equal(plain.flip(2), turned)
    assert not torch.equal(plain, turned)
    mask, other = (data.reader.mask(data.examples[0], mirrored=way) for way in (False, True))
    assert torch.equal(mask.flip(2), other)
    assert float(mask[0, :, :32].min()) == 1
    assert float(mask[0, :, 32:].max()) == 0
    seen = {show.mirrored for number in range(2) for show in data.shows(number)}
    assert seen <= {True, False}


def test_masked_parts_do_not_count(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=2, masks=True)
    data = data_of(tiny_sd, tmp_path)
    batch = data.batch(0)
    assert batch.mask.shape == (2, 1, 8, 8)
    found = noised(batch.latents, batch.noise, torch.tensor([0.5, 0.5]), Prediction.EPSILON, 0)
    answer = found.target.clone()
    answer[..., 4:] += 100.0
    assert torch.all(squared_error(answer, found, batch.mask) < 1e-8)
    answer[..., :4] += 1.0
    torch.testing.assert_close(squared_error(answer, found, batch.mask), torch.ones(2), rtol=1e-4, atol=1e-4)
    assert data_of(tiny_sd, tmp_path, masked=False).batch(0).mask is None


def test_what_is_not_cached_is_the_same(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=4)
    kept, fresh = data_of(tiny_sd, tmp_path), data_of(tiny_sd, tmp_path, cache=False)
    for number in range(3):
        assert torch.equal(kept.batch(number).latents, fresh.batch(number).latents)
        assert torch.equal(kept.batch(number).context, fresh.batch(number).context)


def test_latents_are_the_pictures(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=1)
    data = data_of(tiny_sd, tmp_path, batch=1)
    pixels = np.asarray(Image.open(tmp_path / "sets" / "cats" / "pictures" / "0.png"), np.float32) / 127.5 - 1
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    torch.testing.assert_close(data.batch(0).latents, data.opened.model.encode_image(picture).clone())


def test_captions_vary_as_asked():
    rules = CaptionRules(tag_dropout=0.5, shuffle_tags=True, keep_tags=1)
    said = {varied("zdq, a, b, c", rules, rng_of(0, "show", i)) for i in range(60)}
    assert all(one.split(", ")[0] == "zdq" for one in said)
    assert "zdq" in said
    assert len({one for one in said if one.count(",") == 3}) > 2
    assert varied("zdq, a", CaptionRules(caption_dropout=1.0), rng_of(0, "show", 0)) == ""
    assert varied("zdq,a", CaptionRules(), rng_of(0, "show", 0)) == "zdq,a"


def test_captions_get_the_trigger_word(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=2, trigger="zdq")
    data = data_of(tiny_sd, tmp_path)
    assert data.shows(0)[0].caption.startswith("zdq, the cat")


def test_pictures_of_the_class_are_shown_as_often_and_weigh_what_was_asked(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=4, kin=1, class_words="cat")
    request = {"method": "dreambooth", "prior_weight": 0.5, "prior_pictures": 0, "steps": 50}
    method = opened_method(request_of(**request), context_of(tmp_path, tiny_sd))
    shows = [show for number in range(50) for show in method.data.shows(number)]
    kin = sum(show.example.picture.regularisation for show in shows)
    assert kin == pytest.approx(50, abs=12)
    number = next(i for i in range(50) if any(s.example.picture.regularisation for s in method.data.shows(i)))
    batch = method.data.batch(number)
    marked = torch.tensor([s.example.picture.regularisation for s in batch.shows])
    assert torch.equal(batch.weights, torch.where(marked, 0.5, 1.0))


def test_noise_and_targets_follow_their_definitions():
    table = SigmaTable.scaled_linear()
    levels = Levels.uniform(table)
    times = torch.tensor([0, 500, 999])
    alphas = levels.signal(times)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert alphas.tolist() == pytest.approx(np.cumprod(1 - betas)[[0, 500, 999]].tolist(), rel=1e-5)
    x0, n = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    a, s = alphas.sqrt().view(3, 1, 1, 1), (1 - alphas).sqrt().view(3, 1, 1, 1)
    eps = noised(x0, n, alphas, Prediction.EPSILON, 0)
    v = noised(x0, n, alphas, Prediction.V, 0)
    assert torch.equal(eps.target, n)
    torch.testing.assert_close(eps.x, a * x0 + s * n)
    # From v and x both x₀ and n come back (Salimans and Ho 2022).
    torch.testing.assert_close(a * v.x - s * v.target, x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(s * v.x + a * v.target, n, rtol=1e-4, atol=1e-4)
    snr = (alphas / (1 - alphas)).double()
    gamma = snr_weights(alphas, Prediction.EPSILON, 5.0).double()
    torch.testing.assert_close(gamma, torch.minimum(snr, torch.tensor(5.0).double()) / snr, rtol=1e-4, atol=1e-6)
    assert torch.equal(snr_weights(alphas, Prediction.V, 0), torch.ones(3))
    assert snr_weights(torch.zeros(1), Prediction.V, 5.0).item() == 0
    moved = offset_noise(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 1, 1), 0.1)
    assert torch.equal(moved, torch.full((1, 4, 2, 2), 0.1))


def test_levels_are_drawn_from_every_slice_and_alike_each_time():
    levels = Levels.bell(SigmaTable.scaled_linear())
    times = levels.draw(3, 7, 64)
    assert np.array_equal(times, levels.draw(3, 7, 64))
    assert not np.array_equal(times, levels.draw(3, 8, 64))
    slices = np.sort(levels.cumulative[times])
    assert np.all(np.abs(slices - (np.arange(64) + 0.5) / 64) < 0.03)
    assert np.all(np.diff(levels.spread(8)) > 0)


def test_levels_between_two_time_steps_keep_their_shares():
    levels = Levels.bell(SigmaTable.scaled_linear())
    low = levels.between(0, 400)
    assert np.array_equal(levels.between(0, 999).draw(3, 7, 64), levels.draw(3, 7, 64))
    assert 350 < low.draw(1, 1, 256).max() <= 400
    high = levels.between(900, 999)
    assert high.draw(1, 1, 256).min() >= 900
    own = np.diff(levels.cumulative, prepend=0)[:401]
    assert np.allclose(np.diff(low.cumulative, prepend=0)[:401], own / own.sum())
    with pytest.raises(InvalidRequestError, match="no noise level"):
        levels.between(600, 500)


def test_what_cannot_be_trained_is_refused_with_the_reason(tiny_sd, tmp_path):
    make_set(tmp_path / "sets", count=1, kin=1)
    make_set(tmp_path / "sets", "good", count=2)
    with pytest.raises(InvalidRequestError, match="empty"):
        data_of(tiny_sd, tmp_path)
    with pytest.raises(NotFoundError, match="no training set"):
        data_of(tiny_sd, tmp_path, dataset="nothing")
    with pytest.raises(UnsupportedError, match="inpaint"):
        data_of(tiny_sd, tmp_path, dataset="good", model="tiny-inpaint")
    with pytest.raises(InvalidRequestError, match="prior preservation"):
        data_of(tiny_sd, tmp_path, dataset="good", method="dreambooth")
