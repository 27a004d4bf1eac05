"""Plans and Requests without models, for tests of the store, the pool and the studio."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from danqing.spec.geometry import SizePx
from danqing.spec.model import ModelRef
from danqing.spec.painting import Guidance, InpaintRequest, Txt2ImgRequest
from danqing.spec.plan import InitPlan, MaskPlan, PassPlan, Plan, SamplingPlan, SeedPlan, TextPlan
from danqing.spec.record import Job, Record, Versions
from danqing.spec.request import Request
from danqing.store.ids import new_id

MODEL = ModelRef(name="danqing-mini", sha256="ab" * 32, family="sd1")


def make_plan(seed: int = 1, prompt: str = "a red apple", **changes: Any) -> Plan:
    part = PassPlan(
        kind="base",
        model=MODEL,
        size=SizePx(width_px=32, height_px=32),
        text=TextPlan(prompt=prompt, negative_prompt=""),
        sampling=SamplingPlan(sampler="euler", schedule="automatic", steps=4),
        guidance=Guidance(),
        guidance_scale=7.0,
    )
    return Plan(**{"kind": "txt2img", "seeds": SeedPlan(seed=seed), "passes": (part,), **changes})


def fake_planner(request: Request, catalog: object, **facts: Any) -> tuple[Plan, ...]:
    seed = request.seed if request.seed is not None else facts["rng_seed"]
    changes: dict[str, Any] = {"kind": request.kind, "parent": request.parent}
    if not isinstance(request, Txt2ImgRequest):
        changes["init"] = InitPlan(image=request.image.removeprefix("sha256:"))
    if isinstance(request, InpaintRequest):
        changes["mask"] = MaskPlan(mask=request.mask.removeprefix("sha256:"))
    return tuple(make_plan(seed + index, request.prompt, **changes) for index in range(request.count))


def make_job(count: int = 1, seed: int = 1, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": new_id(),
        "state": "queued",
        "request": Txt2ImgRequest(prompt="a red apple", seed=seed, count=count),
        "plans": tuple(make_plan(seed + index) for index in range(count)),
        "created_at": datetime.now(UTC),
    }
    return Job(**{**values, **changes})


def make_record(job: Job, index: int = 0, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": new_id(),
        "job_id": job.id,
        "index": index,
        "plan": job.plans[index],
        "picture": f"{index:064x}",
        "width_px": 32,
        "height_px": 32,
        "versions": Versions(danqing="test"),
        "created_at": datetime.now(UTC),
    }
    return Record(**{**values, **changes})


def picture(width_px: int = 32, height_px: int = 32, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "red").save(buffer, form, **options)
    return buffer.getvalue()


def painted(data_dir: Path) -> list[dict[str, Any]]:
    """What the fake workers noted down: one line a picture."""
    path = data_dir / "painted.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
