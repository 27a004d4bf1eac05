"""Regions resolved: seen to lie in the picture, their words expanded, what these load found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from danqing.planning.networks import KINDS
from danqing.planning.words import PromptLibrary
from danqing.prompt.composable import composable_parts
from danqing.prompt.dynamic import expand
from danqing.prompt.networks import parse_networks
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo
from danqing.spec.plan import ControlPlan, RegionPlan, RegionWords, TextPlan
from danqing.spec.region import Region, RegionEngine
from danqing.spec.request import Request

_WITH_CROSS_ATTENTION = frozenset({"sd1", "sd2", "sdxl", "danqing"})
"""Families whose denoiser reads words in cross-attentions; the others read words and picture as one row of tokens."""


def engine_for(request: Request, model: ModelInfo) -> RegionEngine:
    """How a model's regions are painted.

    Raises:
        UnsupportedError: Not so by this model.
    """
    fits = model.family in _WITH_CROSS_ATTENTION
    asked = request.region_engine
    if asked == "attention" and not fits:
        raise UnsupportedError(
            "this model has no cross-attention that could read each region's words",
            field="region_engine",
            value=asked,
            allowed="latent",
            next_step="choose the engine `latent`, or leave it open",
        )
    if asked is None and any(names_networks(region) for region in request.regions):
        return "latent"
    return asked or ("attention" if fits else "latent")


def engine_notes(request: Request, model: ModelInfo) -> list[str]:
    """That the engine was chosen for the sake of a region's own network."""
    chosen = request.region_engine is None and model.family in _WITH_CROSS_ATTENTION
    if not chosen or not any(names_networks(region) for region in request.regions):
        return []
    return ["regions are painted by the engine `latent`, since a LoRA acts in one of them alone"]


def names_networks(region: Region) -> bool:
    """Whether a region's words name a LoRA or hypernetwork, which only the latent engine can let act there alone."""
    return any(tag.family in KINDS for tag in parse_networks(region.prompt)[1])


def plan_regions(request: Request, picture: SizePx, controls: Sequence[ControlPlan | None]) -> tuple[RegionPlan, ...]:
    """Where the regions lie.

    Args:
        request: What a person asks for, with pictures named by content hash.
        picture: What boxes and masks are drawn on.
        controls: The control unit of each region.

    Raises:
        InvalidRequestError: A box lies beyond the picture.
    """
    each = enumerate(zip(request.regions, controls, strict=True))
    return tuple(_place(region, index, picture, control) for index, (region, control) in each)


def _place(region: Region, index: int, picture: SizePx, control: ControlPlan | None) -> RegionPlan:
    box = region.box
    if box is not None and (box.left_px >= picture.width_px or box.top_px >= picture.height_px):
        raise InvalidRequestError(
            "the region lies beyond the picture",
            field=f"regions.{index}.box",
            value=box.as_tuple(),
            allowed=f"left below {picture.width_px}, top below {picture.height_px}",
            next_step="move the box into the picture",
        )
    return RegionPlan(
        picture=picture,
        box=box,
        mask=region.mask.removeprefix("sha256:") if region.mask else None,
        weight=region.weight,
        feather_px=region.feather_px,
        control=control,
    )


def region_words(
    request: Request,
    whole: TextPlan,
    seed: int,
    library: PromptLibrary | None,
    load: Callable[[TextPlan], dict[str, object]],
) -> tuple[RegionWords, ...]:
    """The words of each region in one pass.

    Args:
        request: What a person asks for.
        whole: The pass's own words.
        seed: Where wildcards are drawn from.
        library: Styles and wildcards.
        load: Finds networks and embeddings of words.

    Raises:
        InvalidRequestError: A region's words are composed with AND.
        UnsupportedError: A network in a region under the attention engine.
    """
    found: list[RegionWords] = []
    for index, region in enumerate(request.regions):
        field = f"regions.{index}.prompt"
        prompt, negative = region.prompt, region.negative_prompt
        if request.syntax == "a1111":
            wildcards = (library or PromptLibrary()).wildcards
            prompt = expand(prompt, seed, wildcards)
            negative = None if negative is None else expand(negative, seed, wildcards)
        if len(composable_parts(parse_networks(prompt)[0])) > 1:
            raise InvalidRequestError(
                "a region has one prompt",
                field=field,
                value=prompt,
                allowed="words without AND",
                next_step="draw a second region at the same place",
            )
        text = whole.model_copy(
            update={"prompt": prompt, "negative_prompt": whole.negative_prompt if negative is None else negative}
        )
        found.append(RegionWords.model_validate({"text": text, "own_negative": negative is not None, **load(text)}))
    return tuple(found)


def check_networks(words: tuple[RegionWords, ...], engine: RegionEngine) -> None:
    """See that networks named in regions can act there alone.

    Raises:
        UnsupportedError: The attention engine changes words only.
    """
    for index, one in enumerate(words):
        if one.networks and engine == "attention":
            raise UnsupportedError(
                "a network in one region alone needs a trip through the denoiser of its own",
                field=f"regions.{index}.prompt",
                value=one.networks[0].model.name,
                allowed="region engine `latent`",
                next_step="choose the engine `latent`, or name the network in the whole's prompt",
            )
