"""A Studio in memory: paints flat squares at once, so that the doors can be tested without a worker."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from door_training import TrainingDoor
from PIL import Image

from danqing.models.hashes import HashCache
from danqing.models.networks import NetworkShelf
from danqing.planning.retouch import Ground, plan_retouch
from danqing.planning.upscaling import plan_upscale, target_size
from danqing.review.base import checked_brief, find_reviewer
from danqing.review.findings import Findings
from danqing.spec.errors import BadFileError, ConflictError, InvalidRequestError, MissingWeightsError, NotFoundError
from danqing.spec.events import PreviewEvent, ProgressEvent, RecordEvent, StateEvent
from danqing.spec.geometry import BoxPx, SizePx
from danqing.spec.model import ControlNetInfo, ImageEncoderInfo, IpAdapterInfo, ModelInfo, ModelRef
from danqing.spec.network import NetworkInfo
from danqing.spec.painting import Guidance
from danqing.spec.plan import PassPlan, Plan, SamplingPlan, SeedPlan, TextPlan
from danqing.spec.record import FINAL_STATES, Job, Record, Versions
from danqing.spec.refine import Refinement
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.spec.request import parse_request
from danqing.spec.review import Suggestion
from danqing.spec.sight import Found
from danqing.spec.upscale import UpscalerFile
from danqing.store.explorations import FakeExplorations
from danqing.store.fake_projects import FakeProjects
from danqing.store.metadata import encode_picture
from danqing.store.vectors import from_text
from danqing.studio.consulting import Consulting
from danqing.studio.exploring import Exploring
from danqing.studio.exporting import Export, Exporting
from danqing.studio.feed import Feed
from danqing.studio.model_files import ModelFiles
from danqing.studio.pairs import zip_pairs
from danqing.studio.projects import Projects
from danqing.studio.refining import RefineOrder
from danqing.studio.reproduction import plan_of_picture
from danqing.studio.reviews import Reviews
from danqing.studio.set_shelf import SetShelf
from danqing.studio.settings import Settings
from danqing.studio.sharing import Sharing
from danqing.studio.upscaling import Upscaled
from danqing.workers.fake_sight import FakeSight
from danqing.workers.protocol import EmbedCommand, InterrogateCommand, PictureSource

API = "/api/v1"
MODEL = ModelInfo(name="danqing-mini", family="sd1", path="builtin", sha256="a" * 64, builtin=True)
CONTROLNET = ControlNetInfo(name="line", path="builtin/line", sha256="b" * 64, base="danqing-mini")
NETWORK = NetworkInfo(
    name="ink", path="/models/Lora/ink.safetensors", sha256="d" * 64, kind="lora", family="sd1", rank=4
)
IMAGE_ADAPTER = IpAdapterInfo(
    name="danqing-mini",
    path="builtin/ip-adapter/danqing-mini.safetensors",
    sha256="c" * 64,
    encoder=ImageEncoderInfo(path="builtin/danqing-mini-clip/image_encoder", sha256="d" * 64, embedding_width=256),
    builtin=True,
    base="danqing-mini",
    context_width=256,
    layer_widths=(256,) * 7,
)


UPSCALER = UpscalerFile(name="4x-draw", path="4x-draw.pth", sha256="b" * 64)


@dataclass(frozen=True)
class Upload:
    sha256: str
    width_px: int
    height_px: int
    media_type: str


@dataclass(frozen=True)
class Style:
    name: str
    prompt: str
    negative_prompt: str


def png(colour=(200, 60, 40), size=(32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def plans_of(request) -> tuple[Plan, ...]:
    sampler = find_sampler(request.sampling.sampler or "Euler a")
    sampler = sampler[0] if isinstance(sampler, tuple) else sampler
    schedule = find_schedule(request.sampling.schedule or "automatic")
    size = SizePx(width_px=request.width_px or 128, height_px=request.height_px or 128)
    first = 4 if request.seed is None else request.seed
    base = PassPlan(
        kind="base",
        model=ModelRef(name=MODEL.name, sha256=MODEL.sha256, family=MODEL.family),
        size=size,
        text=TextPlan(prompt=request.prompt, negative_prompt=request.negative_prompt),
        sampling=SamplingPlan(sampler=sampler.key, schedule=schedule.key, steps=request.sampling.steps or 4),
        guidance=Guidance(),
        guidance_scale=7.0,
    )
    return tuple(
        Plan(kind=request.kind, seeds=SeedPlan(seed=(first + index) % 2**64), passes=(base,), output=request.output)
        for index in range(request.count)
    )


class Comparing(Exploring):
    """The real comparisons over a fake studio."""

    def __init__(self, studio: FakeStudio) -> None:
        self._studio = studio
        self._kept = FakeExplorations(threading.RLock())

    @property
    def _store(self):
        return SimpleNamespace(explorations=self._kept, record_ids=self._record_ids)

    def _record_ids(self, job_id: str) -> dict[int, str]:
        return dict(enumerate(self._studio.job(job_id).records))

    def _planned(self, request):
        return plans_of(request)

    def live_project(self, project_id):
        return self._studio.live_project(project_id)

    def _queue(self, request, plans, *, tie=None, **_):
        job = self._studio._submit_plans(request, plans)
        if tie is not None:
            self._studio._kept.put_items(tie.project, self._studio.job(job.id).records)
        return job

    def record(self, record_id):
        return self._studio.record(record_id)

    def picture_bytes(self, sha256):
        return self._studio.picture_bytes(sha256)

    def cancel(self, job_id):
        return self._studio.cancel(job_id)


class FakeStudio(Projects, Sharing, Reviews, Exporting, ModelFiles, Consulting, SetShelf):
    """Duck-typed `danqing.studio.service.Studio`; `hold=True` leaves jobs running until `finish`."""

    def __init__(self, folder: Path, *, hold: bool = False) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder, models_dir=folder)
        self.hold = hold
        self.lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list] = {}
        self._records: dict[str, Record] = {}
        self.cancelled: list[str] = []
        self._refined: dict[str, Refinement] = {}
        self._kept = FakeProjects(self.lock, self._jobs, self._records)
        self.fail_with: Exception | None = None
        self.catalog = SimpleNamespace(networks=NetworkShelf(folder, HashCache(None)))
        comparing = Comparing(self)
        self.explore, self.exploration = comparing.explore, comparing.exploration
        self.explorations, self.cancel_exploration = comparing.explorations, comparing.cancel_exploration
        self.exploration_records = comparing.exploration_records
        self.exploration_sheet = comparing.exploration_sheet
        self.training = TrainingDoor(self)
        self.training.share_with(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, **_):
        pass

    def close(self):
        pass

    def _store(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return digest

    def _submit_plans(self, request, plans) -> Job:
        if self.fail_with is not None:
            raise self.fail_with
        with self.lock:
            job_id = f"J{len(self._jobs):05d}"
            job = Job(id=job_id, state="queued", request=request, plans=plans, created_at=datetime.now(UTC))
            self._jobs[job_id] = job
            self._events[job_id] = [StateEvent(job_id=job_id, state="queued", position=0)]
            self._change(job_id, state="running", started_at=datetime.now(UTC))
            self._events[job_id].append(StateEvent(job_id=job_id, state="running"))
            if not self.hold:
                self.finish(job_id)
            return job

    def _change(self, job_id: str, **changes) -> Job:
        self._jobs[job_id] = self._jobs[job_id].model_copy(update=changes)
        return self._jobs[job_id]

    def finish(self, job_id: str) -> None:
        job = self._jobs[job_id]
        events = self._events[job_id]
        ids = []
        for index, plan in enumerate(job.plans):
            done = (index + 1) / len(job.plans)
            events.append(ProgressEvent(job_id=job_id, index=index, step=4, steps=4, fraction=done, eta_s=0.0))
            small = base64.b64encode(png(size=(16, 16))).decode()
            events.append(PreviewEvent(job_id=job_id, index=index, step=4, media_type="image/png", data_base64=small))
            seed = plan.seeds.seed
            infotext = f"{plan.base.text.prompt}\nSteps: 4, Seed: {seed}"
            image = Image.new("RGB", (plan.size.width_px, plan.size.height_px), (seed % 251, 60, index % 250))
            encoded = encode_picture(image, plan.output, infotext=infotext, plan=plan)
            record_id = f"R{len(self._records):05d}"
            self._records[record_id] = Record(
                id=record_id,
                job_id=job_id,
                index=index,
                plan=plan,
                picture=self._store(encoded.data),
                media_type=encoded.media_type,
                width_px=plan.size.width_px,
                height_px=plan.size.height_px,
                infotext=infotext,
                versions=Versions(danqing="0"),
                created_at=datetime.now(UTC),
            )
            ids.append(record_id)
            events.append(RecordEvent(job_id=job_id, index=index, record_id=record_id, picture="0" * 64))
        self._change(job_id, state="done", progress=1.0, records=tuple(ids), finished_at=datetime.now(UTC))
        events.append(StateEvent(job_id=job_id, state="done"))

    @property
    def _projects(self):
        return self._kept

    @property
    def _feed(self):
        return Feed(self._kept)

    def submit(self, request, *, user="local", priority=0, tie=None) -> Job:
        for field in ("image", "mask"):
            reference = getattr(request, field, None)
            if reference is not None:
                self._size_of(reference, field)
        image, mask = getattr(request, "image", None), getattr(request, "mask", None)
        if mask and self._size_of(image, "image") != self._size_of(mask, "mask"):
            raise InvalidRequestError("the mask is not the size of the picture", field="mask")
        plans = plans_of(request)
        if request.kind == "retouch" and all(step.kind == "upscale" for step in request.steps):
            plans = (self._enlarged(request, plans[0]),)
        job = self._submit_plans(request, plans)
        if tie is not None:
            self._kept.put_items(tie.project, self.job(job.id).records)
        return job

    def _enlarged(self, request, plan: Plan) -> Plan:
        """The Plan with its steps really planned, of the size that they make."""
        size = self._size_of(request.image, "image")
        picture = SizePx(width_px=size[0], height_px=size[1])
        found = plan_retouch(Ground(request, plan.base, MODEL, self, None, 0, lambda *_: {}, picture, 1))
        for step in request.steps:
            size = target_size(step, size)
        base = plan.base.model_copy(update={"size": SizePx(width_px=size[0], height_px=size[1])})
        return plan.model_copy(update={"passes": (base,), "retouch": found.plan, "notes": tuple(found.notes)})

    def _size_of(self, reference: str, field: str) -> tuple[int, int]:
        kind, _, name = reference.partition(":")
        digest = self.record(name).picture if kind == "record" else name
        if not (self.folder / digest).exists():
            raise NotFoundError("there is no such picture", field=field, value=reference)
        with Image.open(self.folder / digest) as image:
            return image.size

    def reproduce(self, plan, *, user="local") -> Job:
        request = parse_request({"prompt": plan.base.text.prompt, "seed": plan.seeds.seed})
        return self._submit_plans(request, (plan,))

    def job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise NotFoundError("there is no such job", field="job_id", value=job_id)
        return self._jobs[job_id]

    def jobs(self, *, states=None, limit=50, user=None) -> list[Job]:
        found = [job for job in reversed(self._jobs.values()) if states is None or job.state in states]
        return found[:limit]

    def cancel(self, job_id: str) -> Job:
        with self.lock:
            if self.job(job_id).is_final:
                raise ConflictError("the job is already finished", value=job_id)
            self.cancelled.append(job_id)
            self._events[job_id].append(StateEvent(job_id=job_id, state="cancelled"))
            return self._change(job_id, state="cancelled", finished_at=datetime.now(UTC))

    def retry(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.state not in {"failed", "cancelled"}:
            raise ConflictError("only a failed or cancelled job can be tried again", value=job.state)
        return self._submit_plans(job.request, job.plans)

    def watch(self, job_id: str, *, after: int = 0, timeout_s=None):
        self.job(job_id)
        sent = 0
        while True:
            events = self._events[job_id]
            for number in range(after + 1, len(events) + 1):
                after = sent = number
                yield number, events[number - 1]
            if self._jobs[job_id].state in FINAL_STATES and after >= len(events):
                if not sent:
                    yield after, events[-1]
                return
            time.sleep(0.01)

    async def awatch(self, job_id: str, *, after: int = 0, timeout_s=None):
        self.job(job_id)
        sent = 0
        while True:
            events = self._events[job_id]
            for number in range(after + 1, len(events) + 1):
                after = sent = number
                yield number, events[number - 1]
            if self._jobs[job_id].state in FINAL_STATES and after >= len(events):
                if not sent:
                    yield after, events[-1]
                return
            await asyncio.sleep(0.01)

    def wait(self, job_id: str, timeout_s=None) -> Job:
        for _ in self.watch(job_id):
            pass
        return self.job(job_id)

    def records(self, *, search="", kind=None, model=None, limit=50, before=None, include_deleted=False):
        found = sorted(self._records.values(), key=lambda record: record.id, reverse=True)
        return [
            record
            for record in found
            if search in record.plan.base.text.prompt
            and kind in {None, record.plan.kind}
            and model in {None, record.plan.base.model.name}
            and (before is None or record.id < before)
            and (include_deleted or record.deleted_at is None)
        ][:limit]

    def record(self, record_id: str) -> Record:
        if record_id not in self._records:
            raise NotFoundError("there is no such record", field="record_id", value=record_id)
        return self._records[record_id]

    def delete_record(self, record_id: str) -> Record:
        record = self.record(record_id).model_copy(update={"deleted_at": datetime.now(UTC)})
        self._records[record_id] = record
        return record

    def restore_record(self, record_id: str) -> Record:
        record = self.record(record_id).model_copy(update={"deleted_at": None})
        self._records[record_id] = record
        return record

    def picture_path(self, sha256: str) -> Path:
        if not (self.folder / sha256).is_file():
            raise NotFoundError("there is no such picture", value=sha256)
        return self.folder / sha256

    def picture_bytes(self, sha256: str) -> bytes:
        return self.picture_path(sha256).read_bytes()

    def thumbnail_bytes(self, record_id: str) -> bytes:
        return self.picture_bytes(self.record(record_id).picture)

    def upload(self, data: bytes, *, name: str = "") -> Upload:
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                size, media_type = image.size, f"image/{(image.format or 'png').lower()}"
        except OSError as error:
            raise BadFileError(
                "this is not a picture that can be read", field="file", value=name, allowed="PNG, JPEG or WebP"
            ) from error
        return Upload(self._store(data), *size, media_type)

    def interrogate(self, picture, *, tags=None, asked=None):
        command = InterrogateCommand(task_id="t", picture=self._source(picture, "image"), tags=tags or 12)
        return FakeSight(self.folder).answer(command).interrogation

    def search(self, text="", *, like=None, limit=20, **only):
        if not text.strip() and like is None:
            raise InvalidRequestError("a search by look needs words or a picture", field="search")
        sources = [] if like is None else [self._source(like, "like")]
        wanted = self._seen([text] if text.strip() else [], sources).mean(axis=0)
        found = [
            Found(record=record, score=float(wanted @ self._seen([], [self._source(f"record:{record.id}", "")])[0]) / 2)
            for record in self.records(limit=1000, **only)
        ]
        return sorted(found, key=lambda one: -one.score)[:limit]

    def score(self, picture, prompt):
        words, seen = self._seen([prompt], [self._source(picture, "image")])
        return float(max(0.0, words @ seen) / 2)

    def review_by_model(self, picture, brief=None, *, reviewer="builtin"):
        info = find_reviewer(reviewer)
        checked_brief(brief or "a red apple")
        self._source(picture, "image")
        if info.key != "builtin":
            raise MissingWeightsError("it is not installed", field="reviewer", value=info.key)
        box = BoxPx(left_px=4, top_px=4, right_px=20, bottom_px=20)
        told = Suggestion(box=box, prompt="a red apple", reason="it is green")
        return Findings(reviewer=info.key, suggestions=(told,), note="one change")

    def start_refinement(self, order):
        start = order.start
        if order.project is not None:
            self.live_project(order.project)
        if isinstance(start, str):
            self.record(start)
        elif start.count != 1:
            raise InvalidRequestError("one picture at a time is refined", field="count", value=start.count)
        begun = Refinement(
            id=f"F{len(self._refined):05d}",
            brief=checked_brief(order.brief or "a red apple"),
            reviewer=find_reviewer(order.options.reviewer).key,
            options=order.options,
            project=order.project,
            record=start if isinstance(start, str) else None,
            request=None if isinstance(start, str) else start,
            continues=order.continues,
        )
        self._refined[begun.id] = begun
        return begun

    def refinement(self, refinement_id):
        if refinement_id not in self._refined:
            raise NotFoundError("there is no such refinement", field="refinement_id", value=refinement_id)
        return self._refined[refinement_id]

    def refinements(self, query):
        if query.project is not None:
            self.project(query.project)
        found = [one for one in reversed(self._refined.values()) if query.project in (None, one.project)]
        return [one for one in found if query.before is None or one.id < query.before][: query.limit]

    def continue_refinement(self, refinement_id):
        old = self.refinement(refinement_id)
        if old.state == "running":
            raise ConflictError("the refinement still runs", value=refinement_id)
        return self.start_refinement(
            RefineOrder(old.record or old.request, old.options, old.brief, continues=refinement_id)
        )

    def export_pairs(self, project_id):
        self.project(project_id)
        return Export("pairs.zip", zip_pairs(list(self._refined.values()), "pairs", self))

    def cancel_refinement(self, refinement_id):
        begun = self.refinement(refinement_id)
        if begun.state != "running":
            raise ConflictError("the refinement has ended", value=begun.state)
        self._refined[refinement_id] = begun.model_copy(update={"state": "cancelled"})
        return begun

    def _seen(self, texts, sources):
        answer = FakeSight(self.folder).answer(EmbedCommand(task_id="t", texts=texts, pictures=sources))
        return np.concatenate([from_text(answer.texts, 3), from_text(answer.pictures, 3)])

    def _source(self, picture, field) -> PictureSource:
        if isinstance(picture, bytes):
            self.upload(picture)
        else:
            self._size_of(picture, field)
            kind, _, name = picture.partition(":")
            picture = self.picture_bytes(self.record(name).picture if kind == "record" else name)
        return PictureSource(data_base64=base64.b64encode(picture).decode())

    def models(self) -> list[ModelInfo]:
        return [MODEL]

    def controlnets(self) -> list[ControlNetInfo]:
        return [CONTROLNET]

    def image_adapters(self) -> list[IpAdapterInfo]:
        return [IMAGE_ADAPTER]

    def networks(self) -> list[NetworkInfo]:
        return [NETWORK]

    def upscalers(self) -> list[UpscalerFile]:
        return [UPSCALER]

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        return UPSCALER if name in {UPSCALER.name, UPSCALER.sha256} else None

    def upscale(self, request, *, user="local") -> Upscaled:
        size = self._size_of(request.image, "image")
        kind, _, name = request.image.partition(":")
        digest = self.record(name).picture if kind == "record" else name
        plan = plan_upscale(request.model_copy(update={"image": f"sha256:{digest}"}), self, size)
        with Image.open(self.folder / digest) as image:
            large = encode_picture(image.resize((plan.width_px, plan.height_px)), plan.output)
        upload = Upload(self._store(large.data), plan.width_px, plan.height_px, large.media_type)
        return Upscaled(upload, plan, 0.1)

    def styles(self) -> list[Style]:
        return [Style("flat", "{prompt}, flat", "")]

    def request_of_picture(self, data: bytes):
        self.upload(data)
        return parse_request({"prompt": "a red apple", "seed": 7})

    def plan_of_picture(self, data: bytes):
        self.upload(data)
        return plan_of_picture(data)

    def doctor(self) -> dict:
        return {"versions": {"danqing": "0"}, "device": "cpu", "missing": []}


def submit(client, **body):
    return client.post(f"{API}/jobs", json={"prompt": "a red apple", **body})


def problem(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["type"].startswith("urn:danqing:problem:")
    return body
