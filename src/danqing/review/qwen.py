"""Qwen2-VL and Qwen2.5-VL as reviewers, by transformers (arXiv 2409.12191, 2502.13923). Loads torch: for the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from safetensors import SafetensorError

from danqing.review.asking import SYSTEM, question, shrunk
from danqing.review.base import QWEN
from danqing.review.findings import Findings
from danqing.review.grammar import Frame, Scale, parse_answer
from danqing.review.vlm_files import find_qwen, missing_qwen, model_type
from danqing.spec.errors import BadFileError

MAX_NEW_TOKENS = 768
_CLASSES = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
_SCALES: dict[str, Scale] = {"qwen2_vl": "thousand", "qwen2_5_vl": "pixels"}
_FACTOR_PX = 28  # two merged patches of 14 px: the picture is shown at a multiple of it, so pixels stay pixels
_BROKEN = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    AttributeError,
    ImportError,
)


class QwenReviewer:
    """A Qwen-VL, loaded.

    Args:
        folder: In transformers' layout.
        device: Where it computes; float32 on a CPU, bfloat16 elsewhere.

    Raises:
        BadFileError: It cannot be read.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._name = folder.name
        self._kind = model_type(folder)
        self._device = device
        options: dict[str, Any] = {"local_files_only": True}
        images = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        try:
            self._words = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
            self._images = images.from_pretrained(folder, **options)
            model = getattr(transformers, _CLASSES[self._kind]).from_pretrained(
                folder, use_safetensors=True, dtype=dtype, **options
            )
        except _BROKEN as error:
            raise BadFileError(
                "this Qwen-VL cannot be read",
                field="reviewer",
                value=f"{folder.name}: {type(error).__name__}: {error}"[:300],
                allowed="a folder as transformers saves it, with *.safetensors and its tokenizer",
                next_step="fetch it again",
            ) from error
        self._model = model.to(device).eval()

    def review(self, picture: Image.Image, brief: str) -> Findings:
        """See `base.Reviewer`."""
        shown = _fitted(shrunk(picture))
        text = self.answer(shown, question(brief, shown.width, shown.height))
        scale = _SCALES[self._kind]
        parsed = parse_answer(text, Frame(picture.width, picture.height, shown.width, shown.height, scale))
        note = parsed.note or ("" if parsed.suggestions else "nothing to change")
        return Findings(reviewer=QWEN, model=self._name[:200], suggestions=parsed.suggestions, note=note[:4000])

    @torch.inference_mode()
    def answer(self, shown: Image.Image, words: str) -> str:
        """What it says of a picture, special tokens included."""
        seen = self._images(images=[shown], return_tensors="pt")
        grid = seen["image_grid_thw"]
        merged = int(self._images.merge_size) ** 2
        ids = self._ids(words, int(grid.prod()) // merged)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": seen["pixel_values"].to(self._device, self._model.dtype),
            "image_grid_thw": grid.to(self._device),
        }
        if _takes_token_types():
            inputs["mm_token_type_ids"] = (ids == self._model.config.image_token_id).long()
        made = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        return str(self._words.decode(made[0, ids.shape[1] :], skip_special_tokens=False))

    def _ids(self, words: str, places: int) -> torch.Tensor:
        """The chat as Qwen writes it, with this many places for the picture, `[1, n]`."""
        # The words may hold special tokens of their own; a brief must not end the turn or show a second picture.
        safe = words.replace("<|", "< |")
        pad = "<|image_pad|>" * places
        text = (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
            f"<|vision_start|>{pad}<|vision_end|>{safe}<|im_end|>\n<|im_start|>assistant\n"
        )
        return torch.tensor([self._words.encode(text, add_special_tokens=False)], device=self._device)


def open_qwen(models_dir: Path | None, device: torch.device) -> QwenReviewer:
    """The Qwen-VL of the models folder, loaded.

    Raises:
        MissingWeightsError: None is installed; it says what goes where.
        BadFileError: It cannot be read.
    """
    folder = find_qwen(models_dir)
    if folder is None:
        raise missing_qwen(models_dir)
    return QwenReviewer(folder, device)


def _fitted(image: Image.Image) -> Image.Image:
    """The picture at the nearest multiple of 28 px, so that the processor does not change its size again."""
    width, height = (max(2, round(side / _FACTOR_PX)) * _FACTOR_PX for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _takes_token_types() -> bool:
    return int(transformers.__version__.split(".", maxsplit=1)[0]) >= 5
