"""CLIP's tokenizer through the `tokenizers` library: byte-level BPE with `</w>` at word ends.

Source of the rules: Radford et al. 2021 (CLIP), `simple_tokenizer.py`; parity with transformers' fast CLIP tokenizer.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from danqing.spec.errors import BadFileError, MissingWeightsError

BEGIN = "<|startoftext|>"
END = "<|endoftext|>"
BUILTIN_PARTS = ("models", "builtin", "danqing-mini", "tokenizer")
_MAX_FILE_BYTES = 64 * 2**20
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


class ClipTokenizer:
    """A CLIP tokenizer loaded from a folder; satisfies `danqing.prompt.chunks.TokenizerLike`.

    Args:
        folder: A folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.

    Raises:
        MissingWeightsError: The folder holds no tokenizer.
        BadFileError: Its files are damaged or name no begin and end tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tokenizer = _load(folder)
        self.bos_id = self._id_of(_special(folder, "bos_token", BEGIN))
        self.eos_id = self._id_of(_special(folder, "eos_token", END))
        self.pad_id = self._id_of(_special(folder, "pad_token", END))
        self.comma_id: int | None = self._tokenizer.token_to_id(",</w>")

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin and end tokens."""
        if not text:
            return []
        # A lone surrogate, as a damaged file name may hold, has no UTF-8 form.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of `encode(text)` stands in the text: from this character up to that one."""
        if not text:
            return []
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(clean, add_special_tokens=False).offsets)

    def token(self, token_id: int) -> str:
        """The token's own text, for display."""
        written = self._tokenizer.id_to_token(token_id)
        if written is None:
            return ""
        text = self._tokenizer.decode([token_id], skip_special_tokens=False)
        return text.removesuffix("</w>").strip() or written

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise BadFileError(
                f"the tokenizer has no {token} token",
                value=str(self.folder),
                allowed="a CLIP tokenizer",
                next_step="check that the folder is the model's own tokenizer folder",
            )
        return found


@lru_cache(maxsize=16)
def load_tokenizer(folder: Path) -> ClipTokenizer:
    """The tokenizer of a folder, loaded once."""
    return ClipTokenizer(folder)


def builtin_tokenizer_folder() -> Path | None:
    """The built-in family's tokenizer folder, or None where this installation has none."""
    folder = files("danqing")
    for part in BUILTIN_PARTS:
        folder = folder / part
    return folder if isinstance(folder, Path) and folder.is_dir() else None


def default_tokenizer() -> ClipTokenizer:
    """The built-in family's tokenizer.

    Raises:
        MissingWeightsError: This installation has no built-in model.
    """
    folder = builtin_tokenizer_folder()
    if folder is None:
        raise MissingWeightsError(
            "the built-in model's tokenizer is not in this installation",
            allowed="/".join(("danqing", *BUILTIN_PARTS)),
            next_step="reinstall Danqing from a complete checkout",
        )
    return load_tokenizer(folder)


def _load(folder: Path) -> Tokenizer:
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    stamps = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in (whole, vocab, merges))
    return _loaded(folder, stamps)


@lru_cache(maxsize=8)
def _loaded(folder: Path, stamps: tuple[int, ...]) -> Tokenizer:
    """The library's tokenizer of a folder whose files are of these dates; nothing of it changes afterwards."""
    del stamps
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    try:
        if whole.is_file():
            tokenizer = Tokenizer.from_str(_read(whole))
            # transformers saves what it was last asked to do; chunks are cut and padded by `danqing.prompt.chunks`.
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return tokenizer
        if vocab.is_file() and merges.is_file():
            return _from_bpe(json.loads(_read(vocab)), _read(merges))
    # The library raises bare Exception for every kind of damage.
    except BadFileError:
        raise
    except Exception as error:
        raise BadFileError(
            "the tokenizer's files are damaged", value=str(folder), next_step="copy them again"
        ) from error
    raise MissingWeightsError(
        "the folder holds no tokenizer",
        value=str(folder),
        allowed="tokenizer.json, or vocab.json with merges.txt",
        next_step="copy the model's tokenizer files there",
    )


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise BadFileError("the tokenizer file is too large", value=str(path), allowed="64 MiB")
    return path.read_text(encoding="utf-8")


def _from_bpe(vocab: dict[str, int], merges_text: str) -> Tokenizer:
    lines = [line.split() for line in merges_text.splitlines() if line.strip() and not line.startswith("#version")]
    merges = [(line[0], line[1]) for line in lines if len(line) == 2]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=END,
        )
    )
    # The library's attributes are set through stubs that declare them read-only.
    setup = cast("Any", tokenizer)
    setup.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    setup.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    setup.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (BEGIN, END)])
    return tokenizer


def _special(folder: Path, key: str, default: str) -> str:
    """A special token's text from tokenizer_config.json or special_tokens_map.json."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            entry: Any = json.loads(_read(path)).get(key)
        except (ValueError, AttributeError) as error:
            raise BadFileError("the tokenizer's settings are damaged", value=str(path)) from error
        if isinstance(entry, dict):
            entry = cast("dict[str, Any]", entry).get("content")
        if isinstance(entry, str):
            return entry
    return default
