"""The CLIP tokenizer from both kinds of folder, and its parity with transformers."""

import copy
import json

import pytest

from danqing.prompt.chunks import chunk_prompt
from danqing.prompt.tokenizer import ClipTokenizer, builtin_tokenizer_folder, default_tokenizer
from danqing.spec.errors import BadFileError, MissingWeightsError

TEXTS = ["a cat, a dog", "It's  1234\nCats!!", "猫と犬 café", "<|endoftext|> x", "", "UPPER (x:1.2)", "don't", "🐱"]


def byte_symbols():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


@pytest.fixture
def folder(tmp_path):
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("1", "2</w>")]
    symbols = byte_symbols()
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges))
    return tmp_path


def test_ids_from_vocab_and_merges(folder):
    tokenizer = ClipTokenizer(folder)
    vocab = json.loads((folder / "vocab.json").read_text())
    assert tokenizer.encode("A  cat, dog") == [vocab["a</w>"], vocab["cat</w>"], vocab[",</w>"], vocab["dog</w>"]]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (vocab["<|startoftext|>"], vocab["<|endoftext|>"])
    assert tokenizer.pad_id == tokenizer.eos_id
    assert tokenizer.comma_id == vocab[",</w>"]
    assert tokenizer.encode("") == []
    assert [tokenizer.token(token_id) for token_id in tokenizer.encode("cat ,")] == ["cat", ","]
    assert tokenizer.encode("\ud800") == tokenizer.encode("?")


def test_parity_with_transformers(folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = ClipTokenizer(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_tokenizer_json_gives_the_same(folder, tmp_path):
    ours = ClipTokenizer(folder)
    other = tmp_path / "json"
    other.mkdir()
    # Tokenizers of one folder share the library's object.
    saved = copy.deepcopy(ours._tokenizer)
    saved.enable_padding(length=77)
    saved.enable_truncation(3)
    saved.save(str(other / "tokenizer.json"))
    (other / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "!</w>"}}))
    loaded = ClipTokenizer(other)
    assert [loaded.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert loaded.pad_id == ours._tokenizer.token_to_id("!</w>")


def test_chunks_with_it(folder):
    (chunk,) = chunk_prompt([("a cat, dog", 1.0)], ClipTokenizer(folder))
    assert chunk.count == 4


def test_folders_without_a_tokenizer(tmp_path):
    with pytest.raises(MissingWeightsError, match="no tokenizer"):
        ClipTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BadFileError, match="damaged"):
        ClipTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFileError, match="damaged"):
        ClipTokenizer(tmp_path)


def test_the_built_in_tokenizer():
    if builtin_tokenizer_folder() is None:
        with pytest.raises(MissingWeightsError):
            default_tokenizer()
        pytest.skip("this checkout has no built-in model yet")
    tokenizer = default_tokenizer()
    ids = tokenizer.encode("a red apple, flat")
    assert ids
    assert tokenizer.comma_id in ids
    assert tokenizer.bos_id != tokenizer.eos_id
