"""A sentence by BLIP (Li and others, 2022), then the likeliest of a person's word lists by CLIP. Loads torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from danqing.models.broken import BROKEN
from danqing.models.hashes import HashCache
from danqing.models.interrogators.files import ClipFolders
from danqing.models.interrogators.taggers import Look
from danqing.models.interrogators.wording import interrogation
from danqing.models.word_vectors import WordVectors
from danqing.spec.errors import BadFileError
from danqing.spec.sight import Interrogation, Tag

Floats = NDArray[np.float32]
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, and BLIP's
_LEAST_TOKENS, _MOST_TOKENS = 24, 48  # of the sentence, A1111's defaults
_BATCH = 64
_SHARPNESS = 100.0  # what CLIP multiplies a cosine by
_TOP = re.compile(r"\.top(\d{1,2})$")
_MOST_WORDS = 50_000


@dataclass(frozen=True)
class WordList:
    """Words of one kind.

    Attributes:
        name: The file's.
        top: How many of them go into the prompt.
        words: All of them.
    """

    name: str
    top: int
    words: tuple[str, ...]


class ClipInterrogator:
    """BLIP and CLIP, loaded.

    Args:
        folders: Where they lie.
        cache: Where the words' vectors are kept.
        device: Where they compute.

    Raises:
        BadFileError: Weights, tokenizer or lists cannot be read.
    """

    def __init__(self, folders: ClipFolders, cache: Path | None, device: torch.device) -> None:
        self._device = device
        self._blip, self._blip_words = _opened("BlipForConditionalGeneration", folders.blip, device)
        self._blip_px = _side(folders.blip, 384)
        self._lists = read_lists(folders.lists)
        self._clip: Any = None
        self._vectors: WordVectors | None = None
        hashes = HashCache(None)
        self._sha256 = hashes.folder(folders.blip)
        if folders.clip is not None and self._lists:
            self._clip, self._clip_words = _opened("CLIPModel", folders.clip, device)
            self._clip_px = _side(folders.clip, 224)
            self._vectors = WordVectors(self._embed, cache, hashes.folder(folders.clip))

    def look(self, picture: Image.Image, how: Look) -> Interrogation:
        """A sentence, and the likeliest of each list; the words' scores are shares within their list."""
        image = _opaque(picture)
        found = [Tag(text=text, score=share, kind=kind) for text, share, kind in self._ranked(image)]
        kept = sorted(found, key=lambda tag: -tag.score)[: how.tags]
        caption = ", ".join([self._sentence(image), *(tag.text for tag in found if tag in kept)])
        return interrogation("clip", picture, caption, kept, self._sha256)

    def _sentence(self, image: Image.Image) -> str:
        values = _pixels(image.resize((self._blip_px, self._blip_px), Image.Resampling.BICUBIC))
        with torch.inference_mode():
            tokens = self._blip.generate(
                pixel_values=values.to(self._device),
                num_beams=1,
                do_sample=False,
                min_length=_LEAST_TOKENS,
                max_length=_MOST_TOKENS,
            )
        return str(self._blip_words.decode(tokens[0], skip_special_tokens=True)).strip()

    def _ranked(self, image: Image.Image) -> list[tuple[str, float, str]]:
        if self._vectors is None:
            return []
        seen = self._picture_vector(image)
        ranked: list[tuple[str, float, str]] = []
        for one in self._lists:
            cosines = self._vectors.get(one.words) @ seen
            shares = np.exp(_SHARPNESS * (cosines - cosines.max()))
            shares /= shares.sum()
            best = np.argsort(-shares, kind="stable")[: one.top]
            ranked += [(one.words[i], float(min(shares[i], 1.0)), one.name) for i in best]
        return ranked

    def _picture_vector(self, image: Image.Image) -> Floats:
        side = self._clip_px
        scale = side / min(image.size)
        resized = image.resize(
            (max(side, round(image.width * scale)), max(side, round(image.height * scale))), Image.Resampling.BICUBIC
        )
        left, top = (resized.width - side) // 2, (resized.height - side) // 2
        values = _pixels(resized.crop((left, top, left + side, top + side)))
        with torch.inference_mode():
            return _unit(self._clip.get_image_features(pixel_values=values.to(self._device)))[0]

    def _embed(self, texts: Sequence[str]) -> Floats:
        length = int(self._clip.config.text_config.max_position_embeddings)
        found: list[Floats] = []
        for start in range(0, len(texts), _BATCH):
            tokens = self._clip_words(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                found.append(
                    _unit(
                        self._clip.get_text_features(
                            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                        )
                    )
                )
        width = int(self._clip.config.projection_dim)
        return np.concatenate(found) if found else np.zeros((0, width), np.float32)


def read_lists(paths: Sequence[Path]) -> list[WordList]:
    """Lists of words, one a line; `flavors.top3.txt` gives its three best to the prompt, others their best one.

    Raises:
        BadFileError: One is no text.
    """
    lists: list[WordList] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise _unread(path, error) from error
        words = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))[:_MOST_WORDS]
        top = _TOP.search(path.stem)
        if words:
            lists.append(WordList(_TOP.sub("", path.stem), int(top[1]) if top else 1, words))
    return lists


def _opened(kind: str, folder: Path, device: torch.device) -> tuple[Any, Any]:
    try:
        model = getattr(transformers, kind).from_pretrained(folder, local_files_only=True, use_safetensors=True)
        words = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except BROKEN as error:
        raise _unread(folder, error) from error
    return model.to(device).eval(), words


def _unread(path: Path, error: Exception) -> BadFileError:
    return BadFileError(
        "the CLIP interrogator cannot read this",
        field="interrogator",
        value=f"{path.name}: {type(error).__name__}: {error}"[:300],
        allowed="a folder as transformers saves it, with model.safetensors and its tokenizer; lists of words in UTF-8",
        next_step="fetch it again",
    )


def _side(folder: Path, default: int) -> int:
    """The side its pictures have, from `preprocessor_config.json`."""
    try:
        size: Any = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8")).get("size")
    except (OSError, ValueError, AttributeError):
        return default
    side = size if isinstance(size, int) else (size or {}).get("height", (size or {}).get("shortest_edge", default))
    return int(side)


def _opaque(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    over = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, (255, 255, 255, 255)), over).convert("RGB")


def _pixels(image: Image.Image) -> torch.Tensor:
    """`[1, 3, h, w]` float32 in CLIP's scale."""
    values = (np.asarray(image, np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_STD, np.float32)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def _unit(found: Any) -> Floats:
    """Unit vectors `[n, dim]` of CLIP's answer, a tensor or (newer transformers) an output with one."""
    vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
    vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
    return np.asarray(vectors.cpu().numpy(), np.float32)
