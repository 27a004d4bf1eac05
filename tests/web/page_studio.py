"""A Studio that paints a deterministic picture with Pillow in about a second: for the page's tests, and to look at it.

`python tests/web/page_studio.py [PORT]` serves the page with it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import itertools
import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from page_exploring import Comparing
from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from danqing.planning.shortcuts import left_out
from danqing.spec.errors import BadFileError, ConflictError, InvalidRequestError, NotFoundError, UnsupportedError
from danqing.spec.events import PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.spec.geometry import SizePx
from danqing.spec.model import ControlNetInfo, ImageEncoderInfo, IpAdapterInfo, ModelDefaults, ModelInfo, ModelRef
from danqing.spec.network import NetworkCard
from danqing.spec.plan import InitPlan, PassPlan, Plan, SamplingPlan, SeedPlan, TextPlan
from danqing.spec.record import Job, Record, Timings, Versions
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.request import parse_request
from danqing.spec.sight import Background, Found, Interrogation, Tag, Wording
from danqing.spec.upscale import UpscalePlan, UpscalerFile

MODEL = ModelInfo(
    name="danqing-mini",
    family="danqing",
    path="builtin",
    sha256="0" * 64,
    builtin=True,
    latent_channels=8,
    defaults=ModelDefaults(sampler="DPM++ 2M", steps=20, guidance_scale=5.0, size_px=128),
    styles=("3d", "flat"),
)
LINE = ControlNetInfo(
    name="danqing-mini-line",
    path="builtin/line",
    sha256="1" * 64,
    builtin=True,
    base=MODEL.name,
    in_channels=8,
    annotators=("canny", "lineart_xdog", "softedge_dog", "scribble_canny", "mlsd_lsd"),
)
DETAIL = LINE.model_copy(update={"name": "danqing-mini-detail", "sha256": "2" * 64, "annotators": ("tile_resample",)})
POSE = LINE.model_copy(update={"name": "danqing-mini-pose", "sha256": "8" * 64, "annotators": ("openpose",)})
FOREIGN = LINE.model_copy(update={"name": "sd15-canny", "sha256": "3" * 64, "hint_scale": 16, "base": None})
ADAPTER = IpAdapterInfo(
    name="danqing-mini",
    path="builtin/ip-adapter.safetensors",
    sha256="6" * 64,
    encoder=ImageEncoderInfo(path="builtin/image_encoder", sha256="7" * 64, embedding_width=8),
    context_width=256,
    layer_widths=(64,),
)
UPSCALER = UpscalerFile(name="4x-draw", path="4x-draw.pth", sha256="4" * 64, aliases=("4x Draw",))
TOLD = MODEL.model_copy(
    update={
        "name": "told",
        "family": "flux",
        "path": "told.gguf",
        "builtin": False,
        "styles": (),
        "defaults": ModelDefaults(distilled_guidance=3.5, size_px=1024, guidance_scale=1.0),
    }
)
NETWORKS = (
    NetworkCard(
        kind="lora",
        name="ink wash",
        written="ink wash",
        family="danqing",
        trigger_words=("ink wash painting",),
        negative_words="photo",
        preferred_weight=0.8,
        preview="1",
        description="<p>Soft brush</p>",
    ),
    NetworkCard(kind="lora", name="styles/paper-cut_v2", written="paper-cut_v2", alias="papercut", family="danqing"),
    NetworkCard(kind="lora", name="broken", written="broken", trigger_words=("a", "b", "c", "d")),
    NetworkCard(kind="lora", name="sdxl-detail", written="sdxl-detail", family="sdxl", misfit="family", why="it is"),
    NetworkCard(kind="lora", name="torn", written="torn", misfit="unreadable", why="torn.safetensors ends early"),
    NetworkCard(kind="embedding", name="easy.negative", written="easy.negative", words=("easy.negative",)),
)
SEEN = {
    "en": ("a red apple, 3d, on a white background", ("apple", "fruit", "red")),
    "zh-Hans": ("红色的苹果，3D，白色背景", ("苹果", "水果")),
    "zh-Hant": ("紅色的蘋果，3D，白色背景", ("蘋果", "水果")),
}


# Of each studio: a browser keeps what a Record's address gave it, and studios follow each other at one address.
_FIRST = itertools.count(0, 1000)


def picture(prompt: str, seed: int, width_px: int, height_px: int, done: float = 1.0) -> Image.Image:
    """A blob on paper whose colours and shape depend on words and seed."""
    digest = hashlib.sha256(f"{prompt}|{seed}".encode()).digest()
    scale = 4
    image = Image.new("RGB", (width_px * scale, height_px * scale), "white")
    draw = ImageDraw.Draw(image)
    for n in range(5):
        r, g, b, x, y, size = digest[n * 6 : n * 6 + 6]
        colour = tuple(int(255 - (255 - c) * done) for c in (r, g, b))
        radius = (0.12 + size / 255 * 0.22) * min(image.size)
        cx, cy = (0.25 + x / 510) * image.width, (0.25 + y / 510) * image.height
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=colour)
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)


def until(condition, otherwise, timeout_s=60):
    """Wait for a condition; `otherwise` says what it means when it never comes."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


class FakeStudio:
    """The part of `danqing.studio.service.Studio` the page uses."""

    def __init__(self, step_s: float = 0.05) -> None:
        self.step_s = step_s
        self.blobs: dict[str, bytes] = {}
        self.kept: dict[str, Record] = {}
        self.all_jobs: dict[str, Job] = {}
        self.log: dict[str, list] = {}
        self.cancelled: set[str] = set()
        self.lock = threading.RLock()
        self.number = next(_FIRST)
        self.held_at: tuple[int, int] | None = None
        self.nets = [LINE, DETAIL, FOREIGN]
        self.catalog = SimpleNamespace(image_adapters=lambda: self.adapters)
        self.training_sets = SimpleNamespace(names=list)
        self.adapters = [ADAPTER]
        self.blind: Exception | None = None
        self.settings = SimpleNamespace(models_path=Path(__file__).parent / "no-models")
        self.cards = NETWORKS
        self.known = [MODEL, TOLD]
        comparing = Comparing(self)
        self.explore, self.exploration = comparing.explore, comparing.exploration
        self.explorations, self.cancel_exploration = comparing.explorations, comparing.cancel_exploration
        self.exploration_records = comparing.exploration_records
        self.exploration_sheet = comparing.exploration_sheet

    @contextmanager
    def holding(self, index, step):
        """Inside, a job waits after this step of this picture, so that a slow browser can look at it."""
        self.held_at = (index, step)
        try:
            yield
        finally:
            self.held_at = None

    def _hold(self, job_id, place):
        while self.held_at == place and job_id not in self.cancelled:
            time.sleep(self.step_s)

    @property
    def idle(self):
        return all(job.is_final for job in list(self.all_jobs.values()))

    # jobs
    def submit(self, request, *, user="local", priority=0, tie=None):
        if request.sampling.sampler:
            find_sampler(request.sampling.sampler)
        if request.model not in (None, *(model.name for model in self.known)):
            raise InvalidRequestError("there is no such model", field="model", value=request.model, allowed=MODEL.name)
        for index, unit in enumerate(request.controls):
            if unit.model == FOREIGN.name:
                field = f"controls.{index}.model"
                raise UnsupportedError("it is not made for the model", field=field, value=unit.model)
            if unit.image is None and request.kind == "txt2img":
                raise InvalidRequestError("this unit has no picture to follow", field=f"controls.{index}.image")
        for index, region in enumerate(request.regions):
            if region.control is not None and region.control.image is None and request.kind == "txt2img":
                field = f"regions.{index}.control.image"
                raise InvalidRequestError("this unit has no picture to follow", field=field)
        if request.kind == "outpaint" and not request.margins.any:
            raise InvalidRequestError("no side is extended", field="margins", allowed="at least one side above 0")
        seed = request.seed if request.seed is not None else int(time.time() * 1000) % 2**31
        plans = tuple(self._plan(request, seed + n) for n in range(request.count))
        with self.lock:
            self.number += 1
            job_id = f"job{self.number:06d}"
            self.all_jobs[job_id] = Job(
                id=job_id, state="queued", request=request, plans=plans, user=user, created_at=datetime.now(UTC)
            )
            self.log[job_id] = [StateEvent(job_id=job_id, state="queued", position=0)]
        threading.Thread(target=self._paint, args=(job_id,), daemon=True).start()
        return self.all_jobs[job_id]

    def _plan(self, request, seed):
        model = ModelRef(name=MODEL.name, sha256=MODEL.sha256, family=MODEL.family)
        width = request.width_px or MODEL.defaults.size_px
        height = request.height_px or MODEL.defaults.size_px
        steps = request.sampling.steps or MODEL.defaults.steps
        base = PassPlan(
            kind="base",
            model=model,
            size=SizePx(width_px=width, height_px=height),
            text=TextPlan(prompt=request.prompt, negative_prompt=request.negative_prompt),
            sampling=SamplingPlan(sampler="dpmpp_2m", schedule="karras", steps=steps),
            guidance=request.guidance,
            guidance_scale=request.guidance.scale or MODEL.defaults.guidance_scale,
            strength=getattr(request, "strength", None),
        )
        init, (passes, _) = self._init(request), left_out(request, (base,))
        seeds, quality = SeedPlan(seed=seed), request.quality
        return Plan(kind="txt2img", seeds=seeds, passes=passes, init=init, quality=quality, parent=request.parent)

    def _init(self, request):
        if request.kind == "txt2img" or request.image is None:
            return None
        kind, _, name = request.image.partition(":")
        return InitPlan(image=self.record(name).picture if kind == "record" else name)

    def _put(self, job_id, **values):
        self.all_jobs[job_id] = self.all_jobs[job_id].model_copy(update=values)

    def _paint(self, job_id):
        job = self.all_jobs[job_id]
        time.sleep(self.step_s)
        self._put(job_id, state="running")
        self.log[job_id].append(StateEvent(job_id=job_id, state="running"))
        total = sum(plan.base.sampling.steps for plan in job.plans)
        done = 0
        for index, plan in enumerate(job.plans):
            steps = plan.base.sampling.steps
            for step in range(1, steps + 1):
                time.sleep(self.step_s)
                if job_id in self.cancelled:
                    self._put(job_id, state="cancelled")
                    self.log[job_id].append(StateEvent(job_id=job_id, state="cancelled"))
                    return
                done += 1
                eta = (total - done) * self.step_s
                self.log[job_id].append(
                    ProgressEvent(job_id=job_id, index=index, step=step, steps=steps, fraction=done / total, eta_s=eta)
                )
                if step % 4 == 0:
                    self.log[job_id].append(self._preview(job_id, index, step, plan))
                self._hold(job_id, (index, step))
            record = self._finish(job_id, index, plan, job.request)
            self.log[job_id].append(
                RecordEvent(job_id=job_id, index=index, record_id=record.id, picture=record.picture)
            )
        self._put(job_id, state="done", progress=1.0)
        self.log[job_id].append(StateEvent(job_id=job_id, state="done"))

    def _preview(self, job_id, index, step, plan):
        small = io.BytesIO()
        size = plan.size
        fraction = step / plan.base.sampling.steps
        picture(plan.base.text.prompt, plan.seeds.seed, size.width_px, size.height_px, fraction).save(small, "JPEG")
        data = base64.b64encode(small.getvalue()).decode()
        return PreviewEvent(job_id=job_id, index=index, step=step, data_base64=data)

    def _finish(self, job_id, index, plan, request):
        info = PngInfo()
        one = request.model_copy(update={"seed": plan.seeds.seed, "count": 1})
        info.add_text("danqing-test", one.model_dump_json())
        out = io.BytesIO()
        picture(plan.base.text.prompt, plan.seeds.seed, plan.size.width_px, plan.size.height_px).save(
            out, "PNG", pnginfo=info
        )
        text = f"{plan.base.text.prompt}\nSteps: {plan.base.sampling.steps}, Seed: {plan.seeds.seed}"
        with self.lock:
            self.number += 1
            record = Record(
                id=f"rec{self.number:06d}",
                job_id=job_id,
                index=index,
                plan=plan,
                picture=self._blob(out.getvalue()),
                width_px=plan.size.width_px,
                height_px=plan.size.height_px,
                infotext=text,
                timings=Timings(total_s=1.0),
                versions=Versions(danqing="0"),
                created_at=datetime.now(UTC),
            )
            self.kept[record.id] = record
        return record

    def job(self, job_id):
        if job_id not in self.all_jobs:
            raise NotFoundError("there is no such job", field="job", value=job_id)
        return self.all_jobs[job_id]

    def jobs(self, *, states=None, limit=50, user=None):
        return [j for j in self.all_jobs.values() if states is None or j.state in states][:limit]

    def cancel(self, job_id):
        job = self.job(job_id)
        if job.is_final:
            raise ConflictError("the job is finished", value=job.state)
        self.cancelled.add(job_id)
        return job

    def watch(self, job_id, *, after=0, timeout_s=None):
        place = after
        while True:
            while place < len(self.log[job_id]):
                event = self.log[job_id][place]
                place += 1
                yield place, event
                if isinstance(event, StateEvent) and event.state in ("done", "failed", "cancelled"):
                    return
            time.sleep(0.02)

    async def awatch(self, job_id, *, after=0, timeout_s=None):
        place = after
        while True:
            while place < len(self.log[job_id]):
                event = self.log[job_id][place]
                place += 1
                yield place, event
                if isinstance(event, StateEvent) and event.state in ("done", "failed", "cancelled"):
                    return
            await asyncio.sleep(0.02)

    # projects
    def projects(self, query=None):
        return []

    # records
    def records(self, *, search="", limit=50, before=None, **_):
        found = [r for r in reversed(self.kept.values()) if r.deleted_at is None and search in r.plan.base.text.prompt]
        return [r for r in found if before is None or r.id < before][:limit]

    def record(self, record_id):
        if record_id not in self.kept:
            raise NotFoundError("there is no such record", field="record", value=record_id)
        return self.kept[record_id]

    def delete_record(self, record_id):
        self.kept[record_id] = self.record(record_id).model_copy(update={"deleted_at": datetime.now(UTC)})
        return self.kept[record_id]

    def restore_record(self, record_id):
        self.kept[record_id] = self.record(record_id).model_copy(update={"deleted_at": None})
        return self.kept[record_id]

    # pictures
    def _blob(self, data):
        sha = hashlib.sha256(data).hexdigest()
        self.blobs[sha] = data
        return sha

    def picture_bytes(self, sha256):
        if sha256 not in self.blobs:
            raise NotFoundError("there is no such picture", field="picture", value=sha256)
        return self.blobs[sha256]

    def thumbnail_bytes(self, record_id):
        return self.picture_bytes(self.record(record_id).picture)

    def upload(self, data, *, name=""):
        try:
            with Image.open(io.BytesIO(data)) as image:
                size = image.size
        except UnidentifiedImageError as error:
            raise BadFileError("this is not a picture", field="image", allowed="PNG, JPEG, WebP") from error
        return SimpleNamespace(sha256=self._blob(data), width_px=size[0], height_px=size[1], media_type="image/png")

    def request_of_picture(self, data):
        with Image.open(io.BytesIO(data)) as image:
            text = image.info.get("danqing-test")
        if text is None:
            raise BadFileError("no settings are written in this picture", field="image")
        return parse_request(json.loads(text))

    # seeing and enlarging
    def _seen(self, reference):
        kind, _, name = reference.partition(":")
        return self.picture_bytes(self.record(name).picture if kind == "record" else name)

    def interrogate(self, reference, *, tags=None, asked=None):
        if self.blind:
            raise self.blind
        self._seen(reference)
        words = {
            language: Wording(caption=caption, label=tags[0], tags=tuple(Tag(text=tag, score=0.5) for tag in tags))
            for language, (caption, tags) in SEEN.items()
        }
        background = Background(kind="plain", colors=("white",))
        return Interrogation(words=words, concept="1F34E", score=0.9, background=background, model="5" * 64)

    def search(self, text="", *, limit=20, **_):
        if self.blind:
            raise self.blind
        found = sorted(self.records(limit=1000), key=lambda r: text not in r.plan.base.text.prompt)
        return [Found(record=record, score=0.5) for record in found][:limit]

    def upscale(self, request):
        with Image.open(io.BytesIO(self._seen(request.image))) as image:
            large = image.resize((image.width * 4, image.height * 4))
        out = io.BytesIO()
        large.save(out, "PNG")
        sides = {"width_px": large.width, "height_px": large.height}
        sha256 = self._blob(out.getvalue())
        plan = UpscalePlan(image=sha256, scale=4, upscaler=UPSCALER.name, **sides)
        return SimpleNamespace(picture=SimpleNamespace(sha256=sha256, media_type="image/png", **sides), plan=plan)

    # names
    def controlnets(self):
        return self.nets

    def upscalers(self):
        return [UPSCALER]

    def models(self):
        return self.known

    def workers(self):
        return [SimpleNamespace(device="cpu", versions=None)]

    def network_cards(self, model):
        return self.cards

    def network_preview(self, kind, name):
        if name == "broken":
            raise NotFoundError("there is no picture beside this network", value=name)
        out = io.BytesIO()
        picture(name, 1, 192, 144).save(out, "WEBP")
        return out.getvalue()

    def styles(self):
        return [SimpleNamespace(name="ink wash", prompt="{prompt}, ink wash", negative_prompt="")]


def build_app(studio=None):
    """The page on a bare FastAPI application."""
    from fastapi import FastAPI

    from danqing.web import mount

    app = FastAPI()
    settings = SimpleNamespace(upload_max_bytes=32 * 2**20)
    return mount(app, studio or FakeStudio(), settings)


if __name__ == "__main__":
    import sys

    import uvicorn

    uvicorn.run(
        build_app(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 7890, log_level="warning"
    )
