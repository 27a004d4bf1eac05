"""Regions in a pass: boxes and masks to shares of each latent pixel, their words encoded, estimates mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from danqing.engine.calls import ModelKey, RegionInput
from danqing.pipelines import conditioning, pixels
from danqing.pipelines.conditioning import Conditioning
from danqing.pipelines.context import Context, Step
from danqing.pipelines.control import Frame, PassControl, Scene, acts_in, ready
from danqing.spec.geometry import SizePx
from danqing.spec.network import NetworkPlan
from danqing.spec.plan import PassPlan, RegionPlan, RegionWords
from danqing.spec.region import RegionEngine


@dataclass(frozen=True)
class PassRegion:
    """A region made ready for one model in one pass.

    Attributes:
        mask: Its weight at each latent pixel, float32 [1, 1, h, w].
        words: What it says at each step.
        own_negative: Whether its negative prompt is not the whole's.
        networks: LoRA and hypernetworks of the whole, and its own.
        apart: Whether it has networks of its own.
        control: A ControlNet that acts in it alone.
    """

    mask: Tensor
    words: Conditioning
    own_negative: bool
    networks: tuple[NetworkPlan, ...]
    apart: bool
    control: PassControl | None = None

    def steered(self, step: int, steps: int) -> PassControl | None:
        """Its ControlNet, where that acts at this step."""
        return self.control if self.control is not None and self.control.acts_at(step, steps) else None

    def denies_alone(self, step: int, steps: int) -> bool:
        """Whether its estimate for the negative prompt is another one than the whole's."""
        control = self.steered(step, steps)
        return self.own_negative or (control is not None and not control.unit.cond_only)


@dataclass(frozen=True)
class PassRegions:
    """The regions of a pass, in an order that does not depend on how they were given.

    Attributes:
        engine: How they are painted.
        each: The regions.
    """

    engine: RegionEngine
    each: tuple[PassRegion, ...]

    def attention(self, step: int, conds: int, unconds: int, perturbed: int) -> RegionInput | None:
        """What the attention engine adds to a Call with rows in this order; None for the other engine."""
        if self.engine != "attention":
            return None
        said = [region.words.at(step) for region in self.each]
        positive = tuple(parts[0].states for parts, _ in said)
        own = any(region.own_negative for region in self.each)
        negative = tuple(state.states for _, state in said) if own else ()
        rows = (positive,) * conds + (negative,) * unconds + (positive,) * perturbed
        return RegionInput(shares([region.mask for region in self.each]), rows)

    def beside(self) -> list[PassRegion]:
        """The regions whose estimates the latent engine asks for in the whole's own Call."""
        return [one for one in self.each if not one.apart] if self.engine == "latent" else []

    def apart(self) -> list[PassRegion]:
        """Those that need a Call of their own, because networks act in them alone."""
        return [one for one in self.each if one.apart] if self.engine == "latent" else []


def shares(masks: Sequence[Tensor]) -> Tensor:
    """How much the words of the whole and of each region count at each latent pixel: a partition of unity.

    Where the regions together weigh less than 1, the whole's words have the rest; where they weigh more, they share.

    Args:
        masks: Weights of the regions, each [1, 1, h, w].

    Returns:
        [1 + n, 1, h, w], the whole's first; the sum over them is 1 everywhere.
    """
    weights = torch.cat(list(masks))
    total = weights.sum(0, keepdim=True)
    return torch.cat([(1.0 - total).clamp(min=0.0), weights / total.clamp(min=1.0)])


def blend(whole: Tensor, masks: Sequence[Tensor], estimates: Sequence[Tensor]) -> Tensor:
    """(D + Σ Mᵢ·Dᵢ) / (1 + Σ Mᵢ): the latent engine's mixture; outside every region D itself, bit for bit.

    The mixture of noise predictions and that of estimates of x₀ are the same one: x₀ is linear in ε.

    Args:
        whole: Estimate for the whole's words [1, c, h, w].
        masks: Weights of the regions, each [1, 1, h, w].
        estimates: Theirs, each [1, c, h, w].
    """
    total = torch.cat(list(masks)).sum(0, keepdim=True)
    mixed = whole.clone()
    for mask, estimate in zip(masks, estimates, strict=True):
        mixed += mask * estimate
    return torch.where(total > 0, mixed / (1.0 + total), whole)


def region_controls(context: Context, index: int, scene: Scene) -> tuple[PassControl | None, ...]:
    """The unit of each of the Plan's regions in a pass, with a map of its size; None where nothing acts.

    Args:
        context: The Plan on its way.
        index: Which pass.
        scene: What the pass starts from.

    Raises:
        MissingWeightsError: An annotator's network is not installed.
    """
    planned = context.plan.passes[index]
    found: list[PassControl | None] = []
    for place in context.plan.regions:
        unit = place.control
        if unit is None or not planned.regions or not acts_in(unit, planned):
            found.append(None)
            continue
        made = ready(context, unit, planned.size, scene)
        area = _area(context, place, planned.size, scene.frame)
        found.append(replace(made, mask=area if made.mask is None else made.mask * area))
    return tuple(found)


def beside_the_whole(context: Context, controls: Sequence[PassControl | None]) -> tuple[PassControl, ...]:
    """The regions' units that act on the whole's own rows: all by attention, none by the latent engine."""
    if context.plan.region_engine != "attention":
        return ()
    pairs = sorted(zip(context.plan.regions, controls, strict=True), key=lambda one: one[0].model_dump_json())
    return tuple(control for _, control in pairs if control is not None)


def prepare(
    context: Context,
    key: ModelKey,
    index: int,
    grid: tuple[int, int],
    frame: Frame | None,
    controls: Sequence[PassControl | None],
) -> Step[PassRegions | None]:
    """The regions of a pass for one model.

    Args:
        context: The Plan on its way.
        key: Whose text encoder reads their words; a refiner's goes without the regions' own networks.
        index: Which pass.
        grid: Height and width of its latents.
        frame: Which part of the picture it paints; None for the whole.
        controls: The unit of each region, as `region_controls` gives them.
    """
    plan, planned = context.plan, context.plan.passes[index]
    if not planned.regions:
        return None
    if planned.refiner is not None and key == context.key(planned.refiner.model):
        own = {"networks": planned.refiner.networks, "embeddings": planned.refiner.embeddings}
        plain = tuple(one.model_copy(update={"networks": (), "embeddings": ()}) for one in planned.regions)
        planned = planned.model_copy(update={**own, "regions": plain})
    base_steps = plan.base.sampling.steps if planned.kind == "hires" else None
    found: list[PassRegion] = []
    latent = plan.region_engine == "latent"
    for place, words, control in sorted(zip(plan.regions, planned.regions, controls, strict=True), key=_order):
        said = yield from conditioning.encode(key, _with_words(planned, words), base_steps)
        found.append(
            PassRegion(
                mask=_mask(context, place, planned.size, grid, frame),
                words=said,
                own_negative=words.own_negative,
                networks=(*planned.networks, *words.networks),
                apart=bool(words.networks),
                control=control if latent else None,
            )
        )
    return PassRegions(plan.region_engine, tuple(found))


def _order(one: tuple[RegionPlan, RegionWords, PassControl | None]) -> str:
    place, words, _ = one
    return words.model_dump_json() + place.model_dump_json()


def _with_words(planned: PassPlan, words: RegionWords) -> PassPlan:
    """The pass as if the region's words were the whole's, for the text encoder."""
    networks = (*planned.networks, *words.networks)
    embeddings = (*planned.embeddings, *(one for one in words.embeddings if one not in planned.embeddings))
    return planned.model_copy(update={"text": words.text, "networks": networks, "embeddings": embeddings})


def _mask(context: Context, place: RegionPlan, size: SizePx, grid: tuple[int, int], frame: Frame | None) -> Tensor:
    """A region's weight on the latent grid [1, 1, h, w]."""
    return functional.adaptive_avg_pool2d(_area(context, place, size, frame), grid) * place.weight


def _area(context: Context, place: RegionPlan, size: SizePx, frame: Frame | None) -> Tensor:
    """Where a region lies, in [0, 1], [1, 1, H, W]; soft at its edge, never beyond it by more than the feather."""
    drawn = pixels.blur(_drawn(context, place), place.feather_px / 2)
    mode = context.plan.init.resize_mode if context.plan.init else "stretch"
    if frame is not None:
        cut = pixels.resize_mask(drawn, frame.whole, mode).crop(frame.box.as_tuple())
        drawn = pixels.resize_mask(cut, size, "stretch")
    elif drawn.size != (size.width_px, size.height_px):
        drawn = pixels.resize_mask(drawn, size, mode)
    return torch.from_numpy(pixels.as_floats(drawn))[None, None]


def _drawn(context: Context, place: RegionPlan) -> Image.Image:
    size = (place.picture.width_px, place.picture.height_px)
    if place.mask is not None:
        return pixels.mask_of(context.pictures.open(place.mask)).resize(size, Image.Resampling.BILINEAR)
    drawn = Image.new("L", size, 0)
    if place.box is not None:
        left, top, right, bottom = place.box.as_tuple()
        ImageDraw.Draw(drawn).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return drawn
