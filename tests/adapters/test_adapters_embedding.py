"""Textual inversion: every file layout, and what its words are to a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny_models
import tiny_networks as tiny
from danqing.adapters.embedding import read_embedding, write_embedding
from danqing.models.text import TextEncoder, WordVectors
from danqing.spec.errors import BadFileError, UnsupportedError
from testdata import TESTDATA

REAL = TESTDATA / "embeddings" / "fastai_learned_embeds.bin"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = tiny_models._text(tiny_models.save_tokenizer(folder)).eval().requires_grad_(False)
    return TextEncoder(folder, model, torch.device("cpu"))


def read(encoder: TextEncoder, text: str, *words: WordVectors, emphasis: str = "Original") -> Tensor:
    with encoder.knowing(words):
        return encoder.encode([text], emphasis=emphasis, clip_skip=1)[0]


def own(encoder: TextEncoder, text: str) -> Tensor:
    """The vectors that the encoder itself has for a text's tokens."""
    return encoder.model.get_input_embeddings().weight[encoder.tokenizer.encode(text)]


def test_a_word_that_copies_other_words_reads_as_they_do(encoder: TextEncoder):
    copied = WordVectors("birb", own(encoder, "cat dog"))
    assert len(copied.vectors) == 2
    assert torch.equal(read(encoder, "a birb, the", copied), read(encoder, "a cat dog, the"))
    assert torch.equal(read(encoder, "a (birb:1.3), the", copied), read(encoder, "a (cat dog:1.3), the"))
    assert not torch.allclose(read(encoder, "a birb, the", copied), read(encoder, "a birb, the"), atol=1e-2)


@pytest.mark.parametrize("text", ["a BIRB", "a Birb", "a birb", "(birb)", "[birb]", "a\nbirb"])
def test_any_case_and_any_place(encoder: TextEncoder, text: str):
    word = WordVectors("Birb", tiny.noise(1, 2, 32, size=2.0))
    assert not torch.allclose(read(encoder, text, word), read(encoder, text), atol=1e-2)


def test_signs_around_a_name_do_not_hide_it(encoder: TextEncoder):
    copied = WordVectors("<birb-style>", own(encoder, "cat"))
    assert torch.equal(read(encoder, "a <birb-style>, the dog", copied), read(encoder, "a cat, the dog"))
    assert torch.equal(read(encoder, "(<birb-style>:1.2) dog", copied), read(encoder, "(cat:1.2) dog"))


def test_the_longest_name_wins(encoder: TextEncoder):
    short, long = WordVectors("red", own(encoder, "dog")), WordVectors("red cat", own(encoder, "blue"))
    assert torch.equal(read(encoder, "a red cat", short, long), read(encoder, "a blue"))
    assert torch.equal(read(encoder, "a red dog", short, long), read(encoder, "a dog dog"))


def test_a_part_of_a_word_is_no_name(encoder: TextEncoder):
    word = WordVectors("cat", tiny.noise(1, 2, 32, size=2.0))
    assert torch.equal(read(encoder, "category", word), read(encoder, "category"))


def test_vectors_are_never_split(encoder: TextEncoder):
    word = WordVectors("birb", tiny.noise(1, 10, 32, size=2.0))
    whole = read(encoder, "cat " * 70 + "birb", word)
    assert whole.shape == (154, 32)
    # The first chunk holds the cats alone, the second one the whole word.
    assert torch.equal(whole[77:], read(encoder, "birb", word))
    assert torch.equal(whole[:77], read(encoder, "cat " * 70))
    with pytest.raises(UnsupportedError, match="more vectors"):
        read(encoder, "birb", WordVectors("birb", tiny.noise(1, 80, 32)))


def test_nothing_is_left_behind(encoder: TextEncoder):
    embeddings = encoder.model.get_input_embeddings()
    before, weight = read(encoder, "a birb"), embeddings.weight.clone()
    hooks = len(embeddings._forward_hooks)
    read(encoder, "a birb", WordVectors("birb", tiny.noise(1, 3, 32)))
    assert torch.equal(read(encoder, "a birb"), before)
    assert torch.equal(embeddings.weight, weight)
    assert len(embeddings._forward_hooks) == hooks


def test_layouts(tmp_path: Path):
    vectors = tiny.noise(1, 3, 32)
    a1111 = tiny.save_embedding(tmp_path / "birb.pt", 3, 32)
    torch.save({"<birb>": vectors[0]}, tmp_path / "concept.bin")
    save_file({"emb_params": vectors}, tmp_path / "safe.safetensors")
    save_file({"<tok>": vectors}, tmp_path / "named.safetensors")
    save_file({"clip_l": tiny.noise(2, 2, 768), "clip_g": tiny.noise(3, 2, 1280)}, tmp_path / "xl.safetensors")
    shapes: dict[str, Any] = {
        path.name: {
            name: {part: tuple(t.shape) for part, t in parts.items()} for name, parts in read_embedding(path).items()
        }
        for path in (
            a1111,
            *(tmp_path / name for name in ("concept.bin", "safe.safetensors", "named.safetensors", "xl.safetensors")),
        )
    }
    assert shapes == {
        "birb.pt": {"birb": {"": (3, 32)}},
        "concept.bin": {"<birb>": {"": (1, 32)}},
        "safe.safetensors": {"safe": {"": (3, 32)}},
        "named.safetensors": {"<tok>": {"": (3, 32)}},
        "xl.safetensors": {"xl": {"clip_l": (2, 768), "clip_g": (2, 1280)}},
    }


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_round_trip(tmp_path: Path, name: str):
    vectors = tiny.noise(1, 4, 32)
    write_embedding(tmp_path / name, {"": vectors}, name="a", step=7)
    assert torch.equal(read_embedding(tmp_path / name)["a"][""], vectors)
    both = {"clip_l": tiny.noise(2, 2, 768), "clip_g": tiny.noise(3, 2, 1280)}
    write_embedding(tmp_path / "both.safetensors", both, name="both")
    assert torch.equal(read_embedding(tmp_path / "both.safetensors")["both"]["clip_g"], both["clip_g"])


def test_a_real_file():
    if not REAL.exists():
        pytest.skip(f"NOT TESTED HERE: {REAL} is not there")
    (word,) = read_embedding(REAL).items()
    assert word[0] == "<birb-style>"
    assert word[1][""].shape == (1, 768)
    assert torch.isfinite(word[1][""]).all()


def test_what_is_no_embedding_is_refused(tmp_path: Path):
    torch.save({"string_to_param": {}}, tmp_path / "a.pt")
    with pytest.raises(BadFileError, match="holds no embedding"):
        read_embedding(tmp_path / "a.pt")
    torch.save([torch.zeros(3)], tmp_path / "b.pt")
    with pytest.raises(BadFileError, match="holds a list"):
        read_embedding(tmp_path / "b.pt")
