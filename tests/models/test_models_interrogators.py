"""WD tagger, DeepDanbooru and the CLIP interrogator, on tiny networks of the published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danqing.models.interrogators.files import find_clip_folders, find_tagger, is_ready
from danqing.models.interrogators.opening import open_interrogator
from danqing.models.interrogators.taggers import Look, framed, read_tag_lines, read_wd_tags
from danqing.models.interrogators.wording import spoken
from danqing.spec.errors import BadFileError, InvalidRequestError, MissingWeightsError
from danqing.spec.registry.interrogators import INTERROGATORS, check_threshold, find_interrogator
from tiny_onnx import write_tagger

WD_TAGS = [
    ("general", 9),
    ("explicit", 9),
    ("red_theme", 0),
    ("blue_theme", 0),
    ("^_^", 0),
    ("saber_(fate)", 4),
    ("unlikely", 0),
]
RED = Image.new("RGB", (40, 20), (255, 0, 0))


def write_wd(folder: Path, scale: float = 0.02) -> Path:
    """A WD tagger that says red for red, blue for blue, whatever the rest."""
    folder.mkdir(parents=True)
    rows = [f"{number},{name},{kind},1" for number, (name, kind) in enumerate(WD_TAGS)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]), encoding="utf-8")
    matrix = np.zeros((3, len(WD_TAGS)), np.float32)  # rows: blue, green, red, as OpenCV orders them
    matrix[:, 2], matrix[:, 3] = (-scale, -scale, scale), (scale, -scale, -scale)
    bias = np.array([2, -2, 0, 0, 3, 4, -4], np.float32)
    write_tagger(folder / "model.onnx", matrix, bias)
    return folder


def opened(key: str, models: Path):
    pytest.importorskip("onnxruntime", reason="NOT TESTED HERE: onnxruntime is not installed")
    return open_interrogator(key, models, None, "cpu")


def test_a_wd_tagger_sees_blue_green_red_and_says_characters_first(tmp_path: Path):
    write_wd(tmp_path / "interrogators" / "wd-v1-4")
    tagger = opened("WD-tagger", tmp_path)
    seen = tagger.look(RED, Look(40))
    words = seen.wording("zh-Hans")
    # the white around a wide picture adds to every colour; red still leads
    assert [tag.text for tag in words.tags] == ["saber \\(fate\\)", "^_^", "red theme"]
    assert words.caption == ", ".join(tag.text for tag in words.tags)
    assert [tag.kind for tag in words.tags][:2] == ["character", "general"]
    assert (seen.rating, seen.interrogator, seen.colors[0].key) == ("general", "wd14", "red")
    assert len(seen.model) == 64


def test_red_is_red_and_not_blue(tmp_path: Path):
    write_wd(tmp_path / "interrogators" / "wd")
    tagger = opened("wd14", tmp_path)
    square = Image.new("RGB", (20, 20), (255, 0, 0))
    scores = {tag.text: tag.score for tag in tagger.look(square, Look(40, threshold=0.0)).wording("en").tags}
    assert scores["red theme"] == pytest.approx(1 / (1 + np.exp(-0.02 * 255)), abs=1e-4)
    assert scores["blue theme"] < 0.01
    assert "unlikely" in scores
    few = tagger.look(square, Look(1)).wording("en")
    assert few.caption == "saber \\(fate\\)"
    none = tagger.look(square, Look(40, threshold=1.0, character_threshold=1.0)).wording("en")
    assert (none.caption, none.tags) == ("", ())


def test_deepdanbooru_sees_rgb_from_0_to_1(tmp_path: Path):
    folder = tmp_path / "interrogators" / "deepdanbooru"
    folder.mkdir(parents=True)
    (folder / "tags.txt").write_text("red_hair\nblue_hair\nrating:safe\nrating:explicit\n", encoding="utf-8")
    matrix = np.array([[8, 0, 0, 0], [0, 0, 0, 0], [0, 8, 0, 0]], np.float32)
    write_tagger(folder / "deepdanbooru.onnx", matrix, np.array([-4, -4, 1, -1], np.float32), 32)
    seen = opened("deepbooru", tmp_path).look(Image.new("RGB", (9, 9), (255, 0, 0)), Look(40))
    assert seen.wording("en").caption == "red hair"
    assert seen.wording("en").tags[0].score == pytest.approx(1 / (1 + np.exp(-4.0)), abs=1e-4)
    assert seen.rating == "safe"


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path):
    folder = write_wd(tmp_path / "interrogators" / "wd")
    table = folder / "selected_tags.csv"
    table.write_text(table.read_text(encoding="utf-8") + "\n9,one_more,0,1", encoding="utf-8")
    with pytest.raises(BadFileError, match="7 answers, 8 tags"):
        opened("wd14", tmp_path)
    write_tagger(folder / "model.onnx", np.zeros((3, 8), np.float32), np.zeros(8, np.float32), channels_first=True)
    with pytest.raises(BadFileError, match="side, side, 3"):
        opened("wd14", tmp_path)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(BadFileError, match="cannot be read"):
        opened("wd14", tmp_path)
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(BadFileError, match="columns name and category"):
        read_wd_tags(table)
    table.write_text("\n", encoding="utf-8")
    with pytest.raises(BadFileError, match="0 tags"):
        read_tag_lines(table)


@pytest.mark.parametrize("info", INTERROGATORS[1:], ids=lambda info: info.key)
def test_a_missing_one_says_what_to_put_where(info, tmp_path: Path):
    assert not is_ready(info, tmp_path)
    with pytest.raises(MissingWeightsError) as caught:
        open_interrogator(info.key, tmp_path, None, "cpu")
    assert str(tmp_path / "interrogators") in str(caught.value)
    assert info.needs in str(caught.value)


def test_names_and_thresholds():
    assert find_interrogator("clip-interrogator").key == "clip"
    with pytest.raises(InvalidRequestError, match="interrogator"):
        find_interrogator("gpt")
    check_threshold(find_interrogator("wd14"), 0.2, "threshold")
    for name, value in (("clip", 0.5), ("wd14", 1.5)):
        with pytest.raises(InvalidRequestError, match="threshold"):
            check_threshold(find_interrogator(name), value, "threshold")
    assert spoken("arm_[x]") == "arm \\[x\\]"


def test_transparency_and_the_frame_are_white():
    clear = Image.new("RGBA", (10, 4), (0, 0, 0, 0))
    assert framed(clear, 8).min() == 255
    tall = framed(Image.new("RGB", (4, 16), (0, 0, 0)), 16)
    assert (tall[8, 0].min(), tall[8, 8].max()) == (255, 0)


@pytest.fixture(scope="module")
def clip_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        CLIPConfig,
        CLIPModel,
        CLIPTokenizerFast,
    )

    root = tmp_path_factory.mktemp("models")
    top = root / "interrogators" / "clip"
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "cat", "on", "the", "moon", "##s"]
    top.mkdir(parents=True)
    (top / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    text = {**small, "vocab_size": len(words), "encoder_hidden_size": 16, "bos_token_id": 5, "sep_token_id": 3}
    text |= {"pad_token_id": 0, "eos_token_id": 3, "max_position_embeddings": 64, "projection_dim": 16}
    vision = {**small, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    blip = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16))
    blip.save_pretrained(top / "blip")
    BertTokenizerFast(vocab=str(top / "vocab.txt")).save_pretrained(top / "blip")
    (top / "blip" / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    from danqing.models.families import configs

    shipped = Path(next(iter(configs.__path__))) / "clip_tokenizer"
    tokenizer = CLIPTokenizerFast.from_pretrained(shipped)
    limits = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": 49407, "bos_token_id": 49406}
    config = CLIPConfig(text_config={**small, **limits}, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(top / "clip")
    tokenizer.save_pretrained(top / "clip")
    (top / "clip" / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}}))
    (top / "words").mkdir()
    (top / "words" / "artists.txt").write_text("Hokusai\nHiroshige\n\nVan Gogh\n", encoding="utf-8")
    (top / "words" / "flavors.top2.txt").write_text("misty\ngolden hour\nsharp focus\n", encoding="utf-8")
    return root


def test_blip_says_a_sentence_and_clip_ranks_the_lists(clip_models: Path, tmp_path: Path):
    found = find_clip_folders(clip_models)
    assert (found.blip.name, found.clip.name) == ("blip", "clip")
    looker = open_interrogator("clip", clip_models, tmp_path, "cpu")
    seen = looker.look(RED, Look(12))
    words = seen.wording("en")
    assert [tag.kind for tag in words.tags].count("artists") == 1
    assert [tag.kind for tag in words.tags].count("flavors") == 2
    sentence, *rest = words.caption.split(", ")
    assert {"red", "cat", "on", "the", "moon", "a"} & set(sentence.split())
    assert {*rest} == {tag.text for tag in words.tags}
    assert all(0 < tag.score <= 1 for tag in words.tags)
    again = open_interrogator("clip", clip_models, tmp_path, "cpu").look(RED, Look(12))
    assert again == seen
    assert list(tmp_path.glob("words-*.npz"))
    assert len(looker.look(RED, Look(1)).wording("en").tags) == 1


def test_clip_ranks_as_transformers_does(clip_models: Path):
    import torch
    from transformers import CLIPModel, CLIPTokenizerFast

    looker = open_interrogator("clip", clip_models, None, "cpu")
    folder = find_clip_folders(clip_models).clip
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizerFast.from_pretrained(folder)
    texts = ["Hokusai", "golden hour"]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    square = Image.new("RGB", (32, 32), (10, 200, 90))
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    values = torch.tensor(((np.array([10, 200, 90]) / 255 - mean) / std), dtype=torch.float32)
    with torch.no_grad():
        answer = model(**tokens, pixel_values=values[None, :, None, None].expand(1, 3, 32, 32))
    expected = (answer.text_embeds @ answer.image_embeds.T).numpy()[:, 0]
    ours = looker._embed(texts) @ looker._picture_vector(square)
    assert np.abs(ours - expected).max() < 1e-5


def test_a_tokenizer_that_is_missing_is_said(clip_models: Path, tmp_path: Path):
    folder = tmp_path / "interrogators" / "blip"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(BadFileError, match="CLIP interrogator"):
        open_interrogator("clip", tmp_path, None, "cpu")


def test_a_tagger_folder_needs_both_files(tmp_path: Path):
    folder = tmp_path / "interrogators" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "tags.txt").write_text("x")
    assert find_tagger("deepdanbooru", tmp_path) is None
    (folder / "x.onnx").write_bytes(b"")
    assert find_tagger("deepdanbooru", tmp_path).network.name == "x.onnx"
    assert find_tagger("wd14", tmp_path) is None
