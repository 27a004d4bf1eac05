"""The steps of a retouch resolved: detectors, restorers and upscalers found, a pass for whatever is painted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from danqing.planning import sizes
from danqing.planning.detectors import chosen_detector
from danqing.planning.sampling import guidance_for, sampling_for
from danqing.planning.upscaling import UpscalerFinder, chosen_upscaler, target_size
from danqing.planning.words import PromptLibrary
from danqing.prompt.dynamic import expand
from danqing.spec.base import MAX_SIDE_PX
from danqing.spec.enhancer import EnhancerFile, EnhancerKind
from danqing.spec.errors import InvalidRequestError, MissingWeightsError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo, ModelRef
from danqing.spec.plan import PassPlan, TextPlan
from danqing.spec.request import Request
from danqing.spec.retouch import RetouchRequest
from danqing.spec.retouch_steps import (
    SEPARATOR,
    SKIPPED,
    WHOLE_PROMPT,
    CutoutStep,
    DetailStep,
    Repainting,
    RestoreFacesStep,
    RetouchPlan,
    RetouchStep,
    RetouchStepPlan,
    TiledDiffusion,
    UpscaleStep,
)
from danqing.spec.upscale import BUILTIN_UPSCALER

_UNUSED = ("hires", "refiner", "controls", "regions", "image_prompts")


class RetouchFinder(UpscalerFinder, Protocol):
    """What planning needs of the catalogue."""

    def find(self, name: str | None) -> ModelInfo:
        """The model with this name, or the built-in one for None."""
        ...

    def enhancers(self, kind: EnhancerKind) -> Sequence[EnhancerFile]:
        """Every face restorer, or every detector file."""
        ...

    def find_enhancer(self, name: str, kind: EnhancerKind) -> EnhancerFile | None:
        """The one with this name, or None."""
        ...


@dataclass(frozen=True)
class Ground:
    """What the steps stand on.

    Attributes:
        request: What a person asks for.
        base: The pass whose words and settings the steps inherit.
        model: That paints it.
        catalog: Where files are found.
        library: Wildcards.
        seed: Of the picture, for wildcards.
        load: Finds networks and embeddings of words for a model.
        picture: Size of the picture before the first step.
        first: How many passes the Plan has already.
    """

    request: Request
    base: PassPlan
    model: ModelInfo
    catalog: RetouchFinder
    library: PromptLibrary | None
    seed: int
    load: Callable[[TextPlan, ModelInfo], dict[str, Any]]
    picture: SizePx
    first: int


@dataclass
class Retouching:
    """What planning made of the steps.

    Attributes:
        steps: In order.
        passes: What they paint, to stand behind the Plan's own passes.
        notes: What was chosen for the person.
    """

    steps: list[RetouchStepPlan] = field(default_factory=list["RetouchStepPlan"])
    passes: list[PassPlan] = field(default_factory=list["PassPlan"])
    notes: list[str] = field(default_factory=list[str])

    @property
    def plan(self) -> RetouchPlan | None:
        """None where nothing is retouched."""
        return RetouchPlan(steps=tuple(self.steps)) if self.steps else None


def steps_of(request: Request) -> tuple[RetouchStep, ...]:
    """Everything that is done to the picture: a retouch's steps, and what any painting is finished with."""
    return (*(request.steps if isinstance(request, RetouchRequest) else ()), *request.finish)


def plan_retouch(ground: Ground) -> Retouching:
    """Resolve the steps of a Request.

    Raises:
        InvalidRequestError: A name that nothing has, or a picture that would be too large.
        MissingWeightsError: There is no face restorer.
        NotFoundError: A model or detector file that is not there.
        UnsupportedError: A model that cannot paint details, or a detector file that is not read.
    """
    made = Retouching()
    request, size = ground.request, (ground.picture.width_px, ground.picture.height_px)
    if isinstance(request, RetouchRequest):
        _refuse_others(request)
    own = len(request.steps) if isinstance(request, RetouchRequest) else 0
    for index, step in enumerate(steps_of(request)):
        where = f"steps.{index}" if index < own else f"finish.{index - own}"
        if isinstance(step, DetailStep):
            made.steps.append(_detail(step, where, ground, made))
        elif isinstance(step, RestoreFacesStep):
            made.steps.append(_faces(step, where, ground))
        elif isinstance(step, UpscaleStep):
            size = target_size(step, size, where)
            made.steps.append(_upscale(step, where, ground, made, size))
        else:
            made.steps.append(_cutout(step, request, made))
    return made


def _refuse_others(request: RetouchRequest) -> None:
    for name in _UNUSED:
        if getattr(request, name):
            raise InvalidRequestError(
                f"a retouch does not use `{name}`",
                field=name,
                allowed="words, model, sampling and guidance, which its steps inherit",
                next_step=f"leave `{name}` out, or paint with it first and retouch the result",
            )


def _detail(step: DetailStep, where: str, ground: Ground, made: Retouching) -> RetouchStepPlan:
    if step.min_area > step.max_area:
        raise InvalidRequestError(
            "the smallest area is above the largest",
            field=f"{where}.min_area",
            value=step.min_area,
            allowed=f"up to {step.max_area}",
            next_step="swap the two",
        )
    chosen = chosen_detector(step.detect, ground.catalog, f"{where}.detect")
    size = ground.base.size
    if step.width_px is not None or step.height_px is not None:
        size, notes = sizes.asked_size(step.width_px, step.height_px, _model(step, where, ground))
        made.notes.extend(note for note in notes if note not in made.notes)
    prompts = [part.strip() for part in (step.prompt or "").split(SEPARATOR)]
    negatives = [part.strip() for part in (step.negative_prompt or "").split(SEPARATOR)]
    passes: list[int | None] = []
    for place in range(max(len(prompts), len(negatives))):
        prompt = prompts[min(place, len(prompts) - 1)]
        negative = negatives[min(place, len(negatives) - 1)]
        skipped = prompt.upper() == SKIPPED
        passes.append(None if skipped else _added(_pass(step, where, ground, size, (prompt, negative)), ground, made))
    return RetouchStepPlan(step=step, tool=chosen.info.key, file=chosen.file, words=chosen.words, passes=tuple(passes))


def _added(planned: PassPlan, ground: Ground, made: Retouching) -> int:
    made.passes.append(planned)
    return ground.first + len(made.passes) - 1


def _model(step: Repainting, where: str, ground: Ground) -> ModelInfo:
    model = ground.model if step.model is None else ground.catalog.find(step.model)
    if model.foreign is not None:
        raise UnsupportedError(
            f"{model.name} paints whole pictures only, by a pipeline of its own",
            field=f"{where}.model",
            value=model.name,
            allowed="a model that Danqing's own engine paints (SD 1, 2, XL, 3, FLUX.1)",
            next_step="name another model for this step",
        )
    return model


def _pass(
    step: DetailStep | TiledDiffusion, where: str, ground: Ground, size: SizePx, words: tuple[str, str]
) -> PassPlan:
    """The pass of a step; its words are the Request's where it has none of its own."""
    model, base, request = _model(step, where, ground), ground.base, ground.request
    same = model.sha256 == base.model.sha256
    prompt, negative = (
        _said(own, whole, ground)
        for own, whole in zip(words, (base.text.prompt, base.text.negative_prompt), strict=True)
    )
    text = base.text.model_copy(update={"prompt": prompt, "negative_prompt": negative})
    own = {"sampler": step.sampler, "schedule": step.schedule, "steps": step.steps}
    if step.sampler is not None and step.schedule is None:
        own["schedule"] = "automatic"
    wanted = request.sampling.model_copy(update={name: value for name, value in own.items() if value is not None})
    scale = step.guidance_scale
    if scale is None:
        scale = base.guidance_scale if same else request.guidance.scale
    return PassPlan(
        kind="detail",
        model=ModelRef(name=model.name, sha256=model.sha256, family=model.family),
        size=size.rounded(model.latent_scale),
        text=text,
        sampling=sampling_for(wanted, model),
        guidance=guidance_for(request.guidance, model),
        guidance_scale=model.defaults.guidance_scale if scale is None else scale,
        strength=step.strength,
        **ground.load(text, model),
    )


def _said(own: str, whole: str, ground: Ground) -> str:
    """A step's own words with the Request's in their place, if they are wanted there."""
    if not own:
        return whole
    known = ground.library or PromptLibrary()
    text = expand(own, ground.seed, known.wildcards) if ground.request.syntax == "a1111" else own
    return re.sub(re.escape(WHOLE_PROMPT), lambda _: whole, text, flags=re.IGNORECASE)


def _faces(step: RestoreFacesStep, where: str, ground: Ground) -> RetouchStepPlan:
    there = ground.catalog.enhancers("restorer")
    if step.model is None and there:
        file = there[0]
    else:
        file = None if step.model is None else ground.catalog.find_enhancer(step.model, "restorer")
    if file is None:
        raise MissingWeightsError(
            "there is no face restorer" + ("" if step.model is None else f" {step.model}"),
            field=f"{where}.model",
            value=step.model,
            allowed=", ".join(one.name for one in there)
            or "GFPGANv1.4.pth, RestoreFormer.pth, codeformer-v0.1.0.pth …",
            next_step="download GFPGANv1.4.pth from TencentARC/GFPGAN's releases (Apache-2.0) into models/GFPGAN, or "
            "codeformer-v0.1.0.pth from sczhou/CodeFormer's (non-commercial) into models/Codeformer; or use a detail "
            "step, which needs neither",
        )
    return RetouchStepPlan(step=step.model_copy(update={"model": file.name}), tool=file.name, file=file.ref)


def _upscale(step: UpscaleStep, where: str, ground: Ground, made: Retouching, size: tuple[int, int]) -> RetouchStepPlan:
    name = step.upscaler
    if name is None:
        name = BUILTIN_UPSCALER
        if ground.catalog.find_upscaler(name) is None:
            name = "Lanczos"
            made.notes.append(f"the built-in upscaler {BUILTIN_UPSCALER} is not installed: Lanczos is used")
    key, file = chosen_upscaler(name, ground.catalog, f"{where}.upscaler")
    passes: tuple[int | None, ...] = ()
    if step.tiled is not None:
        passes = (_added(_tile_pass(step.tiled, f"{where}.tiled", ground, size), ground, made),)
    return RetouchStepPlan(step=step.model_copy(update={"upscaler": key}), tool=key, file=file, passes=passes)


def _tile_pass(step: TiledDiffusion, where: str, ground: Ground, picture: tuple[int, int]) -> PassPlan:
    model = _model(step, where, ground)
    if step.mode == "windows" and max(picture) > MAX_SIDE_PX:
        raise InvalidRequestError(
            "the picture is too large to be painted in windows",
            field=f"{where}.mode",
            value=f"{picture[0]}×{picture[1]} px",
            allowed=f"sides up to {MAX_SIDE_PX} px",
            next_step="choose the mode `tiles`, which has no limit of its own",
        )
    side = sizes.checked_size(*[step.tile_px or model.defaults.size_px] * 2).rounded(model.latent_scale)
    if overlap_px(step, side.width_px) > side.width_px // 2:
        raise InvalidRequestError(
            "the tiles overlap by more than half",
            field=f"{where}.overlap_px",
            value=step.overlap_px,
            allowed=f"up to {side.width_px // 2} px",
            next_step="make the tiles larger or the overlap smaller",
        )
    planned = _pass(step, where, ground, side, (step.prompt or "", step.negative_prompt or ""))
    # SDXL is told of the tile that it sees at a time, not of the picture that these make up.
    return planned.model_copy(
        update={"size_hints": planned.size_hints.model_copy(update={"original": side, "target": side})}
    )


def overlap_px(step: TiledDiffusion, tile_px: int) -> int:
    """What neighbouring tiles share; a quarter of a tile if the step leaves it open."""
    return tile_px // 4 if step.overlap_px is None else step.overlap_px


def _cutout(step: CutoutStep, request: Request, made: Retouching) -> RetouchStepPlan:
    if step.background is None and request.output.format == "jpeg":
        made.notes.append(
            "JPEG knows no transparency: the background becomes white; choose png or webp to keep it clear"
        )
    return RetouchStepPlan(step=step, tool=step.method)
