"""FLUX.1 fill, kontext, canny and depth in one file: the parts that diffusers' pipelines are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tokenizers.processors import TemplateProcessing
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from danqing.models.families.transformer_files import Reading, load_file
from danqing.models.precision import Precision
from danqing.models.singlefile.companions import Companions
from danqing.models.singlefile.facts import CLIP_TOKENIZER, facts_of
from danqing.models.t5 import read_tokenizer
from danqing.models.text import TextOptions
from danqing.spec.errors import BadFileError

_T5_TOKENS = 512
_END, _PAD = "</s>", "<pad>"


def flux_parts(path: Path, precision: Precision) -> dict[str, Any]:
    """Modules, tokenizers and scheduler by the names that the pipelines' classes have for them, on the CPU.

    Args:
        path: The transformer's file; what is not in it is taken from the files beside it, as for FLUX.1 dev.
        precision: All parts are in the denoiser's number format, as those of a folder are.

    Raises:
        MissingWeightsError: A part is nowhere; it says which file to put where.
        BadFileError: A file is damaged.
    """
    alike = replace(precision, text=precision.denoiser, vae=precision.denoiser)
    reading = Reading(("clip_l",), TextOptions(pooled=True), _T5_TOKENS, needs_t5=True)
    found = load_file(path, alike, torch.device("cpu"), None, reading)
    if found.t5 is None:
        raise BadFileError(f"{path.name} was loaded without T5", value=str(path))
    return {
        # The published folders of all four have dev's schedule.
        "scheduler": FlowMatchEulerDiscreteScheduler.from_config(facts_of("flux")["scheduler"]["dev"]),
        "vae": found.vae,
        "text_encoder": found.clips[0].model,
        "tokenizer": CLIPTokenizer.from_pretrained(CLIP_TOKENIZER, local_files_only=True),
        "text_encoder_2": found.t5.model,
        "tokenizer_2": _t5_tokenizer(Companions(path).t5_tokenizer()),
        "transformer": found.transformer,
    }


def _t5_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """T5's tokenizer as transformers has it: each text ends with its mark, and is filled up behind it."""
    tokenizer = read_tokenizer(folder)
    end = tokenizer.token_to_id(_END)
    if end is None or tokenizer.token_to_id(_PAD) is None:
        raise BadFileError(f"T5's tokenizer has no {_PAD} or {_END}", value=str(folder), next_step="copy it again")
    tokenizer.post_processor = TemplateProcessing(single=f"$A {_END}", special_tokens=[(_END, end)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD, model_max_length=_T5_TOKENS
    )
