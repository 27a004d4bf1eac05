"""Words for pictures: on planted embeddings, where the right answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from danqing.models.backdrop import measure_palette
from danqing.models.interrogate import Interrogator
from danqing.models.vocabulary import LOCALES, load_vocabulary, parse_concept
from danqing.models.word_vectors import WordVectors
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.registry.colors import COLORS
from danqing.spec.registry.picture_styles import PICTURE_STYLES
from danqing.spec.sight import LANGUAGES
from danqing.store.vectors import sigmoid, unit
from tiny_clip import VOCABULARY

CONCEPTS = tuple(concept for concept in map(parse_concept, VOCABULARY) if concept is not None)
# Directions: apple, cat, car, 3d, line, anything else.
AXES = {
    **dict.fromkeys(("apple", "苹果", "蘋果", "fruit", "水果"), 0),
    **dict.fromkeys(("cat", "猫", "貓", "pet", "宠物", "寵物"), 1),
    **dict.fromkeys(("automobile", "car"), 2),
    "3d": 3,
    **dict.fromkeys(("line art", "线稿", "線稿"), 4),
}


def embed(texts) -> np.ndarray:
    out = np.zeros((len(texts), 6), np.float32)
    for row, text in enumerate(texts):
        out[row, 5] = 0.1
        for word, axis in AXES.items():
            if word in text:
                out[row, axis] = 1.0
    return unit(out)


class Planted:
    """Sees what it was told to see."""

    sha256 = "e" * 64

    def __init__(self, **seen: float) -> None:
        vector = np.zeros((1, 6), np.float32)
        for word, share in seen.items():
            vector[0, AXES[word.replace("_", " ")]] = share
        self.vector = unit(vector)

    def embed_images(self, pictures):
        return np.repeat(self.vector, len(pictures), axis=0)

    def logits(self, images, texts):
        return images @ texts.T * 10.0 - 5.0

    def scores(self, images, texts):
        return sigmoid(self.logits(images, texts))


def drawing(subject="red", ground: str | None = "dark blue", size=(96, 96)) -> Image.Image:
    fill = (0, 0, 0, 0) if ground is None else (*COLORS[ground].rgb, 255)
    image = Image.new("RGBA", size, fill)
    ImageDraw.Draw(image).ellipse((24, 24, 72, 72), fill=(*COLORS[subject].rgb, 255))
    return image


def look(eye: Planted, picture: Image.Image, **options):
    words = WordVectors(embed, None, "x")
    return Interrogator(eye, CONCEPTS, words, **options).look(picture, 4)


def test_a_red_apple_in_three_languages():
    found = look(Planted(apple=1.0, **{"3d": 1.0}), drawing())
    captions = {language: found.wording(language).caption for language in LANGUAGES}
    assert captions == {
        "en": "a red apple, 3d, on a dark blue background",
        "zh-Hans": "红苹果，3d，深蓝色背景",
        "zh-Hant": "紅蘋果，3d，深藍色背景",
    }
    assert (found.concept, found.style) == ("1F34E", "3d")
    assert found.style_score > 0.4
    assert found.colors[0].key == "red"
    english = found.wording("en")
    assert {tag.text for tag in english.tags[:2]} == {"apple", "fruit"}
    assert english.label not in {tag.text for tag in english.tags}
    scores = [tag.score for tag in english.tags]
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert len(scores) == 4
    assert found.wording("zh-Hans").colors == ("红色",)


def test_the_colour_is_said_where_the_label_does_not_say_it():
    found = look(Planted(cat=1.0, line_art=1.0), drawing("orange", None))
    assert found.wording("en").caption == "an orange cat, line art, transparent background"
    assert found.wording("zh-Hant").caption == "橙色的貓，線稿，透明背景"
    assert {tag.text for tag in found.wording("zh-Hant").tags[:1]} == {"寵物"}, "lists inside a tag are taken apart"


def test_no_style_is_said_where_none_is_likely():
    found = look(Planted(car=1.0), drawing("green", "yellow"))
    assert found.style is None
    assert found.wording("en").caption == "a green automobile, on a yellow background"
    assert found.wording("zh-Hans").label == "automobile", "what has no Chinese name keeps its English one"
    assert look(Planted(car=1.0), drawing(), styles=()).style_score == 0.0


def test_backgrounds():
    assert measure_palette(drawing(ground="light green")).background.colors == ("light green",)
    assert measure_palette(Image.new("RGB", (1, 1), (250, 250, 250))).background.colors == ("white",)
    y = np.linspace(0, 1, 64)[:, None, None]
    ramp = (1 - y) * np.array(COLORS["yellow"].rgb) + y * np.array(COLORS["purple"].rgb)
    upright = Image.fromarray(np.broadcast_to(ramp, (64, 64, 3)).astype(np.uint8))
    assert measure_palette(upright).background.model_dump() == {"kind": "gradient", "colors": ("yellow", "purple")}
    lying = measure_palette(upright.rotate(90))
    assert (lying.background.kind, lying.background.colors) == ("gradient", ("yellow", "purple"))
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert measure_palette(Image.fromarray(noise)).background.kind == "busy"
    two = look(Planted(cat=1.0), upright)
    assert two.wording("en").background == "yellow to purple gradient background"
    assert two.wording("zh-Hant").background == "黃色到紫色漸變背景"


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1"]),
    st.integers(0, 255),
)
def test_any_picture_can_be_measured(size, mode, value):
    palette = measure_palette(
        Image.new(mode, size, (value,) * len(mode) if mode in ("RGB", "RGBA", "LA") else value % 2)
    )
    assert sum(color.share for color in palette.colors) <= 1.0 + 1e-6


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["hexcode", *LOCALES]), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_concept_or_none(entry):
    concept = parse_concept(entry)
    if concept is not None:
        assert concept.hexcode
        for locale in LOCALES:
            words = concept.words[locale]
            assert words
            assert len(set(words)) == len(words)
            assert all(word and word == " ".join(word.split()) for word in words)


def test_a_vocabulary_that_is_missing_or_damaged(tmp_path: Path):
    path = tmp_path / "vocabulary.json"
    with pytest.raises(MissingWeightsError):
        load_vocabulary(path)
    for text in ("{", "{}", "[]", '[{"hexcode": "1"}]', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(BadFileError, match="vocabulary"):
            load_vocabulary(path)
    path.write_text(json.dumps([*VOCABULARY, *VOCABULARY, "nonsense"]))
    assert load_vocabulary(path) == CONCEPTS


def test_words_are_embedded_once(tmp_path: Path):
    asked: list[str] = []

    def counted(texts):
        asked.extend(texts)
        return embed(texts)

    first = WordVectors(counted, tmp_path / "cache", "a" * 64)
    one = first.get(["cat", "apple", "cat"])
    assert np.array_equal(one[0], one[2])
    assert first.get([]).shape == (0, 6)
    again = WordVectors(counted, tmp_path / "cache", "a" * 64)
    assert np.array_equal(again.get(["apple", "cat"]), one[1::-1])
    assert asked == ["cat", "apple"]
    assert len(WordVectors(counted, tmp_path / "cache", "b" * 64)) == 0, "other weights, other vectors"
    (file,) = (tmp_path / "cache").iterdir()
    for damage in (b"", b"PK\3\4 no", file.read_bytes()[:100]):
        file.write_bytes(damage)
        assert np.array_equal(WordVectors(counted, tmp_path / "cache", "a" * 64).get(["cat", "apple", "cat"]), one)


def test_styles_have_a_word_in_every_language():
    assert all(style.name(locale) for style in PICTURE_STYLES.values() for locale in LOCALES)
