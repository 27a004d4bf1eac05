"""mini-CLIP on small random weights: shapes, invariances, and what is said when files are missing or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.models import clip, clip_files
from danqing.models.clip import MiniClip, letterbox
from danqing.models.clip_files import find_clip
from danqing.spec.errors import BadFileError, InvalidRequestError, MissingWeightsError
from danqing.spec.registry.picture_styles import PICTURE_STYLES
from danqing.training.builtin.captions import STYLE_WORDS
from tiny_clip import DIM, SIZE_PX, build_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clip(tmp_path_factory.mktemp("clip") / "mini-clip")


@pytest.fixture(scope="module")
def eye(folder: Path) -> MiniClip:
    return clip.load(folder)


def scene(width=40, height=40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5 % 256, y * 5 % 256, (x + y) * 3 % 256], -1).astype(np.uint8))


def test_embeddings_are_unit_vectors_and_do_not_depend_on_company(eye: MiniClip):
    pictures = [scene(seed, 30) for seed in range(20, 60)]
    together = eye.embed_images(pictures)
    assert together.shape == (40, DIM)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    assert np.allclose(together[7], eye.embed_images([pictures[7]])[0], atol=1e-5)
    words = ["the cat", "a dog " * 60, "", "红色的猫", "the red cat"] * 20
    texts = eye.embed_texts(words)
    assert np.allclose(texts[:5], np.stack([eye.embed_texts([word])[0] for word in words[:5]]), atol=1e-5)
    assert np.array_equal(texts[0], texts[5])
    assert np.abs(texts[0] - texts[4]).max() > 1e-3
    assert eye.embed_images([]).shape == eye.embed_texts([]).shape == (0, DIM)


def test_the_forms_of_a_picture_agree(eye: MiniClip):
    picture = scene(SIZE_PX, SIZE_PX)
    pixels = np.asarray(picture)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255.0
    forms = eye.embed_images([picture, pixels, tensor, picture.convert("RGBA")])
    assert np.allclose(forms, forms[0], atol=1e-5)
    assert np.allclose(eye.embed_images(np.stack([pixels, pixels])), forms[:2], atol=1e-5)
    assert np.allclose(eye.embed_images(torch.stack([tensor, tensor])), forms[:2], atol=1e-5)
    for wrong in (np.zeros((4, 4)), np.zeros((4, 4, 7), np.uint8), torch.zeros(4, 4)):
        with pytest.raises(InvalidRequestError, match="no picture"):
            eye.embed_images([wrong])


def test_transparency_lies_on_white_and_bars_continue_the_edge():
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (letterbox(clear, 32) == 255).all()
    wide = Image.new("RGB", (64, 16), (10, 20, 30))
    assert (letterbox(wide, 32) == (10, 20, 30)).all()
    two = np.zeros((60, 10, 3), np.uint8)
    two[:, :5], two[:, 5:] = (200, 0, 0), (0, 0, 200)
    boxed = letterbox(two, 30)
    assert boxed.shape == (30, 30, 3)
    assert tuple(boxed[5, 0]) == (200, 0, 0)
    assert tuple(boxed[5, 29]) == (0, 0, 200)
    assert letterbox(Image.new("RGB", (5000, 1)), 32).shape == (32, 32, 3)


def test_scores_are_siglips(eye: MiniClip):
    pictures, texts = eye.embed_images([scene()]), eye.embed_texts(["cat", "dog"])
    expected = 1 / (1 + np.exp(-((pictures @ texts.T) * np.exp(2.0) - 1.0)))
    assert np.allclose(eye.scores(pictures, texts), expected, atol=1e-3)


def test_the_hash_covers_everything_an_embedding_depends_on(folder: Path, tmp_path: Path):
    first = find_clip(folder=folder).sha256()
    assert find_clip(folder=folder).sha256() == first
    for name in ("preprocessor_config.json", "text_projection.safetensors", "tokenizer/tokenizer.json"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(folder, copy)
        with (copy / name).open("ab") as file:
            file.write(b"\n")
        assert find_clip(folder=copy).sha256() != first, name


def test_where_it_is_looked_for(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(clip_files, "BUILTIN_DIR", tmp_path / "builtin")
    with pytest.raises(MissingWeightsError, match="mini-CLIP") as caught:
        find_clip(tmp_path)
    assert "danqing-mini-clip" in str(caught.value.value)
    assert str(tmp_path / "builtin") in (caught.value.next_step or "")
    shutil.copytree(folder, tmp_path / "builtin" / "danqing-mini-clip")
    for part in ("text_encoder", "tokenizer"):  # as the built-in family has it: the text tower is the painter's own
        source = tmp_path / "builtin" / "danqing-mini-clip" / part
        shutil.move(source, tmp_path / "builtin" / "danqing-mini" / part)
    assert find_clip(tmp_path).text_folder.name == "danqing-mini"
    assert clip.load(find_clip(None)).dim == DIM
    shutil.copytree(folder, tmp_path / "mini-clip")
    assert find_clip(tmp_path).folder == tmp_path / "mini-clip"
    (tmp_path / "mini-clip" / "text_projection.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="completely"):
        find_clip(tmp_path)


def test_damaged_files(folder: Path, tmp_path: Path):
    for name in ("text_projection.safetensors", "preprocessor_config.json", "image_encoder/model.safetensors"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(b"{}")
        with pytest.raises(BadFileError, match="cannot be loaded"):
            clip.load(copy)
    other = build_clip(tmp_path / "other")
    shutil.rmtree(other / "text_encoder")
    shutil.copytree(build_clip(tmp_path / "narrow", width=16) / "text_encoder", other / "text_encoder")
    with pytest.raises(BadFileError, match="text projection"):
        clip.load(other)


def test_styles_are_called_as_in_the_training(folder: Path):
    assert find_clip(folder=folder).styles() == tuple(PICTURE_STYLES.values())
    (folder / "danqing.json").write_text('{"styles": ["3d", "unknown", "line"]}')
    assert [style.key for style in find_clip(folder=folder).styles()] == ["3d", "line"]
    for key, words in STYLE_WORDS.items():
        for locale, names in words.items():
            assert PICTURE_STYLES[key].name(locale) in names, (key, locale)
