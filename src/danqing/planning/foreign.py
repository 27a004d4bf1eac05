"""What a pipeline that paints as a whole can be asked for: everything else is refused before a job starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from danqing.planning.sizes import checked_size
from danqing.prompt.plain import beyond_words, has_emphasis, plain_parts
from danqing.spec.base import Data
from danqing.spec.errors import InvalidRequestError, UnsupportedError
from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelInfo, ModelRef
from danqing.spec.painting import (
    Guidance,
    Hires,
    InitRequest,
    InpaintRequest,
    OutpaintRequest,
    Sampling,
    SizeHints,
    Txt2ImgRequest,
)
from danqing.spec.plan import PassPlan, SamplingPlan, TextPlan
from danqing.spec.registry.foreign import PIPELINE_SAMPLER, find_foreign
from danqing.spec.registry.foreign_info import ForeignInfo
from danqing.spec.request import Request

_STORAGES = ("float8", "int8", "nf4")
_OTHER_MODEL = "leave it out, or choose a model that Danqing's own engine paints (SD 1, 2, XL, 3, FLUX.1)"
_LATENT_FILLS = ("latent_noise", "latent_nothing")


def foreign_of(model: ModelInfo) -> ForeignInfo | None:
    """What the registry says of a model's pipeline; None where Danqing's own engine paints it."""
    return None if model.foreign is None else find_foreign(model.foreign.index)


def check_base(request: Request, model: ModelInfo, prompts: list[tuple[str, str]]) -> list[str]:
    """See that a model's pipeline can do what a Request asks of it.

    Args:
        request: What a person asks for.
        model: That paints the base pass.
        prompts: Prompt and negative prompt of each picture, styles and wildcards already expanded.

    Returns:
        Notes on what is read otherwise than it was written.

    Raises:
        UnsupportedError: It cannot; the message says what to do instead.
    """
    known = foreign_of(model)
    if known is None:
        return []
    _check_kind(request, model, known)
    _check_images(request, model, known)
    for field, value, what in _unknown(request):
        _refuse(model, known, field, value, what)
    notes: list[str] = []
    for words in prompts:
        notes += check_words(model, known, *words)
    if known.whole and request.kind == "img2img":
        notes.append(f"{known.name} reads the picture whole: `strength` is not used")
    return list(dict.fromkeys(notes))


def check_hires(hires: Hires, model: ModelInfo, text: TextPlan) -> list[str]:
    """See that a model's pipeline can do a hires pass; returns notes.

    Raises:
        UnsupportedError: It cannot.
    """
    known = foreign_of(model)
    if known is None:
        return []
    if not known.enlarges and not known.img2img:
        raise UnsupportedError(
            f"{known.name} cannot paint over a picture, so it cannot do the hires pass",
            field="hires.model",
            value=model.name,
            allowed="a model that paints from a picture, or one that enlarges",
            next_step="name such a model as `hires.model`, or leave hires out and enlarge the picture afterwards",
        )
    for field in ("sampler", "schedule"):
        value = getattr(hires, field)
        if value not in (None, PIPELINE_SAMPLER):
            _refuse(model, known, f"hires.{field}", value, "has a sampler of its own")
    return check_words(model, known, text.prompt, text.negative_prompt)


def hires_pass(hires: Hires, model: ModelInfo, before: SizePx, text: TextPlan, request: Request) -> PassPlan:
    """A hires pass by a pipeline that paints over a picture, or that enlarges it.

    Args:
        hires: As asked for.
        model: With a pipeline that `check_hires` let pass.
        before: Size of the picture that it is given.
        text: Its words.
        request: All that was asked for.
    """
    known = foreign_of(model)
    enlarges = 0 if known is None else known.enlarges
    scale = enlarges or hires.scale or 1.0
    asked = (before.width_px * scale, before.height_px * scale)
    if not enlarges and (hires.width_px or hires.height_px):
        ratio = before.width_px / before.height_px
        width = hires.width_px or (hires.height_px or 0) * ratio
        asked = (width, hires.height_px or width / ratio)
    size = checked_size(round(asked[0]), round(asked[1]))
    own = model.defaults.guidance_scale
    return PassPlan(
        kind="hires",
        model=ModelRef(name=model.name, sha256=model.sha256, family=model.family),
        size=size if enlarges else size.rounded(model.latent_scale),
        text=text,
        sampling=foreign_sampling(Sampling(steps=hires.steps), model),
        guidance=request.guidance,
        guidance_scale=own if hires.guidance_scale is None else hires.guidance_scale,
        strength=None if enlarges else hires.strength,
        pipeline=None if known is None else (known.img2img or known.index),
        upscaler="lanczos",
    )


def class_for(request: Request, model: ModelInfo) -> str | None:
    """The class of diffusers that paints the base pass of a Request; None for Danqing's own engine."""
    known = foreign_of(model)
    if known is None:
        return None
    return known.class_for(request.kind, images=any(prompt.weight > 0 for prompt in request.image_prompts))


def check_words(model: ModelInfo, known: ForeignInfo, prompt: str, negative_prompt: str) -> list[str]:
    """See that a pipeline can read some words; returns notes.

    Raises:
        UnsupportedError: There is something in them that is more than words.
    """
    if not known.words and prompt.strip():
        _refuse(model, known, "prompt", prompt[:80], "reads pictures only, no words")
    for field, text in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        lost = beyond_words(text)
        if lost:
            _refuse(model, known, field, text[:80], f"reads plain words, not {' or '.join(lost)}")
    if len(plain_parts(prompt)) > 1 and not known.blends:
        _refuse(model, known, "prompt", prompt[:80], "reads one text, not several joined by AND")
    if has_emphasis(prompt) or has_emphasis(negative_prompt):
        return [f"{known.name} reads plain words: brackets and weights of words were left out"]
    return []


def foreign_sampling(wanted: Sampling, model: ModelInfo) -> SamplingPlan:
    """The steps of a pipeline that has a sampler of its own."""
    return SamplingPlan(sampler=PIPELINE_SAMPLER, schedule=PIPELINE_SAMPLER, steps=wanted.steps or model.defaults.steps)


def _check_kind(request: Request, model: ModelInfo, known: ForeignInfo) -> None:
    if known.enlarges:
        raise UnsupportedError(
            f"{known.name} only enlarges pictures",
            field="model",
            value=model.name,
            allowed="as the model of a hires pass",
            next_step="choose another model and name this one as `hires.model`",
        )
    if request.kind not in known.kinds:
        raise UnsupportedError(
            f"{known.name} cannot do {request.kind}",
            field="model",
            value=model.name,
            allowed=", ".join(known.kinds),
            next_step="choose another model, or another kind of painting",
        )


def _check_images(request: Request, model: ModelInfo, known: ForeignInfo) -> None:
    count = sum(prompt.weight > 0 for prompt in request.image_prompts)
    if count == 0:
        if not known.class_for(request.kind):
            raise InvalidRequestError(
                f"{known.name} paints like a picture, and none is given",
                field="image_prompts",
                allowed=f"1 to {known.most_images} pictures",
                next_step="give it one, for example `danqing vary PICTURE --model …`",
            )
        return
    if count > known.most_images or not known.class_for(request.kind, images=True):
        most = known.most_images if known.class_for(request.kind, images=True) else 0
        raise UnsupportedError(
            f"{known.name} does not paint like {'several pictures' if most else 'pictures'} in {request.kind}",
            field="image_prompts",
            value=count,
            allowed=f"{most} pictures" if most else "none",
            next_step="leave pictures out, or choose another model",
        )
    for index, prompt in enumerate(request.image_prompts):
        if (prompt.start, prompt.end) != (0.0, 1.0):
            what = "reads its pictures once, before the first step"
            _refuse(model, known, f"image_prompts.{index}.start", (prompt.start, prompt.end), what)
        if not known.weighs and prompt.weight not in (0.0, 1.0):
            _refuse(model, known, f"image_prompts.{index}.weight", prompt.weight, "counts every picture alike")


def _unknown(request: Request) -> Iterator[tuple[str, Any, str]]:
    """(field, value, reason) of everything asked for that no pipeline can do."""
    if request.controls:
        yield "controls", len(request.controls), "takes no control units"
    if request.regions:
        yield "regions", len(request.regions), "paints the whole picture from one text"
    if request.refiner is not None:
        yield "refiner", request.refiner.model, "hands no latents on to a refiner"
    for field in ("sampler", "schedule"):
        value = getattr(request.sampling, field)
        if value not in (None, PIPELINE_SAMPLER):
            yield f"sampling.{field}", value, "has a sampler of its own"
    yield from _changed("sampling", request.sampling, Sampling(), ("sampler", "schedule", "steps"))
    yield from _changed("guidance", request.guidance, Guidance(), ("scale", "distilled"))
    yield from _changed("", request, Txt2ImgRequest(), None)
    if request.size_hints != SizeHints():
        yield "size_hints", "…", "is not told sizes and crops"
    if request.precision in _STORAGES:
        yield "precision", request.precision, "is loaded in float32, bfloat16 or float16"
    if request.noise == "nv":
        yield "noise", "nv", "draws its noise with PyTorch's generators"
    if isinstance(request, InitRequest):
        yield from _unknown_init(request)


def _unknown_init(request: Any) -> Iterator[tuple[str, Any, str]]:
    if request.exact_steps:
        yield "exact_steps", True, "counts its steps itself"
    if request.initial_noise_multiplier != 1.0:
        yield "initial_noise_multiplier", request.initial_noise_multiplier, "adds its noise itself"
    if request.resize_mode == "latent":
        yield "resize_mode", "latent", "takes the picture, not latents"
    if isinstance(request, InpaintRequest | OutpaintRequest) and request.fill in _LATENT_FILLS:
        yield "fill", request.fill, "takes the picture, not latents"
    if isinstance(request, InpaintRequest) and request.soft is not None:
        yield "soft", "…", "blends by the mask alone"


_FIELDS = ("vae", "variation", "seed_resize", "eta_noise_seed_delta", "clip_skip", "image_adapter")
_WHY = {
    "vae": "uses its own autoencoder",
    "clip_skip": "reads the layer of its text encoder that it was trained with",
    "image_adapter": "reads pictures by itself",
}


def _changed(prefix: str, asked: Data, default: Data, but: tuple[str, ...] | None) -> Iterator[tuple[str, Any, str]]:
    """What differs from the defaults: all fields except `but`, or those of `_FIELDS` for None."""
    every: list[str] = list(type(asked).model_fields)
    names = _FIELDS if but is None else tuple(name for name in every if name not in but)
    for name in names:
        value = getattr(asked, name)
        if value != getattr(default, name):
            shown = value if isinstance(value, str | int | float) else "…"
            yield f"{prefix}.{name}".lstrip("."), shown, _WHY.get(name, "draws its noise and guides itself")


def _refuse(model: ModelInfo, known: ForeignInfo, field: str, value: Any, what: str) -> None:
    raise UnsupportedError(
        f"{model.name} is painted by its own pipeline ({known.name}), which {what}",
        field=field,
        value=value,
        next_step=_OTHER_MODEL,
    )
