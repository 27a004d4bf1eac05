"""Routes that name things: models, samplers, schedules, upscalers, styles; prompts; health."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from danqing import __version__
from danqing.prompt.explain import explain
from danqing.server.answers import (
    Explanation,
    Health,
    ModelList,
    Sampler,
    SamplerList,
    Schedule,
    ScheduleList,
    StyleAnswer,
    StyleList,
    Upscaler,
    UpscalerList,
)
from danqing.server.bodies import ExplainBody, read_json_object, validated
from danqing.server.deps import StudioDep
from danqing.server.examples import EXPLAIN_BODY
from danqing.spec.registry.samplers import SAMPLERS
from danqing.spec.registry.schedules import SCHEDULES
from danqing.spec.registry.upscalers import UPSCALERS

router = APIRouter(tags=["catalogue"])
_EXPLAIN: TypeAdapter[ExplainBody] = TypeAdapter(ExplainBody)


@router.get("/models")
def models(studio: StudioDep) -> ModelList:
    """The models, ControlNets, image adapters and networks in the catalogue, the built-in ones first."""
    return ModelList(
        models=list(studio.models()),
        controlnets=list(studio.controlnets()),
        image_adapters=list(studio.image_adapters()),
        networks=studio.networks(),
    )


@router.get("/samplers")
def samplers() -> SamplerList:
    """Every sampler."""
    return SamplerList(
        samplers=[
            Sampler(
                key=info.key,
                name=info.name,
                aliases=list(info.aliases),
                hint=info.hint,
                default_schedule=info.default_schedule,
                options=list(info.options),
                model_calls_per_step=info.order,
                stochastic=info.stochastic,
                adaptive=info.adaptive,
            )
            for info in SAMPLERS
        ]
    )


@router.get("/schedules")
def schedules() -> ScheduleList:
    """Every noise schedule."""
    return ScheduleList(
        schedules=[
            Schedule(
                key=info.key,
                name=info.name,
                aliases=list(info.aliases),
                hint=info.hint,
                default_rho=info.default_rho,
            )
            for info in SCHEDULES
        ]
    )


@router.get("/upscalers")
def upscalers(studio: StudioDep) -> UpscalerList:
    """Every way a hires pass can enlarge: the fixed ones, then the upscaler files."""
    fixed = [Upscaler(key=info.key, name=info.name, latent=info.latent) for info in UPSCALERS]
    files = [
        Upscaler(key=file.name, name=file.name, latent=False, file=True, aliases=list(file.aliases))
        for file in studio.upscalers()
    ]
    return UpscalerList(upscalers=fixed + files)


@router.get("/styles")
def styles(studio: StudioDep) -> StyleList:
    """The styles of styles.csv."""
    return StyleList(
        styles=[
            StyleAnswer(name=style.name, prompt=style.prompt, negative_prompt=style.negative_prompt)
            for style in studio.styles()
        ]
    )


@router.post("/prompt/explain", openapi_extra={"requestBody": EXPLAIN_BODY})
async def explain_prompt(request: HttpRequest) -> Explanation:
    """What the prompt language makes of a prompt: schedules, parts, weights, chunks, networks."""
    body = validated(_EXPLAIN, await read_json_object(request))
    explained = await run_in_threadpool(
        explain, body.prompt, steps=body.steps, hires_steps=body.hires_steps, syntax=body.syntax
    )
    return Explanation(**explained)


@router.get("/health")
def health() -> Health:
    """Whether the server is up; needs no password."""
    return Health(version=__version__)


@router.get("/doctor")
def doctor(studio: StudioDep) -> dict[str, Any]:
    """Device, precision, versions, folders, and what is missing."""
    return studio.doctor()
