"""A picture changed by its words: source and edited picture are painted side by side, the second led by the first."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from danqing.adapters.prompt_to_prompt import AttentionControl, Sightings
from danqing.engine.calls import Decode, Denoise, Describe, Description, EncodeImage, Exclusive, Report, WordsInput
from danqing.models.families.sd import StableDiffusion
from danqing.pipelines import conditioning, inversion, pixels, words_local
from danqing.pipelines.conditioning import Conditioning
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Scene, pass_controls
from danqing.pipelines.denoiser import Denoiser, Moment, Reading, Stage, size_numbers
from danqing.pipelines.inversion import Inverting, Source
from danqing.pipelines.passes import (
    fitted,
    guidance_settings,
    latent_shape,
    noise_settings,
    pass_levels,
    pass_stages,
    sampler_options,
)
from danqing.pipelines.words_ledits import ledits
from danqing.pipelines.words_local import Locality
from danqing.prompt.alignment import PlacedText, TokenMap, placed, token_map
from danqing.prompt.emphasis import EmphasisMode
from danqing.prompt.networks import parse_networks
from danqing.sampling.guidance import GuidanceSettings, guide, needs_uncond, perturbed_attention
from danqing.sampling.noise import PictureNoise
from danqing.sampling.samplers import SAMPLERS
from danqing.sampling.types import BrownianPath, NoiseSource
from danqing.spec.errors import InvalidRequestError
from danqing.spec.plan import PassPlan
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.words_edit import WordsPlan

SELF_SHARE_PLACES = 256
"""Self-attentions that follow the source have at most so many places, as published, or a 16th of the latent's."""


def words_edit(context: Context) -> Step[Tensor | Image.Image]:
    """The edited latents [1, c, h, w] of the base pass; the picture, where only parts of it were to change."""
    asked = words_of(context)
    if asked.technique == "ledits":
        return (yield from ledits(context, asked))
    planned = context.plan.base
    key = context.key(planned.model)
    steps = planned.sampling.steps
    yield Report(0, steps, context.fraction(0), 0, "load")
    described: Description = fitted((yield Describe(key)), planned.size)
    yield Report(0, steps, context.fraction(0), 0, "encode")
    picture = _picture(context)
    pair = yield from _prepared(context, described, picture)
    if picture is None:
        latents = yield from _painted(context, pair, described)
        original = None
    else:
        latents = yield from inverted(context, pair, pixels.to_tensor(picture))
        original = picture
    mask = pair.mask()
    if mask is None or len(context.plan.passes) > 1:
        return latents[1:]
    yield Report(steps, steps, context.fraction(steps), 0, "decode")
    if original is None:
        original = pixels.to_image((yield Decode(key, latents[:1])))
    edited = pixels.to_image((yield Decode(key, latents[1:])))
    return words_local.pasted(original, edited, mask)


def extra_steps(asked: WordsPlan | None) -> int:
    """How many trips over the pass's steps an edit takes besides its own."""
    if asked is None or asked.inversion is None:
        return 0
    return 2 if asked.inversion == "null_text" else 1


def words_of(context: Context) -> WordsPlan:
    """How the Plan changes words.

    Raises:
        InvalidRequestError: It does not.
    """
    if context.plan.words is None:
        raise InvalidRequestError(
            "this plan changes no words", field="source_prompt", next_step="say what the picture shows now"
        )
    return context.plan.words


def _picture(context: Context) -> Image.Image | None:
    """The picture that is inverted, at the size of the pass."""
    init = context.plan.init
    if init is None:
        return None
    return pixels.resize(pixels.flatten(context.pictures.open(init.image)), context.plan.base.size, init.resize_mode)


def _prepared(context: Context, described: Description, picture: Image.Image | None) -> Step[Pair]:
    """The denoiser of source and edited picture."""
    planned, asked = context.plan.base, words_of(context)
    key = context.key(planned.model)
    levels = pass_levels(planned, described)
    scene = Scene(picture) if picture is not None else Scene()
    controls = pass_controls(context, 0, scene)
    stages = yield from pass_stages(context, 0, key, len(levels) - 1)
    said = planned.text.model_copy(update={"prompt": asked.source_prompt})
    source = yield from conditioning.encode(key, planned.model_copy(update={"text": said}))
    texts = _Texts(asked.source_prompt, planned)
    old, new = yield Exclusive(key, f"words:{key.model.sha256}", texts.placed)
    shape = latent_shape(described, planned.size)
    return Pair(
        context,
        stages,
        guidance_settings(planned),
        [float(v) for v in levels.tolist()],
        controls=controls,
        source=source,
        ties=Ties(asked, _carried(token_map(old, new, asked.alignment)), _weights(asked, new), shape[2:]),
        locality=words_local.locality(asked, old, new, shape[2:]),
    )


@dataclass(frozen=True)
class _Texts:
    """The two prompts, to be placed by the model's own tokenizer."""

    source_prompt: str
    planned: PassPlan

    def placed(self, model: StableDiffusion) -> tuple[PlacedText, PlacedText]:
        """Where the tokens of source and edited prompt stand."""
        mode = EmphasisMode(self.planned.text.emphasis)
        both = (self.source_prompt, self.planned.text.prompt)
        old, new = (placed(parse_networks(text)[0], mode, model.text.tokenizer) for text in both)
        return old, new


def _carried(found: TokenMap) -> tuple[Tensor, Tensor]:
    """From source tokens to edited ones [tokens, tokens], and which of these keep their own attention [tokens]."""
    carried, own = torch.zeros(found.length, found.length), torch.zeros(found.length)
    for source, target, share in found.pairs:
        carried[source, target] += share
    own[list(found.own)] = 1.0
    return carried, own


def _weights(asked: WordsPlan, new: PlacedText) -> Tensor | None:
    """How much each token of the edited prompt counts [tokens]; None where all count alike."""
    weights = torch.ones(new.length)
    for one in asked.weights:
        places = new.places_of(one.word)
        if not places:
            raise missing_word(one.word, "weights", new.plain)
        weights[places] = one.weight
    return None if bool((weights == 1.0).all()) else weights


def missing_word(word: str, field_name: str, text: str) -> InvalidRequestError:
    """The error for a word that does not stand in a prompt."""
    return InvalidRequestError(
        f"the word {word!r} does not stand in the prompt",
        field=field_name,
        value=word,
        allowed=f"words of: {text[:200]}",
        next_step="correct its spelling, or leave it out",
    )


@dataclass(frozen=True)
class Ties:
    """How the edited picture is tied to the source.

    Attributes:
        asked: Shares of the steps.
        carried: As `AttentionControl` has them: map of the source's tokens, and which keep their own attention.
        weights: Of the edited tokens.
        grid: Height and width of the latents.
    """

    asked: WordsPlan
    carried: tuple[Tensor, Tensor]
    weights: Tensor | None
    grid: tuple[int, int]

    def at(self, step: int, steps: int, seen: Sightings | None) -> AttentionControl:
        """The control of attention in a step, counted from 0."""
        crossing = step < int(self.asked.cross_share * steps)
        sharing = step < int(self.asked.self_share * steps)
        places = max(SELF_SHARE_PLACES, self.grid[0] * self.grid[1] // 16)
        return AttentionControl(
            carried=self.carried[0] if crossing else None,
            own=self.carried[1] if crossing else None,
            weights=self.weights,
            self_places=places if sharing else 0,
            seen=seen,
        )


@dataclass
class Pair(Denoiser):
    """A denoiser of two latents at once: the source's, and the edited picture's, which follows it.

    Attributes:
        source: The words of the source.
        ties: How the second follows the first.
        locality: Where the picture may change; None for everywhere.
        denials: For each step what stands in the unconditional rows, where it is not the negative prompt.
    """

    source: Conditioning | None = None
    ties: Ties | None = None
    locality: Locality | None = None
    denials: list[Any] = field(default_factory=list[Any])
    _seen: Sightings = field(default_factory=Sightings)

    def mask(self) -> Tensor | None:
        """Where the picture may change by now, [1, 1, h, w] of 0 and 1."""
        return None if self.locality is None else self.locality.mask()

    def __call__(self, x: Tensor, sigma: float) -> Generator[Any, Any, Tensor]:
        """D(x, σ) under guidance for x [2, c, h, w]: source and edited."""
        step = self.step_at(sigma)
        stage = next(stage for stage in reversed(self.stages) if step >= stage.first_step)
        denoised = self.held((yield from self._guided(self.held(x, step), sigma, step, stage)), step)
        self.furthest = max(self.furthest, step + 1)
        fraction = self.context.fraction(self.furthest)
        yield Report(self.furthest, self.steps, fraction, self.pass_index, "denoise", stage.key, denoised[1:])
        return denoised

    def held(self, x: Tensor, step: int) -> Tensor:
        """The latents [2, c, h, w] with the edited one as the source outside of where it may change."""
        mask = None if self.locality is None else self.locality.mask_at(step, self.steps)
        return x if mask is None else torch.cat([x[:1], torch.where(mask > 0, x[1:], x[:1])])

    def _guided(self, x: Tensor, sigma: float, step: int, stage: Stage) -> Generator[Any, Any, Tensor]:
        (edited, *_), negative = stage.conditioning.at(step)
        said = [edited if self.source is None else self.source.at(step)[0][0], edited]
        if self.denials:
            negative = self.denials[step]
        guided = needs_uncond(self.guidance, sigma, step, self.steps)
        read = Reading(
            said=said,
            denied=[negative, negative] if guided else [],
            perturbed=said if self.guidance.pag_scale > 0 else [],
        )
        answers = yield from self._ask(Moment(x, sigma, step, stage), read, stage.networks)
        if self.locality is not None:
            self.locality.see(self._seen)
        found = [_combined(self.guidance, answers, row, guided, (x[row : row + 1], sigma)) for row in (0, 1)]
        self.last_uncond = torch.cat(answers[2:4] if guided else answers[:2])
        return torch.cat(found)

    def _finished(self, call: Denoise, step: int, counts: tuple[int, int, int]) -> Denoise:
        if self.ties is None:
            raise RuntimeError("a pair without ties was asked")
        seen = None if self.locality is None else self._seen
        control = self.ties.at(step, self.steps, seen)
        return replace(call, latents=(0, 1) * (sum(counts) // 2), words=WordsInput(0, 1, control))


def _combined(
    settings: GuidanceSettings, answers: list[Tensor], row: int, guided: bool, level: tuple[Tensor, float]
) -> Tensor:
    """One row's estimate under guidance, from the answers for both: said, denied, perturbed."""
    out = guide(settings, answers[2 + row], [answers[row]], (1.0,), level) if guided else answers[row]
    if settings.pag_scale > 0:
        out = perturbed_attention(out, answers[row], answers[len(answers) - 2 + row], settings.pag_scale)
    return out


def _painted(context: Context, pair: Pair, described: Description) -> Step[Tensor]:
    """Both latents [2, c, h, w], painted from the same noise by the Plan's sampler."""
    planned = context.plan.base
    noise = _Twin(PictureNoise(noise_settings(context.plan.seeds, described.info.latent_scale)))
    x = noise.initial((2, *latent_shape(described, planned.size)[1:])) * pair.levels[0]
    options = sampler_options(planned.sampling, described, pair)
    sampler = SAMPLERS[find_sampler(planned.sampling.sampler).key]
    latents: Tensor = yield from sampler(pair, x, pass_levels(planned, described), noise, options)
    context.done_steps += pair.steps
    return latents


def inverted(context: Context, pair: Pair, picture: Tensor) -> Step[Tensor]:
    """Both latents [2, c, h, w]: the picture's own, inverted and led back, and the edited one."""
    asked, planned = words_of(context), context.plan.base
    key, stage = context.key(planned.model), pair.stages[0]
    latent: Tensor = yield EncodeImage(key, picture)
    if pair.source is None:
        raise RuntimeError("a picture without a source prompt was to be inverted")
    source = replace(stage, conditioning=pair.source)
    up = Inverting(context, [source], GuidanceSettings(scale=1.0), pair.levels, controls=pair.controls)
    # The autoencoder's answer was made for inference alone; a copy may take part in gradients.
    path = yield from inversion.ddim_invert(up, latent.clone(), pair.levels)
    context.done_steps += pair.steps
    if asked.inversion == "negative_prompt":
        pair.denials = [pair.source.at(step)[0][0] for step in range(pair.steps)]
    if asked.inversion == "null_text":
        _, negative = pair.source.at(0)
        told = size_numbers(planned, negative=True)
        held = Source(key, path, pair.levels, planned.guidance_scale, negative, told, stage.networks)
        pair.denials = yield from inversion.null_text(context, held, up.quietly)
        context.done_steps += pair.steps
    x = torch.cat([path[0], path[0]])
    for step, (level, following) in enumerate(pairwise(pair.levels)):
        denoised = yield from pair(x, level)
        x = inversion.ddim_step(x, denoised, level, following)
        if asked.inversion == "direct":
            # Direct inversion adds to the source what its step missed of the path: the path itself comes out.
            x = torch.cat([path[step + 1], x[1:]])
        x = pair.held(x, step)
    context.done_steps += pair.steps
    return x


class _Twin:
    """One picture's noise for both latents; everything [2, c, h, w]."""

    def __init__(self, noise: NoiseSource) -> None:
        self._noise = noise

    def initial(self, shape: tuple[int, ...]) -> Tensor:
        return _twice(self._noise.initial((1, *shape[1:])))

    def next(self, shape: tuple[int, ...]) -> Tensor:
        return _twice(self._noise.next((1, *shape[1:])))

    def brownian(self, shape: tuple[int, ...], sigma_min: float, sigma_max: float) -> BrownianPath:
        return _TwinPath(self._noise.brownian((1, *shape[1:]), sigma_min, sigma_max))

    def rows(self) -> list[NoiseSource]:
        return [self._noise, self._noise]


class _TwinPath:
    def __init__(self, path: BrownianPath) -> None:
        self._path = path

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        return _twice(self._path.between(sigma, sigma_next))


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])
