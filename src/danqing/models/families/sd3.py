"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): a flow-matching transformer, two CLIP towers, T5 if it is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from danqing.models.derived_files import variant_of
from danqing.models.families.parts import load_vae, owned, ready
from danqing.models.families.sd import Added, StableDiffusion
from danqing.models.packing import packed_bytes
from danqing.models.precision import Precision
from danqing.models.prepare import prepare_denoiser
from danqing.models.preview import LatentRgb
from danqing.models.text import TextEncoder, TextOptions, TextState
from danqing.prompt.attention import BREAK_TEXT
from danqing.prompt.emphasis import EmphasisMode, pieces_for
from danqing.sampling.tables import FlowTable
from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.spec.model import ModelInfo

T5_TOKENS = 256
"""How many tokens of T5 the family was trained with; as many zeros stand in its place where it is left out."""
_T5_END = "</s>"
_PATCH = 2


class T5Reader:
    """A T5 encoder with its tokenizer.

    Args:
        tokenizer_dir: A folder with `tokenizer.json`.
        model: The encoder, on its device.
        device: Where that is.

    Raises:
        MissingWeightsError: The folder has no `tokenizer.json`.
    """

    def __init__(self, tokenizer_dir: Path, model: T5EncoderModel, device: torch.device) -> None:
        path = tokenizer_dir / "tokenizer.json"
        if not path.is_file():
            raise MissingWeightsError(
                "T5's tokenizer is not there",
                value=str(path),
                allowed="tokenizer.json, as the published folders have it",
                next_step=f"copy tokenizer_3/tokenizer.json of the model to {path}",
            )
        self.model = model
        self.device = device
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @torch.inference_mode()
    def read(self, text: str, emphasis: str) -> Tensor:
        """States float32 [256, width], each token's times its weight; what is longer is cut off."""
        ids: list[int] = []
        weights: list[float] = []
        for piece, weight in pieces_for(text, EmphasisMode(emphasis)):
            if piece == BREAK_TEXT:
                continue
            found = self._tokenizer.encode(piece, add_special_tokens=False).ids
            ids, weights = ids + found, weights + [weight] * len(found)
        end: Any = self._tokenizer.token_to_id(_T5_END)
        ids = [*ids[: T5_TOKENS - 1], int(end)]
        weights = [*weights[: T5_TOKENS - 1], 1.0]
        padding = T5_TOKENS - len(ids)
        # SD3 lets T5 read its padding too: no attention mask.
        tokens = torch.tensor([ids + [0] * padding], device=self.device)
        states: Tensor = self.model(tokens).last_hidden_state[0].to(torch.float32)
        return states * torch.tensor(weights + [1.0] * padding, device=self.device)[:, None]


@dataclass
class StableDiffusion3(StableDiffusion):
    """A loaded SD3 checkpoint; `unet` is its transformer.

    Attributes:
        texts: CLIP's two towers.
        t5: The third text encoder; without it the model knows less of long prompts and of letters.
    """

    texts: tuple[TextEncoder, ...] = field(default=())
    t5: T5Reader | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        encoders = [text.model for text in self.texts] + ([self.t5.model] if self.t5 else [])
        modules: list[torch.nn.Module] = [*encoders, self.unet, self.vae]
        return sum(p.numel() * p.element_size() for one in modules for p in one.parameters()) + packed_bytes(self.unet)

    def read_text(self, texts: Sequence[str], emphasis: str, clip_skip: int) -> list[TextState]:
        """States [tokens, 4096], CLIP's before T5's, and pooled [2048] of each text."""
        read = [one.read(texts, emphasis=emphasis, clip_skip=clip_skip) for one in self.texts]
        return [self._state(text, states, emphasis) for text, *states in zip(texts, *read, strict=True)]

    def _state(self, text: str, states: Sequence[TextState], emphasis: str) -> TextState:
        width = int(self.unet.config["joint_attention_dim"])
        tokens = max(len(state.states) for state in states)
        clip = torch.cat([_grown(state.states, tokens, state.states.shape[1]) for state in states], dim=-1)
        empty = torch.zeros(T5_TOKENS, width, device=clip.device)
        t5 = empty if self.t5 is None else self.t5.read(text, emphasis)
        pooled = torch.cat([state.pooled for state in states if state.pooled is not None])
        return TextState(torch.cat([_grown(clip, tokens, width), t5]), pooled)

    def _conditions(self, added: Added | None) -> dict[str, Any]:
        if added is None:
            raise RuntimeError("SD3 was called without pooled text")
        return {"pooled_projections": added.pooled.to(self.device, self.precision.denoiser)}

    def _network(self, scaled: Tensor, timesteps: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        height, width = scaled.shape[-2:]
        # The transformer sees patches of 2 x 2: a picture of odd latent sides gets a margin for its eyes alone.
        margin = (0, width % _PATCH, 0, height % _PATCH)
        whole = torch.nn.functional.pad(scaled, margin, mode="replicate") if any(margin) else scaled
        answer: Tensor = self.unet(
            hidden_states=whole,
            timestep=timesteps,
            encoder_hidden_states=context,
            return_dict=False,
            **options,
        )[0]
        return answer[..., :height, :width]


def _grown(states: Tensor, tokens: int, width: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, width - states.shape[1], 0, tokens - states.shape[0]))


def load(
    info: ModelInfo,
    precision: Precision,
    device: torch.device,
    vae_path: Path | None = None,
    *,
    fast_cpu: bool = True,
) -> StableDiffusion3:
    """Load a diffusers folder.

    Args:
        info: From the catalogue; `path` is the folder.
        precision: Number formats.
        device: Where it shall compute.
        vae_path: A diffusers folder of another autoencoder.
        fast_cpu: As for `prepare_denoiser`.

    Raises:
        MissingWeightsError: T5 is there without its tokenizer.
    """
    place = Path(info.path)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    transformer = place / "transformer"
    unet = SD3Transformer2DModel.from_pretrained(
        transformer, torch_dtype=precision.denoiser, **options, **variant_of(transformer)
    )
    texts = tuple(_clip(place / f"text_encoder{at}", place / f"tokenizer{at}", precision, device) for at in ("", "_2"))
    return StableDiffusion3(
        info=info,
        precision=precision,
        device=device,
        text=texts[0],
        unet=prepare_denoiser(owned(unet), precision, device, fast_cpu=fast_cpu),
        vae=ready(load_vae(vae_path or place / "vae", "sd3", precision.vae), device),
        table=FlowTable(shift=_shift(place)),
        preview=LatentRgb.of(info),
        texts=texts,
        t5=_t5(place, precision, device),
    )


def _clip(folder: Path, tokenizer: Path, precision: Precision, device: torch.device) -> TextEncoder:
    model = CLIPTextModelWithProjection.from_pretrained(
        folder, dtype=precision.text, local_files_only=True, use_safetensors=True, **variant_of(folder)
    )
    return TextEncoder(tokenizer, ready(model, device), device, TextOptions(hidden=True))


def _t5(place: Path, precision: Precision, device: torch.device) -> T5Reader | None:
    folder = place / "text_encoder_3"
    if not (folder / "config.json").is_file():
        return None
    model = T5EncoderModel.from_pretrained(
        folder, dtype=precision.text, local_files_only=True, use_safetensors=True, **variant_of(folder)
    )
    return T5Reader(place / "tokenizer_3", ready(model, device), device)


def _shift(place: Path) -> float:
    """How far times are moved towards noise."""
    path = place / "scheduler" / "scheduler_config.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8")).get("shift", 3.0))
    except (OSError, ValueError, AttributeError) as error:
        raise BadFileError(f"the noise schedule cannot be read: {error}", value=str(path)) from error
