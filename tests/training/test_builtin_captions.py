"""Captions in three scripts, and the tokenizer that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from danqing.spec.registry.colors import CHROMATIC, COLORS
from danqing.training.builtin.captions import (
    CHINESE,
    ENGLISH,
    Words,
    article,
    background_words,
    draw_caption,
    plural,
    say,
    style_words,
)
from danqing.training.builtin.config import CaptionConfig, TrainConfig
from danqing.training.builtin.dataset import Concept, Dataset, Picture
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.scenes import BACKGROUNDS, Scene
from danqing.training.builtin.tokenizer import caption_corpus, save_tokenizer, train_tokenizer

EVERYTHING = CaptionConfig(chinese=0.5, dropout=0.0)


def captions(picture: Picture, config: CaptionConfig, scene: Scene, count: int = 300, **more: str) -> list[str]:
    return [draw_caption(picture, config, scene, step_rng(1, "captions", i), **more) for i in range(count)]


def test_captions_are_deterministic_and_varied(built: Dataset) -> None:
    config = CaptionConfig(chinese=0.34, dropout=0.1)
    first = captions(built.pictures[0], config, Scene(), 800)
    assert first == captions(built.pictures[0], config, Scene(), 800)
    assert len(set(first)) > 30
    assert 0.06 < first.count("") / 800 < 0.15
    assert any("3d" in c for c in first)


def test_one_in_three_is_chinese_in_both_scripts(built: Dataset) -> None:
    found = captions(built.pictures[0], CaptionConfig(chinese=0.34, dropout=0.0), Scene(), 1500)
    simple = sum("苹果" in c for c in found) / 1500
    traditional = sum("蘋果" in c for c in found) / 1500
    assert simple + traditional == pytest.approx(0.34, abs=0.04)
    assert simple == pytest.approx(2 * traditional, rel=0.3)
    assert all("apple" in c for c in found if "果" not in c)


def test_a_picture_without_chinese_words_is_spoken_of_in_english() -> None:
    named = Picture(0, "icon", Concept("name:gear", "icon", {"en": ("gear",)}))
    assert all("gear" in c for c in captions(named, CaptionConfig(chinese=1.0, dropout=0.0), Scene(), 50))


def test_the_prompts_of_the_brief_come_out() -> None:
    english = Words("apple", "3d", "red", background=("dark blue",))
    assert say(english, "en", 2, 1) == "a red apple, 3d, on a dark blue background"
    assert say(english, "en") == "red apple, 3d, dark blue background"
    assert say(Words("蘋果", "3d", "紅色", background=("dark blue",)), "zh-hant") == "紅色的蘋果，3d，深藍色背景"
    assert say(Words("苹果", "3d", "红色", background=("dark blue",)), "zh") == "红色的苹果，3d，深蓝色背景"
    assert say(Words("apple"), "en") == "apple"
    assert say(Words("cat", "flat", count=3, background=("red", "light blue")), "en", 2) == (
        "three cats, flat, red to light blue gradient background"
    )
    assert say(Words("猫", "扁平", count=3, background=("red", "blue")), "zh") == "三个猫，扁平，红色到蓝色渐变背景"
    assert say(Words("貓", "", "藍色", count=2, background=("transparent",)), "zh-hant") == "兩個藍色的貓，透明背景"


def test_prompts_of_the_brief_are_among_what_is_learnt() -> None:
    apple = Picture(0, "3d", Concept("1F34E", "food-fruit", {"en": ("apple",), "zh-hant": ("蘋果",)}))
    scene = Scene(background=("dark blue",), hue="red", turn_deg=1.0)
    found = set(captions(apple, EVERYTHING, scene, 600))
    assert {"a red apple, 3d, on a dark blue background", "紅色的蘋果，3d，深藍色背景"} <= found


@pytest.mark.parametrize(
    ("word", "expected"),
    [("apple", "an apple"), ("cat", "a cat"), ("Orange", "an Orange"), ("unicorn", "a unicorn"), ("owl", "an owl")],
)
def test_articles(word: str, expected: str) -> None:
    assert article(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cat", "cats"),
        ("cherries", "cherries"),
        ("peach", "peaches"),
        ("fox", "foxes"),
        ("baby", "babies"),
        ("monkey", "monkeys"),
        ("paintbrush", "paintbrushes"),
    ],
)
def test_plurals(word: str, expected: str) -> None:
    assert plural(word) == expected


def test_the_article_is_that_of_the_colour() -> None:
    assert say(Words("apple", color="green"), "en", 2) == "a green apple"
    assert say(Words("cat", color="orange"), "en", 2) == "an orange cat"
    assert say(Words("cat", background=("orange",)), "en", 0, 1) == "cat, on an orange background"


def test_the_background_is_named(built: Dataset) -> None:
    for key in BACKGROUNDS:
        for caption in captions(built.pictures[1], EVERYTHING, Scene(background=(key,)), 12):
            names = [COLORS[key].name(locale) for locale in ("en", "zh", "zh-hant")]
            assert any(name in caption for name in names)
            assert "background" in caption or "背景" in caption
    plain = captions(built.pictures[1], EVERYTHING, Scene(), 400)
    said = sum("background" in c or "背景" in c for c in plain) / 400
    assert said == pytest.approx(0.2, abs=0.06)
    assert background_words(("white",), "en", say_white=True) == ", white background"


def test_a_changed_colour_is_always_said_and_an_own_one_now_and_then() -> None:
    cat = Picture(0, "flat", Concept("1F431", "animal", {"en": ("cat face",), "zh": ("猫",)}))
    for caption in captions(cat, EVERYTHING, Scene(hue="blue", turn_deg=90.0), 40):
        assert "blue cat" in caption or "蓝色的猫" in caption
    own = captions(cat, EVERYTHING, Scene(), 500, own_color="orange")
    assert sum("orange" in c or "橙色" in c for c in own) / 500 == pytest.approx(0.2, abs=0.06)
    for label, style in (("red apple", "flat"), ("cat face", "line")):
        quiet = Picture(0, style, Concept("1F431", "animal", {"en": (label,)}))
        assert not any("orange" in c for c in captions(quiet, EVERYTHING, Scene(), 100, own_color="orange"))


def test_styles_have_words_or_keep_their_name() -> None:
    assert style_words("line", "en") == ("line art",)
    assert style_words("line", "zh-hant") == ("線稿",)
    assert style_words("blob", "zh") == ("blob",)


LABEL = st.text(alphabet="abcdefghijklmnopqrstuvwxyz -{}%", min_size=1, max_size=12).filter(lambda t: t.strip() == t)
HAN = st.text(alphabet="红苹果蘋貓猫太阳", min_size=1, max_size=4)
BACK = st.one_of(
    st.sampled_from([("white",), ("transparent",)]),
    st.tuples(st.sampled_from(BACKGROUNDS)),
    st.tuples(st.sampled_from(BACKGROUNDS), st.sampled_from(BACKGROUNDS)),
)


def check_form(caption: str) -> None:
    for wrong in (", ,", ",,", "，，", "{subject}", "{a_subject}", "{style}", "{tags}", "{back}", "{0}", "{a_0}"):
        assert wrong not in caption
    assert not caption.startswith((",", "，"))
    assert not caption.endswith((",", "，"))


@settings(max_examples=150, deadline=None)
@given(
    english=st.lists(LABEL, min_size=1, max_size=4, unique=True),
    chinese=st.lists(HAN, max_size=4, unique=True),
    style=st.sampled_from(["flat", "3d", "line", "gradient", "cartoon", "icon", "noto"]),
    scene=st.builds(
        Scene,
        background=BACK,
        hue=st.one_of(st.none(), st.sampled_from(CHROMATIC)),
        count=st.integers(1, 4),
    ),
    own=st.one_of(st.none(), st.sampled_from(CHROMATIC)),
    seed=st.integers(0, 2**32 - 1),
)
def test_captions_are_well_formed(
    english: list[str], chinese: list[str], style: str, scene: Scene, own: str | None, seed: int
) -> None:
    words = {"en": tuple(english)} | ({"zh": tuple(chinese), "zh-hant": tuple(chinese)} if chinese else {})
    config = CaptionConfig(chinese=0.5, dropout=0.0, tag_as_label=0.3)
    caption = draw_caption(Picture(0, style, Concept("X", "y", words)), config, scene, np.random.default_rng(seed), own)
    assert caption
    check_form(caption)
    assert scene.count > 1 or any(word in caption for word in (*english, *chinese))


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Words,
        label=LABEL,
        style=st.sampled_from(["", "3d"]),
        color=st.sampled_from(["", "red"]),
        count=st.integers(1, 4),
        tags=st.lists(LABEL, max_size=3).map(tuple),
        background=BACK,
    ),
    st.sampled_from(["en", "zh", "zh-hant"]),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_said_captions_are_well_formed(words: Words, locale: str, template: int, variant: int) -> None:
    check_form(say(words, locale, template % len(ENGLISH if locale == "en" else CHINESE), variant))


def test_tokenizer_round_trip(built: Dataset, config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    save_tokenizer(train_tokenizer(caption_corpus(built, config), 700), folder)
    assert {p.name for p in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    for text in ("red apple", "红苹果", "紅蘋果", "天安门 never seen 龘", "é 🍎"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == 77
    assert tokenizer.tokenize("apple, banana").count(",</w>") == 1


def test_the_corpus_is_fixed_by_the_seed(built: Dataset, config: TrainConfig) -> None:
    corpus = caption_corpus(built, config, each=8)
    assert corpus == caption_corpus(built, config, each=8)
    assert len(corpus) == 8 * len(built.pictures)
    assert any("背景" in c for c in corpus)
