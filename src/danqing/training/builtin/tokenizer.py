"""A byte-level BPE in CLIP's form, trained on the captions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from danqing.training.builtin.captions import draw_caption
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.dataset import Dataset
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.scenes import draw_scene

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
# CLIP's word pattern (Radford et al. 2021, simple_tokenizer): letters, single digits, runs of other signs.
WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def caption_corpus(dataset: Dataset, config: TrainConfig, each: int = 8) -> list[str]:
    """`each` captions of every picture, of scenes drawn for this purpose."""
    out: list[str] = []
    for picture in dataset.pictures:
        rng = step_rng(config.seed, "captions", picture.row)
        rgba = np.asarray(dataset.rgba[picture.row])
        for scene in (draw_scene(picture, rgba, config.scenes, rng) for _ in range(each // 4)):
            out += [draw_caption(picture, config.captions, scene, rng) for _ in range(4)]
    return out


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> CLIPTokenizer:
    """CLIP's tokenizer with merges learned from `corpus`.

    The vocabulary holds all 256 bytes, each also with the end-of-word mark, so that any text can be written; the two
    special tokens come last, as in CLIP.
    """
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=EOS))
    trained.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size - 2, 512),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=2,
        show_progress=False,
    )
    trained.train_from_iterator(corpus, trainer)
    with tempfile.TemporaryDirectory() as folder:
        trained.model.save(folder)
        lines = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line and not line.startswith("#version")]
    pieces = alphabet + [c + "</w>" for c in alphabet]
    pieces += [line.replace(" ", "", 1) for line in merges]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, BOS, EOS]))}
    pairs = [tuple(line.split(" ", 1)) for line in merges]
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=MAX_LENGTH)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`; CLIP's older pair of files would say the same again."""
    tokenizer.save_pretrained(str(folder))
    # The library indents it, which doubles its size.
    whole = folder / "tokenizer.json"
    packed = json.dumps(json.loads(whole.read_text(encoding="utf-8")), ensure_ascii=False, separators=(",", ":"))
    whole.write_text(packed, encoding="utf-8")
