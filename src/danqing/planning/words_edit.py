"""A change of words resolved: both prompts seen to fit each other, the method's own numbers filled in."""

from __future__ import annotations

from typing import Any, Protocol

from danqing.planning.networks import NetworkFinder, NetworkPlanner
from danqing.planning.words import PromptLibrary
from danqing.prompt.alignment import check_exchange, is_exchange, plain_text, spans_of, words_in
from danqing.prompt.ast import find_networks
from danqing.prompt.composable import composable_parts
from danqing.prompt.dynamic import expand
from danqing.prompt.networks import parse_networks
from danqing.prompt.plain import beyond_words
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Sampling
from danqing.spec.plan import Plan
from danqing.spec.registry.samplers import find_sampler, split_legacy_name
from danqing.spec.request import Request
from danqing.spec.words_edit import Alignment, Inversion, WordsPlan, WordsRequest

FAMILIES = frozenset({"sd1", "sd2", "sdxl", "danqing"})
"""Families with a UNet whose cross-attentions read words."""
INVERSION_STEPS = 50
LEDITS_STEPS = 30
LEDITS_SCALE = 5.0
LEDITS_STEP_PX = 32
_STORAGES = ("float8", "int8", "nf4")
_UNTOUCHED = ("regions", "refiner", "styles")
_NO_GRADIENTS = ("controls", "image_prompts")


class Finder(NetworkFinder, Protocol):
    """What planning needs of the catalogue here."""

    def find(self, name: str | None) -> ModelInfo:
        """The model with this name or hash."""
        ...


def prepared(request: Request, catalog: Finder) -> Request:
    """A Request to change words with what its method decides; others stay as they are.

    Raises:
        UnsupportedError: This model cannot, or not together with something that was asked for.
        InvalidRequestError: A prompt is missing, or holds more than words.
    """
    if not isinstance(request, WordsRequest):
        return request
    model = catalog.find(request.model)
    _check_model(request, model)
    _check_fields(request)
    _check_prompts(request)
    inversion = _inversion(request)
    changes: dict[str, Any] = {"prompt": _with_tags(request)}
    if request.technique == "ledits":
        changes["sampling"] = Sampling(steps=request.sampling.steps or LEDITS_STEPS)
        changes["guidance"] = request.guidance.model_copy(update={"scale": _or(request.guidance.scale, LEDITS_SCALE)})
    elif inversion is not None:
        own = {"sampler": "DDIM", "steps": request.sampling.steps or INVERSION_STEPS, "eta": None}
        changes["sampling"] = request.sampling.model_copy(update=own)
        changes["inversion"] = inversion
    elif _sampler(request, model) == "dpm_adaptive":
        raise UnsupportedError(
            "this sampler takes steps of its own for each picture, so that two cannot be painted side by side",
            field="sampling.sampler",
            value="DPM adaptive",
            next_step="choose another sampler",
        )
    if inversion == "null_text" and request.precision == "auto":
        # Gradients of a few thousandths vanish in bfloat16.
        changes["precision"] = "float32"
    return request.model_copy(update=changes)


def finished(
    asked: Request, request: Request, plans: tuple[Plan, ...], catalog: Finder, library: PromptLibrary | None
) -> tuple[Plan, ...]:
    """The Plans of a Request with how they change words; those of other kinds as they are.

    Args:
        asked: As a person asked.
        request: As `prepared` made it.
        plans: One for each picture.
        catalog: Where networks are found.
        library: Wildcards.

    Raises:
        InvalidRequestError: Prompts, weights or places that do not fit each other.
        UnsupportedError: A prompt holds a word that was taught to the text encoder.
    """
    if not isinstance(request, WordsRequest) or not isinstance(asked, WordsRequest):
        return plans
    return tuple(_finished(asked, request, one, catalog, library) for one in plans)


def _finished(
    asked: WordsRequest, request: WordsRequest, plan: Plan, catalog: Finder, library: PromptLibrary | None
) -> Plan:
    source = expand(request.source_prompt, plan.seeds.seed, (library or PromptLibrary()).wildcards)
    base = plan.base
    _check_embeddings(source, base.text.prompt, catalog, catalog.find(base.model.sha256))
    old, new = (plain_text(parse_networks(text)[0]) for text in (source, base.text.prompt))
    if request.alignment == "replace":
        check_exchange(old, new)
    for index, one in enumerate(request.weights):
        _check_word(one.word, f"weights.{index}.word", new, "prompt")
    for index, one in enumerate(request.local):
        _check_word(one.source, f"local.{index}.source", old, "source prompt")
        _check_word(one.target, f"local.{index}.target", new, "prompt")
    fitting: Alignment = "replace" if is_exchange(old, new) else "refine"
    words = WordsPlan(
        source_prompt=source,
        technique=request.technique,
        inversion=request.inversion,
        alignment=request.alignment or fitting,
        weights=request.weights,
        cross_share=request.cross_share,
        self_share=request.self_share,
        local=request.local,
        local_threshold=request.local_threshold,
        edit_threshold=request.edit_threshold,
        skip=request.skip,
    )
    changes: dict[str, Any] = {"words": words, "notes": (*plan.notes, *_notes(asked, request))}
    if request.technique == "ledits":
        changes["passes"] = (base.model_copy(update={"size": _stepped(base.size)}), *plan.passes[1:])
    return plan.model_copy(update=changes)


def _notes(asked: WordsRequest, request: WordsRequest) -> list[str]:
    found: list[str] = []
    if request.image is None:
        return found
    if request.technique == "ledits":
        if request.local:
            found.append("LEDITS++ finds by itself where words act: `local` is not used")
        return found
    if asked.inversion is None:
        found.append("the picture is inverted (direct): nothing in it says how to paint it anew")
    sampler = asked.sampling.sampler
    if sampler is not None and find_sampler(split_legacy_name(sampler)[0]).key != "ddim":
        found.append("an inverted picture is painted by DDIM, whichever sampler was asked for")
    if request.inversion == "negative_prompt" and request.negative_prompt:
        found.append("the source prompt stands in place of the negative prompt, which is not used")
    return found


def _check_model(request: WordsRequest, model: ModelInfo) -> None:
    if model.family not in FAMILIES or model.foreign is not None or model.variant != "base":
        raise UnsupportedError(
            f"{model.name} has no cross-attention in which words could be changed",
            field="model",
            value=model.name,
            allowed="Stable Diffusion 1.x, 2.x and XL as they paint from words, and the built-in model",
            next_step="choose such a model",
        )
    if request.technique == "ledits" and model.latent_channels != 4:
        raise UnsupportedError(
            "LEDITS++ is written for models with four latent channels",
            field="technique",
            value=model.name,
            allowed="Stable Diffusion 1.x, 2.x and XL",
            next_step="leave the technique open: Prompt-to-Prompt edits with this model, too",
        )
    if request.inversion == "null_text" and request.precision in _STORAGES:
        raise UnsupportedError(
            "this number format has no gradients, which null-text inversion needs",
            field="precision",
            value=request.precision,
            allowed="auto, float32, bfloat16, float16",
            next_step="leave it at auto, or choose the inversion `direct`",
        )


def _check_fields(request: WordsRequest) -> None:
    learns = request.inversion == "null_text" or request.technique == "ledits"
    whole = ("hires",) if request.technique == "ledits" else ()
    for name in (*_UNTOUCHED, *(_NO_GRADIENTS if learns else ()), *whole):
        if getattr(request, name):
            raise UnsupportedError(
                "words cannot be changed together with this",
                field=name,
                next_step="leave it out"
                + (", or choose the inversion `direct`" if learns and name not in _UNTOUCHED else ""),
            )
    if request.syntax != "a1111":
        raise UnsupportedError(
            "two prompts can only be compared in A1111's grammar",
            field="syntax",
            value=request.syntax,
            allowed="a1111",
            next_step="write the prompts without flags",
        )
    if request.image is not None and request.count > 1 and request.technique != "ledits":
        raise InvalidRequestError(
            "an inverted picture has one edit: another seed would not change it",
            field="count",
            value=request.count,
            allowed="1",
            next_step="ask for one picture; change words, weights or shares for others",
        )


def _inversion(request: WordsRequest) -> Inversion | None:
    """How the picture is inverted; None where none is.

    Raises:
        InvalidRequestError: There is no picture to invert.
    """
    if request.image is not None:
        return None if request.technique == "ledits" else request.inversion or "direct"
    for name, value in (("inversion", request.inversion), ("technique", request.technique)):
        if value not in (None, "prompt_to_prompt"):
            raise InvalidRequestError(
                "there is no picture that could be inverted",
                field=name,
                value=value,
                next_step="give a picture, or leave it open: the source is painted from its prompt and seed",
            )
    return None


def _check_prompts(request: WordsRequest) -> None:
    needed = [("prompt", request.prompt, "say what the picture is to show")]
    if request.technique != "ledits":
        needed.append(("source_prompt", request.source_prompt, "say what the picture shows now, in the same manner"))
    for name, text, next_step in needed:
        if not any(word[0].isalnum() for word in words_in(plain_text(parse_networks(text)[0]))):
            raise InvalidRequestError(f"the {name.replace('_', ' ')} is empty", field=name, next_step=next_step)
    for name, text, _ in needed:
        words = parse_networks(text)[0]
        lost = beyond_words(words)
        if lost or len(composable_parts(words)) > 1:
            raise UnsupportedError(
                "words are changed in plain prompts",
                field=name,
                value=lost[0] if lost else "AND",
                allowed="words, and weights of words in brackets",
                next_step="leave it out of both prompts",
            )


def _with_tags(request: WordsRequest) -> str:
    """The prompt with the source prompt's network tags, where it has none of its own.

    Raises:
        InvalidRequestError: The prompts name different networks.
    """
    old, new = ([found[0] for found in find_networks(text)] for text in (request.source_prompt, request.prompt))
    if old == new or request.technique == "ledits":
        return request.prompt
    if new:
        raise InvalidRequestError(
            "both pictures are painted at once, so both prompts must name the same networks",
            field="prompt",
            value=" ".join(new),
            allowed="the tags of the source prompt, or none: then they are taken from there",
            next_step="use the same <lora:…> tags in both prompts",
        )
    return " ".join((request.prompt, *old))


def _check_embeddings(source: str, prompt: str, catalog: Finder, model: ModelInfo) -> None:
    for name, text in (("source_prompt", source), ("prompt", prompt)):
        found = NetworkPlanner(catalog).of_pass(text, "", model).embeddings
        if found:
            raise UnsupportedError(
                "a word that was taught to the text encoder (textual inversion) has no place to be compared",
                field=name,
                value=found[0].name,
                allowed="embeddings in the negative prompt",
                next_step="leave it out of both prompts",
            )


def _check_word(word: str, field: str, text: str, where: str) -> None:
    if not spans_of(text, word):
        raise InvalidRequestError(
            f"the word {word!r} does not stand in the {where}",
            field=field,
            value=word,
            allowed=f"words of: {text[:200]}",
            next_step="correct its spelling, or leave it out",
        )


def _sampler(request: WordsRequest, model: ModelInfo) -> str:
    return find_sampler(split_legacy_name(request.sampling.sampler or model.defaults.sampler)[0]).key


def _stepped(size: SizePx) -> SizePx:
    return size.rounded(LEDITS_STEP_PX)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
