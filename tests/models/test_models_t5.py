"""T5 from single files: its tokenizer in either published form, its number formats."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from danqing.models.singlefile.build_transformers import build_t5
from danqing.models.t5 import T5Reader, read_tokenizer
from danqing.spec.errors import BadFileError, MissingWeightsError, UnsupportedError
from tiny_transformers import make_flux, save_t5_tokenizer, save_tensors


def piece(text: str, score: float, kind: int = 1) -> bytes:
    raw = text.encode()
    body = b"\x0a" + bytes([len(raw)]) + raw + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body


def test_sentencepieces_file_reads_as_the_library_would(tmp_path: Path):
    (tmp_path / "spiece.model").write_bytes(
        piece("<pad>", 0, 3)
        + piece("</s>", 0, 3)
        + piece("<unk>", 0, 2)
        + piece("▁a", -1)
        + piece("▁cat", -2)
        + piece("▁c", -3)
        + piece("s", -2)
        + piece("at", -3)
    )
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.encode("a  cats", add_special_tokens=False).ids == [3, 4, 6]
    assert tokenizer.token_to_id("</s>") == 1
    assert tokenizer.encode("a z", add_special_tokens=False).ids[0] == 3
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x7fjunk")
    with pytest.raises(BadFileError, match="SentencePiece"):
        read_tokenizer(tmp_path)
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(MissingWeightsError, match="T5's tokenizer"):
        read_tokenizer(tmp_path)
    save_t5_tokenizer(tmp_path)
    assert read_tokenizer(tmp_path).token_to_id("cat") == 5


def test_float16_leaves_the_layers_that_overflow_in_float32(tmp_path: Path):
    t5 = make_flux().t5
    assert t5 is not None
    words = {name: one for name, one in t5.state_dict().items() if name != "encoder.embed_tokens.weight"}
    path = save_tensors(words, tmp_path / "t5xxl.safetensors")
    model = build_t5(path, "", torch.float16).eval()
    formats = {name: one.dtype for name, one in model.named_parameters()}
    assert {one for name, one in formats.items() if name.endswith(".wo.weight")} == {torch.float32}
    assert formats["shared.weight"] is torch.float16
    save_t5_tokenizer(tmp_path)
    ours, theirs = (T5Reader(tmp_path, one, torch.device("cpu"), 8).read("a cat", "Original") for one in (model, t5))
    assert torch.allclose(ours, theirs, atol=0.05, rtol=0.05)


def test_llamas_names_are_refused(tmp_path: Path):
    path = save_tensors({"token_embd.weight": torch.zeros(4, 4)}, tmp_path / "t5.safetensors")
    with pytest.raises(UnsupportedError, match="llama"):
        build_t5(path, "", torch.float32)
