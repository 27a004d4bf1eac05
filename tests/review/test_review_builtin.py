"""The built-in reviewer on an eye of arithmetic, on the real mini-CLIP, and the parts of a brief."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from danqing.models.clip import load
from danqing.review.builtin import BuiltinReviewer
from danqing.review.phrases import colors_in, phrases_of, units_of
from danqing.review.places import subject_box, windows
from danqing.store.vectors import unit


class WordEye:
    """A picture shows the words it was told it shows; a text is the sum of its words."""

    sha256 = "ab" * 32

    def __init__(self, *shown: str) -> None:
        self.shown = shown

    def embed_images(self, pictures):
        return np.repeat(unit(self._sum(self.shown)[None]), len(pictures), axis=0)

    def embed_texts(self, texts):
        return unit(np.stack([self._sum(text.replace(",", " ").split()) for text in texts]))

    def logits(self, images, texts):
        return (images @ texts.T) * np.float32(12.0) - np.float32(8.0)

    def _sum(self, words):
        total = np.zeros(256, np.float64)
        for word in words:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            total += np.random.default_rng(seed).normal(size=256)
        return total


def picture(ground=(40, 80, 220), ink=(220, 30, 30)) -> Image.Image:
    image = Image.new("RGB", (128, 128), ground)
    ImageDraw.Draw(image).ellipse((40, 30, 90, 100), fill=ink, outline=(10, 10, 10), width=3)
    return image


def test_what_is_missing_is_named_with_its_place():
    brief = "red apple, flat, blue background"
    assert (
        BuiltinReviewer(WordEye("red", "apple", "flat", "blue", "background")).review(picture(), brief).suggestions
        == ()
    )
    found = BuiltinReviewer(WordEye("red", "flat", "blue", "background")).review(picture(), brief)
    (one,) = found.suggestions
    assert one.prompt == "red apple"
    assert "apple" in one.reason
    left, top, right, bottom = one.box.as_tuple()
    assert left <= 40
    assert right >= 90
    assert top <= 30
    assert bottom >= 100
    assert right - left < 80
    style = BuiltinReviewer(WordEye("red", "apple", "blue", "background")).review(picture(), brief).suggestions
    assert [(one.prompt, one.box) for one in style] == [("flat", None)]


def test_colours_are_measured():
    eye = WordEye("red", "apple", "blue", "background")
    green = BuiltinReviewer(eye).review(picture(ink=(30, 180, 50)), "red apple, blue background").suggestions
    assert [one.prompt for one in green] == ["red apple"]
    assert "red is asked for; measured: " in green[0].reason
    ground = BuiltinReviewer(eye).review(picture(ground=(250, 220, 40)), "red apple, blue background").suggestions
    assert [(one.prompt, one.box) for one in ground] == [("blue background", None)]
    assert BuiltinReviewer(eye).review(picture(), "red apple, blue background").suggestions == ()


def test_faults_of_the_pixels_are_found_beside_the_words():
    flat = Image.new("RGB", (128, 128), (120, 120, 120))
    found = BuiltinReviewer(WordEye("apple")).review(flat, "apple")
    assert "low contrast" in found.suggestions[0].reason


def test_in_a_busy_picture_windows_are_looked_at():
    rng = np.random.default_rng(0)
    busy = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
    found = BuiltinReviewer(WordEye("dog", "street")).review(busy, "black cat, street")
    box = found.suggestions[0].box
    assert box is not None
    assert (box.width_px, box.height_px) == (64, 48)
    assert len(windows(busy)) == 9


def test_a_picture_unlike_its_whole_brief_is_told_once():
    found = BuiltinReviewer(WordEye("nothing", "alike")).review(picture(), "wolf")
    assert [one.prompt for one in found.suggestions] == ["wolf"]
    assert "as a whole" in found.suggestions[0].reason


@pytest.mark.parametrize(
    "brief", ["a", ",,,", "((((", "<lora:x:1>", "猫，蓝色背景", "x" * 4000, "a, " * 900, "(a:b:c) [d|e"]
)
@pytest.mark.parametrize("size", [(1, 1), (8, 200)])
def test_any_brief_and_picture_can_be_reviewed(brief: str, size: tuple[int, int]):
    found = BuiltinReviewer(WordEye("a")).review(Image.new("RGBA", size), brief)
    assert len(found.suggestions) <= 4


def test_the_real_mini_clip_prefers_pictures_that_fit():
    reviewer = BuiltinReviewer(load())
    wrong = reviewer.review(picture(ground=(250, 250, 250)), "yellow star, flat, blue background")
    assert {"yellow star", "blue background"} <= {one.prompt for one in wrong.suggestions}
    assert "chance of 0.0" in wrong.note


def test_briefs_are_taken_apart():
    assert phrases_of("(red:1.3) apple，3d; on a blue background.") == ("red apple", "3d", "on a blue background.")
    assert phrases_of("") == ()
    assert [unit.words for unit in units_of(("a cat",))] == []
    assert colors_in("深蓝色背景") == ("dark blue",)
    assert colors_in("a reddish infrared thing") == ()


def test_the_subject_of_a_plain_ground_and_of_a_gradient():
    assert subject_box(Image.new("RGB", (64, 64), "red")) is None
    assert subject_box(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))) is None
    ramp = np.tile(np.linspace(60, 200, 128)[:, None, None], (1, 128, 3)).astype(np.uint8)
    ramp[50:80, 30:60] = (255, 0, 0)
    left, top, right, bottom = subject_box(Image.fromarray(ramp)).as_tuple()
    assert (abs(left - 25), abs(top - 45), abs(right - 65), abs(bottom - 85)) < (4, 4, 4, 4)
