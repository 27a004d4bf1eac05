"""T5, the large text encoder of SD3 and FLUX (arXiv 1910.10683): its tokenizer, its states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import T5EncoderModel

from danqing.models.families.parts import ready
from danqing.models.folder_parts import load_part
from danqing.models.precision import Precision
from danqing.models.sentencepiece import read_spiece
from danqing.prompt.attention import BREAK_TEXT
from danqing.prompt.emphasis import EmphasisMode, pieces_for
from danqing.spec.errors import BadFileError, MissingWeightsError

TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
_END = "</s>"


def read_tokenizer(folder: Path) -> Tokenizer:
    """T5's tokenizer from `tokenizer.json`, or from `spiece.model` as its makers published it.

    Raises:
        MissingWeightsError: The folder has neither.
        BadFileError: It is damaged.
    """
    path = next((found for name in TOKENIZER_FILES if (found := folder / name).is_file()), None)
    if path is None:
        raise MissingWeightsError(
            "T5's tokenizer is not there",
            value=str(folder),
            allowed="tokenizer.json or spiece.model, as the published folders have it",
            next_step=f"copy tokenizer.json (or spiece.model) of the model's T5 tokenizer folder to {folder}",
        )
    if path.suffix == ".model":
        return read_spiece(path)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        raise BadFileError(f"T5's tokenizer cannot be read: {error}", value=str(path)) from error


class T5Reader:
    """A T5 encoder with its tokenizer.

    Args:
        tokenizer_dir: A folder with `tokenizer.json` or `spiece.model`.
        model: The encoder, on its device.
        device: Where that is.
        tokens: To how many tokens a text is filled up or cut.

    Raises:
        MissingWeightsError: The folder has no tokenizer.
        BadFileError: It is damaged.
    """

    def __init__(self, tokenizer_dir: Path, model: T5EncoderModel, device: torch.device, tokens: int) -> None:
        self.model = model
        self.device = device
        self.tokens = tokens
        self._tokenizer = read_tokenizer(tokenizer_dir)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @torch.inference_mode()
    def read(self, text: str, emphasis: str) -> Tensor:
        """States float32 [tokens, width], each token's times its weight; what is longer is cut off."""
        ids: list[int] = []
        weights: list[float] = []
        for piece, weight in pieces_for(text, EmphasisMode(emphasis)):
            if piece == BREAK_TEXT:
                continue
            found = self._tokenizer.encode(piece, add_special_tokens=False).ids
            ids, weights = ids + found, weights + [weight] * len(found)
        end: Any = self._tokenizer.token_to_id(_END)
        ids = [*ids[: self.tokens - 1], int(end)]
        weights = [*weights[: self.tokens - 1], 1.0]
        padding = self.tokens - len(ids)
        # SD3 and FLUX let T5 read its padding too: no attention mask.
        tokens = torch.tensor([ids + [0] * padding], device=self.device)
        states: Tensor = self.model(tokens).last_hidden_state[0].to(torch.float32)
        return states * torch.tensor(weights + [1.0] * padding, device=self.device)[:, None]


def t5_dtype(precision: Precision) -> torch.dtype:
    """T5's number format: 19 GB in float32, so that a CPU with bfloat16 reads in that."""
    return torch.bfloat16 if precision.denoiser is torch.bfloat16 else precision.text


def load_t5(
    folder: Path, tokenizer_dir: Path, precision: Precision, device: torch.device, tokens: int
) -> T5Reader | None:
    """The encoder in a transformers folder; None where there is none.

    Raises:
        MissingWeightsError: It has no tokenizer.
    """
    if not (folder / "config.json").is_file():
        return None
    model = load_part(T5EncoderModel, folder, t5_dtype(precision))
    return T5Reader(tokenizer_dir, ready(model, device), device, tokens)
