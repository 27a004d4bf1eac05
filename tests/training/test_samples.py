"""The samples that are shipped: what they are learnt from, what their sheets show, and that they are there and work."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from danqing.cli.main import run
from danqing.models.catalog import Catalog
from danqing.models.diffusers_folders import BUILTIN_DIR
from danqing.models.network_cards import NetworkCards
from danqing.sets.folder import read_set
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.training import parse_training
from danqing.training.builtin.dataset import Concept, Dataset, Picture, save
from danqing.training.samples.__main__ import main
from danqing.training.samples.config import Painting, Sample, load_samples
from danqing.training.samples.looks import BLUE, CREAM, RED, shown
from danqing.training.samples.make import FOLDERS, Places, make, orders
from danqing.training.samples.sets import make_set

LIMIT_BYTES = 10_000_000
DOCS = Path(__file__).parents[2] / "docs" / "samples.md"
SAMPLES = {sample.name: sample for sample in load_samples()}


def disc(alpha: int = 255) -> np.ndarray:
    """A black disc on nothing."""
    y, x = np.mgrid[:128, :128] - 63.5
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[..., 3] = np.where(x**2 + y**2 < 40**2, alpha, 0)
    return rgba


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    names = ("red apple", "house", "fish", "rocket")
    pictures = [
        Picture(i, style, Concept(f"1F{i:03}", "food-fruit", {"en": (name,)}))
        for i, (style, name) in enumerate((style, name) for style in ("line", "flat") for name in names)
    ]
    save(Dataset(tuple(pictures), np.stack([disc()] * len(pictures))), tmp_path / "drawings")
    return tmp_path / "drawings"


def test_every_sample_is_asked_for_in_words_that_a_trainer_takes():
    methods = [sample.request["method"] for sample in SAMPLES.values()]
    assert methods.count("lora") == 6
    assert methods.count("hypernetwork") == 1
    negatives = [bool(one.request.get("negative")) for one in SAMPLES.values() if one.request["method"] == "embedding"]
    assert sorted(negatives) == [False, True]
    for sample in SAMPLES.values():
        parse_training({"name": sample.name, "dataset": sample.name, **sample.request})
        assert bool(sample.styles) != bool(sample.paintings)
        assert len(set(sample.prompts)) == len(sample.prompts)


def test_looks_show_a_drawing_in_other_crafts():
    assert shown(disc(), "blueprint").getpixel((64, 64)) == (255, 255, 255)
    assert shown(disc(), "blueprint").getpixel((2, 2)) == BLUE
    assert shown(disc(), "papercut").getpixel((64, 64)) == RED
    assert shown(disc(), "papercut").getpixel((2, 2)) == CREAM
    cells = np.asarray(shown(disc(), "pixels")).reshape(16, 8, 16, 8, 3)
    assert (cells.max((1, 3)) == cells.min((1, 3))).all()
    edges = {
        look: np.abs(np.diff(np.asarray(shown(disc(), look), float), axis=1)).max() for look in ("drawn", "smudged")
    }
    assert edges["smudged"] < 0.3 * edges["drawn"]


def test_a_set_of_drawings_says_what_they_show_and_not_how(drawings, tmp_path):
    sample = SAMPLES["papercut"].model_copy(update={"pictures": 2})
    make_set(sample, tmp_path / "sets", drawings, tmp_path)
    made = read_set(tmp_path / "sets" / "papercut")
    assert len(made.pictures) == 2
    assert {one.caption for one in made.pictures} <= {"red apple", "house", "fish", "rocket"}
    assert (made.trigger, made.licence_note) == (sample.trigger, sample.licence_note)
    two = sample.model_copy(update={"styles": ("line", "flat")})
    captions = [one.caption for one in make_set(two, tmp_path / "more", drawings, tmp_path).pictures]
    assert sorted(one.rpartition(", ")[2] for one in captions) == ["flat", "flat", "line art", "line art"]


def test_a_painting_is_learnt_whole_and_in_quarters_and_only_if_it_is_the_same(tmp_path):
    path = tmp_path / "wave.png"
    pixels = np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    painting = Painting(file="wave.png", caption="wave", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    sample = SAMPLES["hokusai"].model_copy(update={"paintings": (painting,)})
    made = make_set(sample, tmp_path / "sets", tmp_path, tmp_path)
    sizes = [(one.width_px, one.height_px) for one in made.pictures]
    assert sizes == [(512, 341), *[(307, 205)] * 4]
    other = painting.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(BadFileError, match="another file"):
        make_set(sample.model_copy(update={"paintings": (other,)}), tmp_path / "b", tmp_path, tmp_path)
    with pytest.raises(MissingWeightsError, match="not there"):
        make_set(sample, tmp_path / "c", tmp_path, tmp_path / "nowhere")


def test_a_sheet_shows_the_same_prompts_and_seeds_without_and_with_it():
    without, used = orders(SAMPLES["papercut"])
    assert [one.seed for one in without] == [one.seed for one in used] == list(range(8))
    assert used[0].prompt == f"{without[0].prompt} <lora:papercut:1>"
    light = SAMPLES["hokusai"].model_copy(update={"weight": 0.65})
    assert orders(light)[1][0].prompt.endswith("<lora:hokusai:0.65>")
    without, used = orders(SAMPLES["dq-smudge"])
    assert [one.prompt for one in without] == [one.prompt for one in used]
    assert {one.negative for one in used} == {"dq-smudge"}
    without, used = orders(SAMPLES["inkline"])
    assert (without[1].prompt, used[1].prompt) == ("red apple", "red apple, inkline")
    assert orders(SAMPLES["penline"])[1][0].prompt.endswith("<hypernet:penline:1>")


def test_a_name_that_nobody_knows_is_refused(tmp_path, capsys):
    places = [word for name in ("drawings", "paintings", "work", "out") for word in (f"--{name}", str(tmp_path))]
    assert main(["monet", *places]) == 2
    said = capsys.readouterr().err
    assert "monet" in said
    assert "van-gogh" in said


@pytest.mark.slow
def test_a_sample_goes_from_drawings_to_the_shelf(drawings, tmp_path):
    sample: Sample = SAMPLES["papercut"].model_copy(
        update={"pictures": 2, "prompts": ("fish",), "request": {**SAMPLES["papercut"].request, "steps": 2}}
    )
    target, end = make(sample, Places(drawings, tmp_path, tmp_path / "work", tmp_path / "out"))
    assert (end.step, target) == (2, tmp_path / "out" / "Lora" / "papercut.safetensors")
    beside = {one.name.removeprefix("papercut") for one in target.parent.iterdir()}
    assert beside == {".safetensors", ".md", ".json", ".preview.png", ".sheet.webp"}


def files_of(sample: Sample, shelf: Path = BUILTIN_DIR) -> list[Path]:
    """What should lie on the shelf: the weights, and all that stands beside them."""
    method = sample.request["method"]
    weights = ".pt" if method == "hypernetwork" else ".safetensors"
    folder = shelf / FOLDERS[method]
    return [folder / f"{sample.name}{ending}" for ending in (weights, ".md", ".json", ".preview.png", ".sheet.webp")]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_lies_whole_on_the_shelf(name):
    sample = SAMPLES[name]
    files = files_of(sample)
    assert [path.name for path in files if not path.is_file()] == []
    card = files[1].read_text(encoding="utf-8")
    assert sample.licence_note.rstrip(".") in card


def test_the_shelf_is_small_and_nothing_else_lies_there():
    wanted = {path for sample in SAMPLES.values() for path in files_of(sample)}
    found = {path for folder in set(FOLDERS.values()) for path in (BUILTIN_DIR / folder).iterdir()}
    assert found == wanted
    assert sum(path.stat().st_size for path in found) <= LIMIT_BYTES


def test_the_strength_that_suits_a_sample_is_the_same_everywhere():
    page = DOCS.read_text(encoding="utf-8")
    for sample in SAMPLES.values():
        _, card, notes, *_ = files_of(sample)
        told = json.loads(notes.read_text(encoding="utf-8"))
        assert told["preferred weight"] == sample.weight, sample.name
        tag = {"lora": "lora", "hypernetwork": "hypernet"}.get(sample.request["method"])
        calls = rf"<(?:lora|hypernet):{sample.name}:[^>]*>"
        wanted = {f"<{tag}:{sample.name}:{sample.weight:g}>"} if tag else set()
        assert set(re.findall(calls, page)) == wanted
        assert set(re.findall(calls, card.read_text(encoding="utf-8"))) == wanted
    assert any(sample.weight < 1 for sample in SAMPLES.values())


def test_danqing_models_says_how_each_is_written_and_for_whom(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DANQING_DATA_DIR", str(tmp_path))
    assert run(["models"]) == 0
    said = {line.split("\t")[0]: line.split("\t")[4] for line in capsys.readouterr().out.splitlines()[1:]}
    assert said["blueprint"] == "for danqing, write <lora:blueprint:0.6>; trigger words lantu style"
    assert said["penline"] == "for danqing, write <hypernet:penline:1>; trigger words pnx style"
    assert said["inkline"] == "for danqing, write inkline"
    for sample in SAMPLES.values():
        if sample.request["method"] == "lora":
            assert f"<lora:{sample.name}:{sample.weight:g}>" in said[sample.name]


def test_the_catalogue_finds_them_and_they_fit_the_built_in_model():
    catalog = Catalog(None)
    cards = {card.name: card for card in NetworkCards(catalog.networks).list(catalog.find("danqing-mini"))}
    assert set(cards) == set(SAMPLES)
    assert all(card.misfit is None and card.preview for card in cards.values())
    assert {card.family for card in cards.values()} == {"danqing"}
    assert {name: card.preferred_weight for name, card in cards.items()} == {
        name: sample.weight for name, sample in SAMPLES.items()
    }
    assert cards["van-gogh"].trigger_words == (SAMPLES["van-gogh"].trigger,)


def test_a_file_of_ones_own_goes_before_a_sample_of_its_name(tmp_path):
    mine = tmp_path / "models" / "Lora" / "mine" / "Papercut.safetensors"
    mine.parent.mkdir(parents=True)
    shutil.copyfile(BUILTIN_DIR / "Lora" / "hokusai.safetensors", mine)
    catalog = Catalog(tmp_path / "models")
    assert catalog.find_network("papercut", "lora").path == str(mine)
    assert Path(catalog.find_network("blueprint", "lora").path).parent == BUILTIN_DIR / "Lora"


def test_diffusers_own_loaders_take_them():
    pipe = StableDiffusionPipeline.from_pretrained(BUILTIN_DIR / "danqing-mini", safety_checker=None)
    pipe.load_lora_weights(str(BUILTIN_DIR / "Lora"), weight_name="van-gogh.safetensors")
    assert pipe.get_list_adapters()["unet"]
    pipe.load_textual_inversion(str(BUILTIN_DIR / "embeddings" / "inkline.safetensors"), token="inkline")  # noqa: S106
    assert "inkline" in pipe.tokenizer.get_vocab()
