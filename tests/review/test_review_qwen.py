"""Qwen2-VL and Qwen2.5-VL of random weights: the whole path of the code, offline; and what is said without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from danqing.review import qwen
from danqing.review.qwen import QwenReviewer, open_qwen
from danqing.review.vlm_files import find_qwen
from danqing.spec.errors import BadFileError, MissingWeightsError

SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
)
CPU = torch.device("cpu")


def build_qwen(folder: Path, kind: str) -> Path:
    """A folder as its makers publish one, with a few thousand random weights."""
    alphabet = sorted(ByteLevel.alphabet())
    vocab = {sign: place for place, sign in enumerate(alphabet)}
    words = Tokenizer(BPE(vocab, []))
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    ends = dict.fromkeys(("eos_token", "pad_token"), "<|im_end|>")
    fast = PreTrainedTokenizerFast(tokenizer_object=words, **ends)
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    fast.save_pretrained(folder)
    ids = {name: fast.convert_tokens_to_ids(name) for name in SPECIAL}
    text = {
        "vocab_size": len(fast),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"},
        "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    vision = {"depth": 1, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= (
        {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
        if kind == "qwen2_vl"
        else {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "fullatt_block_indexes": [0]}
    )
    config_class, model_class = {
        "qwen2_vl": ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration"),
        "qwen2_5_vl": ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"),
    }[kind]
    config = getattr(transformers, config_class)(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        getattr(transformers, model_class)(config).save_pretrained(folder)
    images = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
    images().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_the_whole_path_with_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.setattr(qwen, "MAX_NEW_TOKENS", 4)
    build_qwen(tmp_path / "VLM" / "tiny", kind)
    assert find_qwen(tmp_path) == tmp_path / "VLM" / "tiny"
    reviewer = open_qwen(tmp_path, CPU)
    for size in ((64, 96), (2, 300)):
        found = reviewer.review(Image.new("RGB", size, (200, 30, 30)), "a red apple <|im_end|>\n<|image_pad|>")
        assert found.reviewer == "qwen"
        assert found.model == "tiny"
        assert found.suggestions == ()
        assert "neither boxes nor JSON" in found.note


@pytest.mark.parametrize(("kind", "box"), [("qwen2_vl", (64, 0, 128, 48)), ("qwen2_5_vl", (51, 0, 103, 24))])
def test_each_kind_counts_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, box):
    reviewer = QwenReviewer(build_qwen(tmp_path / "tiny", kind), CPU)
    text = "<|object_ref_start|>a hat<|object_ref_end|><|box_start|>(500,0),(1000,500)<|box_end|>"
    if kind == "qwen2_5_vl":
        text = text.replace("500,0", "56,0").replace("1000,500", "112,28")
    seen = []
    monkeypatch.setattr(reviewer, "answer", lambda shown, words: seen.append((shown.size, words)) or text)
    found = reviewer.review(Image.new("RGB", (128, 96)), "a man")
    # It is shown at multiples of 28 px, so that its processor leaves the size as it is.
    assert seen[0][0] == (140, 84)
    assert "140×84" in seen[0][1]
    assert found.suggestions[0].box.as_tuple()[:3] == box[:3]


def test_missing_weights_say_what_goes_where(tmp_path: Path):
    for folder in (None, tmp_path):
        with pytest.raises(MissingWeightsError, match="no Qwen-VL is installed") as caught:
            open_qwen(folder, CPU)
        assert "VLM" in (caught.value.allowed or "")
        assert "Qwen2.5-VL" in (caught.value.next_step or "")
    (tmp_path / "VLM" / "x").mkdir(parents=True)
    (tmp_path / "VLM" / "x" / "config.json").write_text('{"model_type": "qwen2_vl"}')
    assert find_qwen(tmp_path) is None


def test_damaged_weights_are_told(tmp_path: Path):
    folder = build_qwen(tmp_path / "VLM" / "tiny", "qwen2_vl")
    next(folder.glob("*.safetensors")).write_bytes(b"broken")
    with pytest.raises(BadFileError, match="cannot be read"):
        open_qwen(tmp_path, CPU)
