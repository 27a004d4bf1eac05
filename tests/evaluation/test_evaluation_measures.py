"""Every measure on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset
from danqing.training.builtin.scenes import Scene, paint_scene
from danqing.training.evaluation.choosing import (
    other_concepts,
    pick_caption,
    pick_kin,
    pick_style,
    rate,
    successes,
)
from danqing.training.evaluation.distances import frechet, histogram, mean_pairwise, nearest
from danqing.training.evaluation.edges import edge_f1, edges_of
from danqing.training.evaluation.pixels import obeys_background, obeys_color, obeys_shade, subject_color
from danqing.training.evaluation.prompts import (
    Prompt,
    combination,
    false_kin,
    make_prompts,
    paint_prompts,
    seen_combinations,
)
from danqing.training.evaluation.style import learn_styles


class Perfect:
    """A judge that knows each picture's captions by heart."""

    def __init__(self, prompts: tuple[Prompt, ...], locale: str) -> None:
        self.captions = [p.captions[locale] for p in prompts]
        self.known = sorted(set(self.captions))

    def embed_images(self, pictures: np.ndarray) -> np.ndarray:
        return self.embed_texts(self.captions)[: len(pictures)]

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        out = np.zeros((len(texts), len(self.known) + 1), np.float32)
        for i, text in enumerate(texts):
            out[i, self.known.index(text) if text in self.known else -1] = 1.0
        return out


class Uniform:
    """A judge to whom everything looks alike."""

    def embed_images(self, pictures: np.ndarray) -> np.ndarray:
        return np.ones((len(pictures), 3), np.float32)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 3), np.float32)


@pytest.fixture
def prompts(learnt: Dataset, config: TrainConfig) -> tuple[Prompt, ...]:
    return make_prompts(learnt, seen_combinations(learnt, config), config, 8)


def test_prompts_are_unseen_fixed_and_in_three_languages(learnt: Dataset, config: TrainConfig):
    seen = seen_combinations(learnt, config)
    first, again = (make_prompts(learnt, seen, config, 12) for _ in range(2))
    assert first == again
    assert not {combination(p.picture, p.scene) for p in first} & seen
    assert len({p.captions["en"] for p in first}) == 12
    assert len({p.concept for p in first[:8]}) == 8
    for prompt in first:
        assert "背景" in prompt.captions["zh"]
        assert "background" in prompt.captions["en"]
        assert prompt.captions["zh-hant"] != prompt.captions["en"]
    assert {p.picture.style for p in first} == {"flat", "line"}
    assert any(p.scene.hue for p in first)


def test_perfect_and_uniform_judges(prompts: tuple[Prompt, ...]):
    pictures = np.zeros((len(prompts), 4, 4, 3), np.uint8)
    for locale in ("en", "zh"):
        assert pick_caption(Perfect(prompts, locale), pictures, prompts, locale, 5).tolist() == [1.0] * 8
        assert pick_kin(Perfect(prompts, locale), pictures, prompts, locale, 50).tolist() == [1.0] * 8
        assert pick_caption(Uniform(), pictures, prompts, locale, 5).tolist() == [0.2] * 8
        assert pick_kin(Uniform(), pictures, prompts, locale, 50).tolist() == pytest.approx([0.02] * 8)
    assert pick_style(Perfect(prompts, "en"), pictures, prompts).tolist() == [1.0] * 8
    assert pick_style(Uniform(), pictures, prompts).tolist() == [0.5] * 8


def test_choices_are_of_other_concepts_and_kin_are_false(prompts: tuple[Prompt, ...]):
    choices = other_concepts(prompts, 50)
    assert choices.shape == (8, 8)
    for i, row in enumerate(choices):
        assert row[0] == i
        assert prompts[i].concept not in {prompts[j].concept for j in row[1:]}
    for prompt in prompts:
        kin = false_kin(prompt, ("flat", "line"), 49, np.random.default_rng(0))
        assert len(set(kin)) == 49
        for concept, style, hue, background in kin:
            assert concept == prompt.concept
            # A caption that only leaves the colour out would be true.
            assert (hue is None) == (prompt.scene.hue is None)
            assert (style, hue, background) != (prompt.picture.style, prompt.scene.hue, prompt.scene.background)


def test_a_tie_counts_its_share():
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]], [[1, 0], [0, 1], [1, 0], [1, 0]]], np.float32)
    assert successes(images, texts).tolist() == [0.5, 0.0]
    found = rate([1.0] * 125 + [0.0] * 75)
    assert (found.share, found.count) == (0.625, 200)
    assert (round(found.low, 3), round(found.high, 3)) == (0.556, 0.689)
    assert rate([]).count == 0


def test_frechet_of_identical_and_shifted_sets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)).astype(np.float32)
    shift = np.array([0.5, -1, 0, 2, 0, 0.25], np.float32)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + shift) == pytest.approx(float(shift @ shift), rel=1e-5)
    # diagonal Gaussians: the sum of the squared differences of the spreads
    centred = x - x.mean(0)
    whole = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False))).T
    assert frechet(whole, 3 * whole) == pytest.approx(6 * (3 - 1) ** 2, rel=1e-3)


def test_pairs_and_neighbours():
    axes = np.eye(3, dtype=np.float32)
    assert mean_pairwise(axes) == pytest.approx(1.0)
    assert mean_pairwise(axes[[0, 0, 0]]) == pytest.approx(0.0)
    assert mean_pairwise(axes[:1]) == 0.0
    near = nearest(axes[:2], np.array([[0, 1, 0], [0.6, 0.8, 0]], np.float32))
    assert near.index.tolist() == [1, 0]
    assert near.distance.tolist() == pytest.approx([0.4, 0.0], abs=1e-6)
    assert histogram(np.array([-0.1, 0.05, 0.3, 1.0, 2.0]), [0.0, 0.1, 0.5, 1.0]) == [2, 1, 2]


def test_edge_f1_of_identical_near_and_far_edges():
    edges = np.zeros((32, 32), bool)
    edges[8] = True
    assert edge_f1(edges, edges) == 1.0
    assert edge_f1(edges, np.roll(edges, 1, 0)) == 1.0
    assert edge_f1(edges, np.roll(edges, 2, 0)) == 0.0
    half = edges.copy()
    half[:, 16:] = False
    # all of it right, 17 of 32 columns found (one by tolerance)
    assert edge_f1(edges, half) == pytest.approx(2 * (17 / 32) / (1 + 17 / 32))
    assert edge_f1(edges, np.zeros_like(edges)) == 0.0
    assert edge_f1(np.zeros_like(edges), np.zeros_like(edges)) == 1.0


def test_edges_of_lines_and_areas():
    lines = np.zeros((32, 32, 3), np.uint8)
    lines[:, 10] = 255
    assert edges_of(lines, "lines").sum() == 32
    soft = np.zeros((32, 32, 3), np.uint8)
    soft[:, 8:13] = np.array([60, 150, 250, 150, 60], np.uint8)[:, None]
    assert np.flatnonzero(edges_of(soft, "soft").any(0)).tolist() == [10]
    areas = np.zeros((32, 32, 3), np.uint8)
    areas[:, 16:] = (0, 200, 0)
    found = edges_of(areas, "areas")
    assert found[:, 14:18].any(1).all()
    assert not found[:, :12].any()
    assert not edges_of(np.zeros_like(areas), "areas").any()


def test_colour_and_background_obedience_on_painted_scenes(drawings: Dataset):
    disc = drawings.rgba[8]
    for ground in (("white",), ("dark blue",), ("light yellow",), ("red", "blue"), ("dark red", "red"), ("black",)):
        for scene in (Scene(background=ground, scale=0.84), Scene(background=ground, vertical=False)):
            rgb = paint_scene(disc, scene, 128)
            assert subject_color(rgb) == "green", ground
            assert obeys_background(rgb, scene), ground
            assert obeys_color(rgb, scene) is None
            wanted = Scene(background=("purple",), hue="pink")
            assert obeys_background(rgb, wanted) is False
            assert obeys_color(rgb, wanted) is False
    assert obeys_shade(paint_scene(disc, Scene(background=("dark blue",)), 128), Scene(background=("dark blue",)))
    assert obeys_shade(paint_scene(disc, Scene(background=("blue",)), 128), Scene(background=("dark blue",))) is False
    assert obeys_background(paint_scene(disc, Scene(), 64), Scene(background=("transparent",))) is None
    assert subject_color(np.full((64, 64, 3), 90, np.uint8)) is None


def test_prompts_of_painted_scenes_obey(learnt: Dataset, prompts: tuple[Prompt, ...]):
    for rgb, prompt in zip(paint_prompts(learnt, prompts, 96), prompts, strict=True):
        assert obeys_color(rgb, prompt.scene) in (None, True), prompt
        assert obeys_background(rgb, prompt.scene), prompt


def test_styles_are_read_from_pixels(drawings: Dataset):
    def scenes(ground: str) -> np.ndarray:
        return np.stack([paint_scene(rgba, Scene(background=(ground,)), 64) for rgba in drawings.rgba])

    styles = [picture.style for picture in drawings.pictures]
    reader = learn_styles(np.concatenate([scenes("white"), scenes("yellow")]), [*styles, *styles])
    assert reader.styles == ("flat", "line")
    assert reader.read(scenes("pink")) == styles
