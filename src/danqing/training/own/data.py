"""A training set as batches: which pictures a step shows, their latents and texts, each computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danqing.models.families.sd import Added
from danqing.sets.buckets import Bucket, make_buckets, place_picture, step_of
from danqing.sets.captions import trainer_caption
from danqing.sets.folder import read_set
from danqing.spec.errors import InvalidRequestError
from danqing.spec.training_methods import DiffusionRequest
from danqing.spec.training_set import TrainingPicture, TrainingSet
from danqing.training.own.captions import CaptionRules, varied
from danqing.training.own.context import Context
from danqing.training.own.methods.base import Settings
from danqing.training.own.noise import Levels, offset_noise
from danqing.training.own.opened import Opened
from danqing.training.own.pictures import Example, PictureReader
from danqing.training.own.seeds import rng_of, torch_of

TEXT_CACHE_BYTES = 512 * 2**20
HALF_CACHE_BYTES = 512 * 2**20
"""Latents of more than so many bytes are kept in float16."""
HOLD_OUT_FROM, HOLD_OUT_SHARE, HOLD_OUT_MOST = 40, 10, 32
"""Of so many pictures on, one in ten is held back to measure with; at most 32."""


@dataclass(frozen=True)
class Show:
    """One showing of a picture."""

    example: Example
    mirrored: bool
    caption: str


@dataclass(frozen=True)
class Batch:
    """What a step is given, on the model's device.

    Attributes:
        shows: Which pictures, how.
        latents: x₀ float32 [b, c, h, w].
        noise: n, alike.
        times: Time steps [b].
        context: Text states [b, 77, width].
        added: For SDXL.
        mask: Where pictures count [b, 1, h, w]; None for everywhere.
        weights: Of each picture's loss [b]: pictures of the class count for prior preservation.
    """

    shows: tuple[Show, ...]
    latents: Tensor
    noise: Tensor
    times: Tensor
    context: Tensor
    added: Added | None
    mask: Tensor | None
    weights: Tensor


@dataclass(frozen=True)
class DataOptions:
    """How a set is shown; most fields are the Request's.

    Attributes:
        batch: Pictures in a batch.
        accumulate: Batches in a step.
        steps: Of the whole run.
        rules: How captions vary.
        prior_weight: Of the loss of regularisation pictures.
        live_text: Text encoders are trained, or read new words: nothing of what they say is kept.
        elsewhere: File → folder of pictures that do not lie with the set.
    """

    seed: int
    batch: int
    accumulate: int
    steps: int
    size_px: int
    rules: CaptionRules
    buckets: bool = True
    mirror: bool = False
    masked: bool = True
    noise_offset: float = 0.0
    cache: bool = True
    prior_weight: float = 1.0
    live_text: bool = False
    elsewhere: Mapping[str, Path] = field(default_factory=dict[str, Path])

    @classmethod
    def of(
        cls, request: DiffusionRequest, settings: Settings, opened: Opened, *, live_text: bool = False
    ) -> DataOptions:
        """The Request's."""
        return cls(
            seed=request.seed,
            batch=settings.batch,
            accumulate=request.accumulate,
            steps=settings.steps,
            size_px=request.size_px or opened.native_px,
            rules=CaptionRules.of(request),
            buckets=request.buckets,
            mirror=request.mirror,
            masked=request.masked,
            noise_offset=request.noise_offset,
            cache=request.cache,
            live_text=live_text,
        )


def open_set(request: DiffusionRequest, context: Context) -> tuple[TrainingSet, Path]:
    """The Request's training set and its folder.

    Raises:
        NotFoundError: There is none of this name.
        InvalidRequestError: It is empty.
    """
    folder = context.sets_dir / request.dataset
    made = read_set(folder)
    own = [picture for picture in made.pictures if picture.repeats and not picture.regularisation]
    if not own:
        raise InvalidRequestError(
            "the training set is empty",
            field="dataset",
            value=request.dataset,
            allowed="at least one picture that is shown (repeats above 0) and no picture of the class",
            next_step="import pictures into it",
        )
    silent = sum(not picture.caption for picture in own)
    if silent:
        context.warn(f"{silent} of {len(own)} pictures have no caption; all that they show is tied to the same words")
    return made, folder


def make_examples(made: TrainingSet, sizes: Sequence[Bucket]) -> list[Example]:
    """The set's pictures in their buckets, in its order; those with 0 repeats are left out."""
    shown = [picture for picture in made.pictures if picture.repeats > 0]
    return [
        Example(index, picture, trainer_caption(made, picture), place_picture(picture, sizes))
        for index, picture in enumerate(shown)
    ]


def bucket_sizes(opened: Opened, size_px: int, *, buckets: bool) -> tuple[Bucket, ...]:
    """The sizes that the model's halvings allow.

    Raises:
        InvalidRequestError: The size is less than the smallest one.
    """
    levels = len(opened.info.block_widths) or len(opened.unet.config["block_out_channels"])
    found = make_buckets(size_px, step_of(opened.latent_scale, levels))
    return found if buckets else tuple(one for one in found if one.width_px == one.height_px)


class Order:
    """Which examples a step shows: each bucket goes through its own in a new random order each time.

    Args:
        shown: Examples by bucket; one that is repeated stands there as often.
        seed: The run's.
        per_step: Pictures of a step; all of one bucket.
        steps: Of the run.
    """

    def __init__(self, shown: Sequence[Sequence[int]], seed: int, per_step: int, steps: int) -> None:
        self._shown = [np.asarray(one) for one in shown]
        self._seed = seed
        self._per_step = per_step
        sizes = np.asarray([len(one) for one in self._shown], np.float64)
        self.buckets: NDArray[np.int64] = np.zeros(steps, np.int64)
        if len(sizes) > 1:
            self.buckets = rng_of(seed, "buckets", 0).choice(len(sizes), size=steps, p=sizes / sizes.sum())
        self._earlier = np.zeros(steps, np.int64)
        for bucket in range(len(sizes)):
            here = self.buckets == bucket
            self._earlier[here] = np.arange(int(here.sum()))
        self._kept: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()

    def of(self, step: int) -> list[int]:
        """The examples of a step."""
        bucket = int(self.buckets[step])
        first = int(self._earlier[step]) * self._per_step
        return [self._at(bucket, position) for position in range(first, first + self._per_step)]

    def _at(self, bucket: int, position: int) -> int:
        epoch, place = divmod(position, len(self._shown[bucket]))
        key = (bucket, epoch)
        if key not in self._kept:
            while len(self._kept) > 2 * len(self._shown):
                self._kept.popitem(last=False)
            number = epoch * len(self._shown) + bucket
            self._kept[key] = rng_of(self._seed, "order", number).permutation(len(self._shown[bucket]))
        return int(self._shown[bucket][self._kept[key][place]])


class TrainingData:
    """A set as batches. A batch depends on its number alone.

    Args:
        opened: Encodes pictures and texts.
        made: The set.
        folder: Where it lies.
        options: How it is shown.
        levels: How noise levels are drawn.
    """

    def __init__(self, opened: Opened, made: TrainingSet, folder: Path, options: DataOptions, levels: Levels) -> None:
        self.opened = opened
        self.made = made
        self.options = options = replace(options, mirror=options.mirror or made.mirror)
        self.levels = levels
        self.reader = PictureReader(folder, options.elsewhere)
        sizes = bucket_sizes(opened, options.size_px, buckets=options.buckets)
        self.examples = make_examples(made, sizes)
        self.held_out = _held_out(self.examples)
        self.order = Order(self._by_bucket(), options.seed, options.batch * options.accumulate, options.steps)
        self._latents: dict[tuple[int, bool], Tensor] = {}
        self._texts: OrderedDict[str, tuple[Tensor, Tensor | None]] = OrderedDict()

    def _by_bucket(self) -> list[list[int]]:
        """What is shown, by bucket; pictures of the class stand in as often as the others, all in turn."""
        held = {one.index for one in self.held_out}
        own = [one for one in self.examples if not one.picture.regularisation and one.index not in held]
        shows = [one for one in own for _ in range(one.picture.repeats)]
        kin = [one for one in self.examples if one.picture.regularisation]
        if kin:
            shows += [kin[i % len(kin)] for i in range(max(len(shows), len(kin)))]
        found: dict[tuple[int, int], list[int]] = {}
        for one in shows:
            found.setdefault(one.bucket, []).append(one.index)
        return [found[key] for key in sorted(found)]

    def prepare(self) -> None:
        """Encode what is kept, so that steps are alike from the first on."""
        if not self.options.cache:
            return
        for example in self.examples:
            for mirrored in (False, True) if self.options.mirror else (False,):
                self._latent(example, mirrored)
            if not self.options.live_text:
                self.text([example.caption])

    def shows(self, batch: int) -> list[Show]:
        """The pictures of a batch, mirrored or not, with their captions."""
        options = self.options
        step, part = divmod(batch, options.accumulate)
        chosen = self.order.of(step)[part * options.batch : (part + 1) * options.batch]
        first = batch * options.batch
        found: list[Show] = []
        for offset, index in enumerate(chosen):
            rng = rng_of(options.seed, "show", first + offset)
            mirrored = options.mirror and bool(rng.random() < 0.5)
            example = self.examples[index]
            found.append(Show(example, mirrored, varied(example.caption, options.rules, rng)))
        return found

    def batch(self, number: int) -> Batch:
        """Everything of a batch."""
        options = self.options
        shows = self.shows(number)
        step, part = divmod(number, options.accumulate)
        times = self.levels.draw(options.seed, step, options.batch * options.accumulate)
        own = torch.from_numpy(times[part * options.batch : (part + 1) * options.batch])
        return self._assembled(shows, own, number * options.batch, "noise")

    def fixed_batches(self, size: int, rounds: int = 4) -> list[Batch]:
        """Always the same pictures, noise and levels, to measure with: the held-out ones, else all that are trained.

        Args:
            size: Pictures in a batch at most; all of one bucket.
            rounds: How many levels each picture is shown at.
        """
        chosen = self.held_out or [one for one in self.examples if not one.picture.regularisation][:HOLD_OUT_MOST]
        found: list[Batch] = []
        for bucket in sorted({one.bucket for one in chosen}):
            kin = [one for one in chosen if one.bucket == bucket]
            shows = [Show(one, mirrored=False, caption=one.caption) for one in kin for _ in range(rounds)]
            times = rng_of(0, "fixed", len(shows)).permutation(self.levels.spread(len(shows)))
            for first in range(0, len(shows), size):
                own = torch.from_numpy(times[first : first + size])
                found.append(self._assembled(shows[first : first + size], own, len(found) * size, "fixed"))
        return found

    def _assembled(self, shows: Sequence[Show], times: Tensor, first: int, purpose: str) -> Batch:
        """A batch of these pictures; the noise of each has a number of its own."""
        options, device = self.options, self.opened.device
        latents = torch.stack([self._latent(show.example, show.mirrored).float() for show in shows])
        noise = torch.empty_like(latents)
        offsets = torch.empty(len(shows), latents.shape[1], 1, 1)
        for row in range(len(shows)):
            generator = torch_of(options.seed, purpose, first + row)
            noise[row] = torch.randn(latents.shape[1:], generator=generator)
            offsets[row] = torch.randn(offsets.shape[1:], generator=generator)
        context, pooled = self.text([show.caption for show in shows])
        weights = [options.prior_weight if show.example.picture.regularisation else 1.0 for show in shows]
        mask = self._masks(shows, latents)
        return Batch(
            tuple(shows),
            latents.to(device),
            offset_noise(noise, offsets, options.noise_offset).to(device),
            times.to(device),
            context,
            self._added(pooled, shows),
            None if mask is None else mask.to(device),
            torch.tensor(weights, device=device),
        )

    def text(self, captions: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """States [b, 77, width] and pooled [b, width] or None, on the model's device; differentiable if `live_text`."""
        if self.options.live_text:
            return self.opened.read_text(self.opened.token_ids(captions))
        rows = [self._text(caption) for caption in captions]
        pooled = [row[1] for row in rows if row[1] is not None]
        device = self.opened.device
        states = torch.stack([row[0] for row in rows]).to(device)
        return states, torch.stack(pooled).to(device) if pooled else None

    def _text(self, caption: str) -> tuple[Tensor, Tensor | None]:
        if caption not in self._texts:
            with torch.no_grad():
                states, pooled = self.opened.read_text(self.opened.token_ids([caption]))
            self._texts[caption] = states[0].cpu(), None if pooled is None else pooled[0].cpu()
            while len(self._texts) > 1 and len(self._texts) * states.nbytes > TEXT_CACHE_BYTES:
                self._texts.popitem(last=False)
        self._texts.move_to_end(caption)
        return self._texts[caption]

    def _added(self, pooled: Tensor | None, shows: Sequence[Show]) -> Added | None:
        if not self.opened.is_sdxl or pooled is None:
            return None
        numbers = torch.tensor([show.example.sizes for show in shows], dtype=torch.float32)
        return Added(pooled, numbers.to(self.opened.device))

    def _latent(self, example: Example, mirrored: bool) -> Tensor:
        """Latents [c, h, w] on the CPU. One at a time: they must not depend on their company."""
        key = (example.index, mirrored)
        if key in self._latents:
            return self._latents[key]
        latent = self.opened.encode_pictures(self.reader.picture(example, mirrored=mirrored)[None])[0]
        # Rounded even where it is not kept, so that caching changes nothing.
        if latent.nbytes * len(self.examples) * (1 + self.options.mirror) > HALF_CACHE_BYTES:
            latent = latent.half()
        if self.options.cache:
            self._latents[key] = latent
        return latent

    def _masks(self, shows: Sequence[Show], latents: Tensor) -> Tensor | None:
        """Where pictures count, at the latents' size; None if that is everywhere."""
        if not self.options.masked or all(show.example.picture.mask is None for show in shows):
            return None
        found = torch.ones(len(shows), 1, *latents.shape[2:])
        for row, show in enumerate(shows):
            mask = self.reader.mask(show.example, mirrored=show.mirrored)
            if mask is not None:
                found[row] = torch.nn.functional.adaptive_avg_pool2d(mask, (latents.shape[2], latents.shape[3]))
        return found


def _held_out(examples: Sequence[Example]) -> list[Example]:
    """Pictures that are not trained on, where there are enough to spare some."""
    own: list[Example] = [one for one in examples if not one.picture.regularisation]
    if len(own) < HOLD_OUT_FROM:
        return []
    return own[HOLD_OUT_SHARE // 2 :: HOLD_OUT_SHARE][:HOLD_OUT_MOST]


def pictures_of(made: TrainingSet) -> list[TrainingPicture]:
    """The pictures of the thing itself: neither left out nor of the class."""
    return [picture for picture in made.pictures if picture.repeats and not picture.regularisation]
