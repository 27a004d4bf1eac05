"""What a pipeline can ask for. A Session is a generator that yields these and is sent the answers."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch

from danqing.adapters.prompt_to_prompt import AttentionControl
from danqing.engine.features import FeatureUse
from danqing.enhance.bench import Bench
from danqing.sampling.tables import NoiseTable
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo, ModelRef
from danqing.spec.network import EmbeddingPlan, NetworkUse


@dataclass(frozen=True)
class ModelKey:
    """Which weights answer a Call: equal keys share one loaded model.

    Attributes:
        model: The checkpoint.
        vae: A separate VAE, or None for the checkpoint's own.
        precision: `auto`, `float32`, `bfloat16`, `float16`, `float8`, `int8` or `nf4`.
    """

    model: ModelRef
    vae: ModelRef | None = None
    precision: str = "auto"


@dataclass(frozen=True)
class EncodeText:
    """Texts to what a denoiser reads; the answer is a tuple of `TextState`, one for each text.

    Attributes:
        model: Whose text encoder.
        texts: Prompts with emphasis but without schedules, AND or networks.
        emphasis: A1111's emphasis mode.
        clip_skip: 1 uses the last layer.
        networks: LoRA in the text encoders, with their strength there.
        embeddings: New words that may stand in the texts.
    """

    model: ModelKey
    texts: tuple[str, ...]
    emphasis: str = "Original"
    clip_skip: int = 1
    networks: tuple[NetworkUse, ...] = ()
    embeddings: tuple[EmbeddingPlan, ...] = ()


@dataclass(frozen=True, eq=False)
class ControlInput:
    """What one ControlNet unit adds to a Denoise Call.

    Attributes:
        net: Which ControlNet.
        hint: Its map in [0, 1], −1 where a hole is, float32 [1, 3, H, W].
        weight: Strength, 0 to 2.
        rows: A factor for each row of the Call; 0 keeps a row uncontrolled.
        fading: Whether the residuals fade towards the first ones (*my prompt matters more*).
        mask: Where it acts, in [0, 1], [1, 1, H, W]; None for everywhere.
        union_id: What the map shows, for a union ControlNet.
    """

    net: ModelRef
    hint: torch.Tensor
    weight: float
    rows: tuple[float, ...]
    fading: bool = False
    mask: torch.Tensor | None = None
    union_id: int | None = None

    @property
    def key(self) -> str:
        """What must be equal for two units to be computed as one batch."""
        return self.net.sha256 if self.union_id is None else f"{self.net.sha256}:{self.union_id}"


@dataclass(frozen=True, eq=False)
class EmbedImage:
    """A picture to what an image adapter reads, float32 [width]; remembered by the picture's hash.

    Attributes:
        encoder: Which image tower.
        sha256: Content hash of the picture.
        picture: uint8 [h, w, 3], of any size.
    """

    encoder: ModelRef
    sha256: str
    picture: torch.Tensor


@dataclass(frozen=True, eq=False)
class ImageInput:
    """What image prompts add to a Denoise Call.

    Attributes:
        adapter: Which image adapter (IP-Adapter).
        embeddings: Of the pictures, float32 [n, width].
        shares: Attention that each gets beside the others, above 0.
        weight: Strength of all of them together, 0 to 2.
        rows: Whether each row of the Call reads the pictures; the others (negative prompt) read the empty picture.
    """

    adapter: ModelRef
    embeddings: torch.Tensor
    shares: tuple[float, ...]
    weight: float
    rows: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class RegionInput:
    """Regions whose words a Denoise Call's cross-attentions read at their own places.

    Attributes:
        shares: Of the whole and of each region at each latent pixel, float32 [1 + n, 1, h, w]; their sum is 1.
        rows: For each row of the Call the contexts of the regions, [tokens, width] each; empty for a plain row.
    """

    shares: torch.Tensor
    rows: tuple[tuple[torch.Tensor, ...], ...]


@dataclass(frozen=True, eq=False)
class WordsInput:
    """Two rows of a Denoise Call, the second of which attends as the first does, as far as its words allow.

    Attributes:
        source: Which row is followed.
        edited: Which row follows.
        control: How.
    """

    source: int
    edited: int
    control: AttentionControl


@dataclass(frozen=True)
class SizeNumbers:
    """What SDXL is told of a picture besides words (arXiv 2307.01952, section 2.2), in pixels.

    Attributes:
        original_height: Of the picture that it pretends to have been trained on.
        original_width: As above.
        crop_top: How much of it pretends to be cut off above.
        crop_left: As above, at the left.
        target_height: Of the picture that it shall be.
        target_width: As above.
        aesthetic_score: From 1 to 10; the refiner reads it in place of the target.
    """

    original_height: float
    original_width: float
    crop_top: float = 0.0
    crop_left: float = 0.0
    target_height: float = 0.0
    target_width: float = 0.0
    aesthetic_score: float = 6.0


@dataclass(frozen=True, eq=False)
class Denoise:
    """A latent under several conditionings at one sigma; the answer is denoised float32 [rows, c, h, w].

    Attributes:
        model: Whose denoiser.
        x: Noisy latent in variance-exploding scaling, float32 [1, c, h, w]; several [n, c, h, w] for rows that are
            coupled with each other.
        sigma: Noise level of `x`.
        contexts: One context [tokens, width] for each row of the answer.
        extra: Further input channels (mask and masked picture of an inpainting UNet), [1, c2, h, w].
        perturbed: How many of the last rows run with identity self-attention in the mid block (PAG).
        controls: ControlNet units; their effects add up.
        images: Image prompts; Calls with and without them share a batch.
        pooled: Of the texts, [width] for each row; empty where the model reads none.
        sizes: For each row, where the model reads pooled texts.
        networks: LoRA and hypernetworks in the denoiser, with their strength now; Calls with other sets share a batch.
        settled_steps: How many steps of this pass the networks act unchanged, those before included; 0 if not known.
        distilled: The guidance that the network itself is told, where it was distilled so (FLUX dev).
        regions: Words of regions in the cross-attentions; Calls with and without them share a batch.
        latents: For each row which latent of `x` it is; empty where there is but one.
        words: Rows whose attention is coupled; their contexts must be of equal length.
        features: Deep features that are kept for later Calls, or taken from an earlier one; Calls that do, that do not,
            and that do neither share a batch as far as they compute the same blocks.
        merging: Share of like tokens that self-attention takes together.
    """

    model: ModelKey
    x: torch.Tensor
    sigma: float
    contexts: tuple[torch.Tensor, ...]
    extra: torch.Tensor | None = None
    perturbed: int = 0
    controls: tuple[ControlInput, ...] = ()
    images: ImageInput | None = None
    pooled: tuple[torch.Tensor, ...] = ()
    sizes: tuple[SizeNumbers, ...] = ()
    networks: tuple[NetworkUse, ...] = ()
    distilled: float = 0.0
    regions: RegionInput | None = None
    latents: tuple[int, ...] = ()
    words: WordsInput | None = None
    settled_steps: int = 0
    features: FeatureUse | None = None
    merging: float = 0.0

    def latent_of(self, row: int) -> torch.Tensor:
        """The latent [1, c, h, w] of a row."""
        return self.x[self.latents[row] : self.latents[row] + 1] if self.latents else self.x

    @property
    def control_set(self) -> tuple[str, ...]:
        """Which ControlNets act, in a fixed order: Calls with equal sets can share a batch."""
        return tuple(control.key for control in self.sorted_controls)

    @property
    def sorted_controls(self) -> tuple[ControlInput, ...]:
        """The units in the order of their ControlNets, so that sums do not depend on how they were given."""
        return tuple(sorted(self.controls, key=lambda control: control.key))


@dataclass(frozen=True, eq=False)
class EncodeImage:
    """A picture [1, 3, H, W] in [−1, 1] to its latent, float32 [1, c, H/8, W/8] (the mode of the posterior)."""

    model: ModelKey
    image: torch.Tensor


@dataclass(frozen=True, eq=False)
class Decode:
    """A latent [1, c, h, w] to its picture, float32 [1, 3, 8h, 8w] in [−1, 1], not clamped."""

    model: ModelKey
    latent: torch.Tensor


@dataclass(frozen=True)
class Describe:
    """What is this model? The answer is a `Description`; asking loads it.

    Attributes:
        model: Which one.
        size: Of the largest picture that will be painted with it, so that there is room; None where that is not known.
        rows: Of a batch for it.
    """

    model: ModelKey
    size: SizePx | None = None
    rows: int = 2


@dataclass(frozen=True)
class Description:
    """What a pipeline needs to know of a loaded model.

    Attributes:
        info: Its catalogue entry.
        table: Its noise levels.
    """

    info: ModelInfo
    table: NoiseTable


@dataclass(frozen=True, eq=False)
class Upscale:
    """A tile of a picture [1, 3, h, w] in [0, 1] to its enlarged form, float32 [1, 3, s·h, s·w], by a network.

    Attributes:
        upscaler: Which file; s is the network's own scale.
        tile: What to enlarge.
    """

    upscaler: ModelRef
    tile: torch.Tensor


@dataclass(frozen=True, eq=False)
class Exclusive:
    """Work that cannot share a batch: gradients, attention control, other pipelines.

    Attributes:
        model: Which weights.
        key: What it excludes; two Calls with one key never run together with anything.
        run: Called with the loaded model; its return value is the answer.
        networks: LoRA and hypernetworks that act in the denoiser meanwhile, on every row.
        batch_rows: How many rows `run` gives the denoiser at once, where networks act.
    """

    model: ModelKey
    key: str
    run: Callable[[Any], Any]
    networks: tuple[NetworkUse, ...] = ()
    batch_rows: int = 1


@dataclass(frozen=True, eq=False)
class Work:
    """Work of a helper that is none of the catalogue's models: a detector, a face restorer, a cut-out.

    Attributes:
        key: What it is, for those who watch; never shares a batch.
        run: Called with the worker's bench of helpers; its return value is the answer.
    """

    key: str
    run: Callable[[Bench], Any]


@dataclass(frozen=True, eq=False)
class Report:
    """Not a model call: where the Session stands. Answered at once, with None.

    Attributes:
        step: Steps done in this pass.
        steps: Steps of this pass.
        fraction: Of the whole Session, 0 to 1.
        pass_index: Which pass of the Plan.
        stage: load, encode, denoise, decode or save.
        model: Whose latents `denoised` are, for a preview.
        denoised: The picture so far as a latent [1, c, h, w], if there is one to show.
    """

    step: int
    steps: int
    fraction: float
    pass_index: int = 0
    stage: str = "denoise"
    model: ModelKey | None = None
    denoised: torch.Tensor | None = None


ModelCall = EncodeText | EmbedImage | Denoise | EncodeImage | Decode | Describe | Upscale | Exclusive | Work
Call = ModelCall | Report
Session = Generator[Call, Any, Any]
"""A running pipeline; its return value is what `Finished.result` carries."""
