"""What the API answers where it is not a Job, a Record or a Request itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from danqing.spec.model import ControlNetInfo, IpAdapterInfo, ModelInfo
from danqing.spec.network import NetworkInfo
from danqing.spec.record import Job, Record
from danqing.spec.request import Request
from danqing.spec.sight import Found


class Health(BaseModel):
    """The server is up."""

    status: str = "ok"
    version: str


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[Job]


class RecordList(BaseModel):
    """Records, newest first, and where the next page begins."""

    records: list[Record]
    next: str | None = Field(default=None, description="pass as `before` for the next page; null at the end")


class FoundList(BaseModel):
    """Records that were found by look, best first."""

    found: list[Found]


class ScoreAnswer(BaseModel):
    """How well a prompt fits a picture."""

    score: float = Field(ge=0, le=1, description="probability that they belong together, as mini-CLIP was trained")


class UploadAnswer(BaseModel):
    """A stored picture, to be named in a Request as `ref`."""

    ref: str = Field(description="`sha256:<hex>`, for `image` or `mask` of a Request")
    sha256: str
    width_px: int
    height_px: int
    media_type: str


class ReadPictureAnswer(BaseModel):
    """The Request that a picture's own metadata tells of."""

    request: Request


class ModelList(BaseModel):
    """The models in the catalogue."""

    models: list[ModelInfo]
    controlnets: list[ControlNetInfo] = Field(description="what `controls.model` of a Request can name")
    image_adapters: list[IpAdapterInfo] = Field(description="what `image_adapter` of a Request can name")
    networks: list[NetworkInfo] = Field(description="LoRA, hypernetworks and embeddings that a prompt can name")


class Sampler(BaseModel):
    """A sampler of the registry."""

    key: str
    name: str
    aliases: list[str]
    hint: str
    default_schedule: str
    options: list[str] = Field(description="fields of `sampling` that it reads")
    model_calls_per_step: int
    stochastic: bool
    adaptive: bool


class Schedule(BaseModel):
    """A noise schedule of the registry."""

    key: str
    name: str
    aliases: list[str]
    hint: str
    default_rho: float | None


class Upscaler(BaseModel):
    """A way a hires pass enlarges."""

    key: str
    name: str
    latent: bool
    file: bool = Field(default=False, description="a super-resolution file in the models folder")
    aliases: list[str] = Field(default_factory=list[str], description="A1111's labels of a file")


class StyleAnswer(BaseModel):
    """A named piece of prompt from styles.csv."""

    name: str
    prompt: str
    negative_prompt: str


class SamplerList(BaseModel):
    """Every sampler."""

    samplers: list[Sampler]


class ScheduleList(BaseModel):
    """Every schedule."""

    schedules: list[Schedule]


class UpscalerList(BaseModel):
    """Every upscaler."""

    upscalers: list[Upscaler]


class StyleList(BaseModel):
    """Every style."""

    styles: list[StyleAnswer]


class Explanation(BaseModel):
    """What the prompt language makes of a prompt."""

    model_config = {"extra": "allow"}

    schedules: list[Any] = Field(description="[[until_step, text], …]")
    parts: list[Any] = Field(description="parts of AND with their weights")
    weights: list[Any] = Field(description="[[text, weight], …] of the first schedule entry")
    chunks: list[Any]
    networks: list[Any]
