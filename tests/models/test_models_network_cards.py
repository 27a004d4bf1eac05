"""Cards of network files: what stands beside them, what calls them up, whether they fit, whose pictures are shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from danqing.models.hashes import HashCache
from danqing.models.network_cards import NetworkCards
from danqing.models.networks import NetworkShelf
from danqing.spec.model import ModelInfo

SD1 = ModelInfo(name="one", family="sd1", path="", sha256="0" * 64, context_width=768, block_widths=(320, 640))
FLUX = SD1.model_copy(update={"name": "two", "family": "flux", "context_width": 0})
_LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(path, width=768, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{_LAYER}.lora_down.weight": np.zeros((2, width), np.float32),
        f"{_LAYER}.lora_up.weight": np.zeros((320, 2), np.float32),
        f"{_LAYER}.alpha": np.array(1.0, np.float32),
    }
    save_file(tensors, path, metadata)
    return path


def picture(path, color="red"):
    Image.new("RGB", (40, 30), color).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def cards(folder):
    folder.mkdir()
    return NetworkCards(NetworkShelf(folder, HashCache(None)))


def test_what_stands_beside_a_file_is_on_its_card(folder, cards):
    path = lora(folder / "Lora" / "ink.safetensors", metadata={"ss_output_name": "Ink Wash"})
    notes = {"activation text": "ink wash <lora:ink:1>, ", "negative text": "photo", "preferred weight": 0.7}
    path.with_suffix(".json").write_text(json.dumps({**notes, "sd version": "SD1"}))
    picture(path.with_suffix(".preview.png"))
    (card,) = cards.list(SD1)
    assert (card.kind, card.name, card.written, card.alias) == ("lora", "ink", "ink", "Ink Wash")
    assert (card.trigger_words, card.negative_words, card.preferred_weight) == (("ink wash",), "photo", 0.7)
    assert (card.misfit, card.base_model) == (None, "SD1")
    assert card.preview
    assert cards.preview("lora", "ink") == path.with_suffix(".preview.png")


def test_notes_of_networks_are_what_their_cards_show(folder, cards):
    path = lora(folder / "Lora" / "ink.safetensors", metadata={"modelspec.trigger_phrase": "own words"})
    lora(folder / "Lora" / "plain.safetensors", metadata={"modelspec.trigger_phrase": "own words"})
    infos = cards.shelf.list("lora")
    gone = infos[0].model_copy(update={"path": str(folder / "gone" / "x.safetensors")})
    assert [one.preferred_weight for one in cards.notes([*infos, gone])] == [None, None, None]
    # Written beside it since: seen without a new start.
    path.with_suffix(".json").write_text(json.dumps({"activation text": "ink wash", "preferred weight": 0.6}))
    ink, plain, lost = cards.notes([*infos, gone])
    assert (ink.preferred_weight, ink.trigger_words) == (0.6, ("ink wash",))
    assert (plain.preferred_weight, plain.trigger_words) == (None, ("own words",))
    assert (lost.preferred_weight, lost.trigger_words) == (None, ("own words",))


def test_trigger_words_come_from_notes_then_sites_then_the_file(folder, cards):
    tags = json.dumps({"set": {"mei": 20, "girl": 3}})
    lora(folder / "Lora" / "own.safetensors", metadata={"ss_tag_frequency": tags})
    site = lora(folder / "Lora" / "site.safetensors", metadata={"ss_tag_frequency": tags})
    site.with_suffix(".civitai.info").write_text(json.dumps({"trainedWords": ["mei li", " ", "mei li"]}))
    found = {card.name: card.trigger_words for card in cards.list(SD1)}
    assert found == {"own": ("mei",), "site": ("mei li",)}


def test_no_file_is_read_whole(folder, cards, monkeypatch):
    lora(folder / "Lora" / "a.safetensors")
    monkeypatch.setattr(HashCache, "file", lambda *_: pytest.fail("the file was hashed"))
    assert [card.name for card in cards.list(SD1)] == ["a"]


def test_a_name_that_two_files_share_is_written_with_its_folder(folder, cards):
    lora(folder / "Lora" / "x" / "ink.safetensors")
    lora(folder / "Lora" / "y" / "ink.safetensors")
    assert [card.written for card in cards.list(SD1)] == ["x/ink", "y/ink"]


def test_misfits_come_last_and_say_why(folder, cards):
    lora(folder / "Lora" / "a-wide.safetensors", width=2048)
    lora(folder / "Lora" / "b.safetensors")
    (folder / "Lora" / "c.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    found = [(card.name, card.misfit) for card in cards.list(SD1)]
    assert found[0] == ("b", None)
    assert {name for name, _ in found[1:]} == {"a-wide", "c"}
    assert dict(found)["a-wide"] in ("family", "width")
    assert dict(found)["c"] == "unreadable"
    assert all(card.why for card in cards.list(SD1) if card.misfit)
    assert {card.misfit for card in cards.list(FLUX) if card.name == "b"} == {"family"}


def test_embeddings_of_another_width_do_not_fit(folder, cards):
    for name, width in (("neg", 768), ("neg2", 1024)):
        path = folder.parent / "embeddings" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({"emb_params": np.zeros((3, width), np.float32)}, path)
    found = {card.name: (card.written, card.words, card.misfit is None) for card in cards.list(SD1)}
    assert found == {"neg": ("neg", ("neg",), True), "neg2": ("neg2", ("neg2",), False)}


def test_a_new_file_and_a_new_picture_are_seen_at_once(folder, cards):
    path = lora(folder / "Lora" / "a.safetensors")
    assert cards.list(SD1)[0].preview is None
    picture(path.with_suffix(".jpg"))
    lora(folder / "Lora" / "b.safetensors")
    assert [(card.name, card.preview is not None) for card in cards.list(SD1)] == [("a", True), ("b", False)]


def test_a_picture_that_leads_out_of_the_folder_is_not_shown(folder, cards, tmp_path):
    path = lora(folder / "Lora" / "a.safetensors")
    path.with_suffix(".png").symlink_to(picture(tmp_path / "secret.png"))
    assert cards.list(SD1)[0].preview is None
    assert cards.preview("lora", "a") is None


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a.safetensors", "", "x/../a", "A"])
def test_only_the_name_of_a_card_finds_a_picture(folder, cards, name):
    picture(lora(folder / "Lora" / "a.safetensors").with_suffix(".png"))
    picture(folder / "secret.png")
    assert cards.preview("lora", name) is None
    assert cards.preview("hypernetwork", "a") is None
