"""What can be trained: one Request for each method, all with the same groundwork."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from danqing.spec.base import Data, Seed
from danqing.spec.training_set import SetName

ModelName = Annotated[str, Field(min_length=1, max_length=300, description="as the catalogue names it")]
RunName = SetName
Words = Annotated[str, Field(max_length=4_000)]
Optimizer = Literal["adamw", "adamw8bit", "muon", "prodigy"]
Prediction = Literal["auto", "epsilon", "v_prediction"]


class TrainingRequest(Data):
    """The groundwork of every method. What is None is chosen by the method when the run is planned.

    Attributes:
        name: Of the run and of the file that it makes.
        steps: Optimiser steps.
        batch: Pictures in a step.
        accumulate: Batches whose gradients make one step.
        learning_rate: Of the optimiser, at its height.
        warmup_steps: Over which the rate rises from nothing.
        schedule: How the rate falls after that.
        ema: Decay of the moving average that is exported; 0 for none.
        checkpoint_every_s: Seconds between checkpoints; a killed run goes on from the last.
        sample_every: Steps between grids of samples; 0 for none.
        sample_prompts: What they show.
        precision: In which the model computes; what is trained is kept in float32.
        background: Runs only while nothing is painted, at low priority.
    """

    name: RunName
    seed: Seed = 0
    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    batch: int | None = Field(default=None, ge=1, le=1024)
    accumulate: int = Field(default=1, ge=1, le=256)
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    warmup_steps: int = Field(default=0, ge=0, le=100_000)
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    optimizer: Optimizer = "adamw"
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    grad_clip: float = Field(default=1.0, ge=0, le=1000)
    ema: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    checkpoint_every_s: float = Field(default=60.0, gt=0, le=86_400)
    sample_every: int = Field(default=100, ge=0, le=1_000_000)
    sample_prompts: tuple[Words, ...] = Field(default=(), max_length=16)
    background: bool = True


class DiffusionRequest(TrainingRequest):
    """The groundwork of methods that change a diffusion model with pictures of a set.

    Attributes:
        model: What it is trained on.
        dataset: Name of the training set.
        size_px: Side of the training pictures' area; None takes the model's own.
        buckets: Pictures keep their shape, in buckets of equal area; otherwise the middle square.
        mirror: Pictures are also shown mirrored.
        min_snr_gamma: Hang et al. 2023 (arXiv 2303.09556); 0 for none; None for 5, and none for the built-in model.
        noise_offset: Added to every channel's mean of the noise; 0 for none.
        min_timestep: No step is trained with less noise than this time step's, of 1000.
        max_timestep: Nor with more than this one's: low ones teach texture, high ones composition and colour.
        caption_dropout: Share of steps without a caption.
        tag_dropout: Share of a caption's tags that are left out.
        shuffle_tags: Tags behind the first `keep_tags` come in random order.
        cache: Latents and text states are computed once.
        masked: Masks of the set weigh the loss.
    """

    model: ModelName = "danqing-mini"
    dataset: SetName
    size_px: int | None = Field(default=None, ge=32, le=2048)
    buckets: bool = True
    mirror: bool = False
    min_snr_gamma: float | None = Field(default=None, ge=0, le=100)
    noise_offset: float = Field(default=0.0, ge=0, le=1)
    min_timestep: int = Field(default=0, ge=0, le=999)
    max_timestep: int = Field(default=999, ge=0, le=999)
    caption_dropout: float = Field(default=0.1, ge=0, le=1)
    tag_dropout: float = Field(default=0.0, ge=0, lt=1)
    shuffle_tags: bool = False
    keep_tags: int = Field(default=1, ge=0, le=75)
    gradient_checkpointing: bool = False
    cache: bool = True
    masked: bool = True


class NetworkShape(Data):
    """How a network that is trained beside the weights is built.

    Attributes:
        kind: `lora` (Hu et al. 2021), `dora` (Liu et al. 2024), `loha`, `lokr` (LyCORIS).
        alpha: The change is scaled by alpha / rank; None for the rank.
        conv_rank: Of convolutions wider than 1 px; 0 leaves them alone; None lets the method choose.
        conv_alpha: Likewise; None for `conv_rank`.
        text_encoder: Whether text encoders get networks too; None lets the method choose.
        lokr_factor: Of LoKr's split; -1 for the most even one.
        blocks: Layers whose names contain one of these; none for all.
        save_precision: Of the file; `auto` keeps float32 up to 32 MB.
    """

    kind: Literal["lora", "dora", "loha", "lokr"] = "lora"
    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float | None = Field(default=None, gt=0, le=4096)
    conv_rank: int | None = Field(default=None, ge=0, le=1024)
    conv_alpha: float | None = Field(default=None, gt=0, le=4096)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    text_encoder: bool | None = None
    text_learning_rate: float | None = Field(default=None, gt=0, le=10)
    lokr_factor: int = Field(default=-1, ge=-1, le=64)
    blocks: tuple[str, ...] = ()
    save_precision: Literal["auto", "float32", "float16"] = "auto"


class LoraRequest(DiffusionRequest):
    """A LoRA, DoRA, LoHa or LoKr in kohya's naming."""

    method: Literal["lora"] = "lora"
    network: NetworkShape = NetworkShape()


class DreamBoothRequest(DiffusionRequest):
    """A subject bound to a rare word (Ruiz et al. 2022, arXiv 2208.12242), as a network or in the weights themselves.

    Attributes:
        network: None changes the weights and exports a whole model.
        prior_weight: Of the class pictures' loss; 0 for no prior preservation.
        prior_pictures: How many class pictures are painted, beside those in the set.
        train_text_encoder: Only where the weights themselves are changed.
    """

    method: Literal["dreambooth"] = "dreambooth"
    network: NetworkShape | None = NetworkShape()
    prior_weight: float = Field(default=1.0, ge=0, le=10)
    prior_pictures: int = Field(default=100, ge=0, le=2000)
    train_text_encoder: bool = False


class EmbeddingRequest(DiffusionRequest):
    """A word of its own (textual inversion, Gal et al. 2022, arXiv 2208.01618).

    Attributes:
        vectors: Of the word.
        initial_words: Whose vectors it begins with.
        negative: Learns what pictures should not be: the set shows what to avoid, the file is used in negative prompts.
        norm_weight: Of a loss that keeps the vectors about as long as other words' are; 0 for none.
    """

    method: Literal["embedding"] = "embedding"
    vectors: int = Field(default=4, ge=1, le=75)
    initial_words: str = Field(default="", max_length=400)
    negative: bool = False
    norm_weight: float = Field(default=0.0, ge=0, le=100)


class HypernetworkRequest(DiffusionRequest):
    """A hypernetwork in A1111's format; the fields of its shape are A1111's."""

    method: Literal["hypernetwork"] = "hypernetwork"
    layer_structure: tuple[float, ...] = Field(default=(1, 2, 1), min_length=2, max_length=8)
    activation: Literal["linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid"] = "linear"
    layer_norm: bool = False
    dropout: bool = False


class ControlNetRequest(DiffusionRequest):
    """A ControlNet (Zhang et al. 2023, arXiv 2302.05543) from an annotator's maps, or from the set's own."""

    method: Literal["controlnet"] = "controlnet"
    annotator: str | None = Field(default="canny", max_length=64, description="None: the set brings its maps")
    start_from: str | None = Field(default=None, max_length=300, description="a ControlNet that is trained further")


class FinetuneRequest(DiffusionRequest):
    """The whole denoiser; a checkpoint comes out."""

    method: Literal["finetune"] = "finetune"
    train_text_encoder: bool = False


class DistillRequest(DiffusionRequest):
    """A LoRA for few steps: `lcm` (Luo et al., arXiv 2311.05556) or `tcd` (Zheng et al., arXiv 2402.19159)."""

    method: Literal["distill"] = "distill"
    way: Literal["lcm", "tcd"] = "lcm"
    network: NetworkShape = NetworkShape(rank=32, conv_rank=32)
    guidance_min: float = Field(default=1.0, ge=0, le=30)
    guidance_max: float = Field(default=6.0, ge=0, le=30)
    teacher_steps: int = Field(default=50, ge=4, le=1000)


class SliderRequest(TrainingRequest):
    """A LoRA whose strength is a slider between two words (Gandikota et al. 2023, arXiv 2311.12092); no pictures."""

    method: Literal["slider"] = "slider"
    model: ModelName = "danqing-mini"
    network: NetworkShape = NetworkShape(rank=4)
    target: Words = ""
    positive: Words = Field(min_length=1)
    negative: Words = ""
    preserve: tuple[Words, ...] = Field(default=(), max_length=32)
    guidance_scale: float = Field(default=4.0, gt=0, le=30)
    size_px: int | None = Field(default=None, ge=32, le=2048)


class ArtAugRequest(TrainingRequest):
    """Accepted before/after pairs of the review loop as an enhancement LoRA, by differential training (ArtAug).

    Attributes:
        pairs: A folder made by `danqing refine --export`, or the name of a training set of kind `pairs`.
        rounds: Of: pairs → LoRA → fused → pairs painted with it → …
        group: Pairs that share one LoRA 1 and one LoRA 2; 1 as in the paper.
        before_steps: LoRA 1 overfits *before* in so many, and is frozen in.
        steps: LoRA 2 learns *after* in so many; None lets the method choose.
        accept_gain: Of the judge's score on held-back briefs that a round needs to be kept.
    """

    method: Literal["artaug"] = "artaug"
    model: ModelName = "danqing-mini"
    pairs: str = Field(default="", max_length=1000)
    network: NetworkShape = NetworkShape(rank=8)
    rounds: int = Field(default=1, ge=1, le=10)
    group: int = Field(default=10, ge=1, le=1000)
    before_steps: int | None = Field(default=None, ge=1, le=100_000)
    accept_gain: float = Field(default=0.0, ge=-1, le=1)
    size_px: int | None = Field(default=None, ge=32, le=2048)


class FoundationRequest(TrainingRequest):
    """The groundwork of models that are trained from nothing, to watch them learn.

    Attributes:
        dataset: Name of a training set; None for the built-in data.
        subject: Of the built-in data: groups, styles and labels between commas (`face, 3d`); `-` before one leaves it
            out, `all` takes everything, nothing stands for faces in colour.
        size_px: Side of the pictures.
    """

    dataset: SetName | None = None
    subject: str = Field(default="", max_length=200)
    size_px: Literal[32, 64] = 64


class DcganRequest(FoundationRequest):
    """DCGAN (Radford et al. 2015, arXiv 1511.06434), with two helps for few pictures that the paper does not have.

    Attributes:
        width: Channels at half of the picture's side; the paper has 64, which learns a third as fast on a CPU.
        shift: All that the discriminator sees is moved at random by up to this share of its side, real and painted
            alike, so that it cannot learn a few hundred pictures by heart (Zhao et al. 2020, arXiv 2006.10738); 0 for
            none.
        label_smoothing: The discriminator is asked to believe in real pictures only to 1 less this (Salimans et al.
            2016, arXiv 1606.03498); 0 for none.
    """

    method: Literal["dcgan"] = "dcgan"
    latent_dim: int = Field(default=100, ge=2, le=1024)
    width: int = Field(default=32, ge=8, le=256)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    shift: float = Field(default=0.125, ge=0, le=0.5)
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5)
    sample_every: int = Field(default=500, ge=0, le=1_000_000)


class WganRequest(FoundationRequest):
    """The same generator against a Wasserstein critic (Gulrajani et al. 2017, arXiv 1704.00028)."""

    method: Literal["wgan"] = "wgan"
    latent_dim: int = Field(default=100, ge=2, le=1024)
    width: int = Field(default=64, ge=8, le=256)
    critic_steps: int = Field(default=5, ge=1, le=20)
    gradient_penalty: float = Field(default=10.0, ge=0, le=1000)


class DdpmRequest(FoundationRequest):
    """DDPM (Ho et al. 2020, arXiv 2006.11239): linear β 1e-4 … 0.02, T = 1000, the ε of every step.

    Attributes:
        width: Channels at half of the picture's side; full size has half of them, a quarter twice as many.
        size_px: 64 px take four times as long as 32, which is what two cores can learn in twenty minutes.
    """

    method: Literal["ddpm"] = "ddpm"
    size_px: Literal[32, 64] = 32
    width: int = Field(default=64, ge=16, le=256, multiple_of=16)
    ema: float = Field(default=0.995, ge=0, lt=1)
    sample_every: int = Field(default=500, ge=0, le=1_000_000)
