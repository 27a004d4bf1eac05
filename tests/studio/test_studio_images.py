"""Image prompts through the Studio: pictures by record or upload, refusals before the job, reproduction."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from danqing.spec.errors import DanqingError, InvalidRequestError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.plan import ImageAdapterPlan, Plan
from danqing.spec.request import parse_request
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool
from easel import Easel


@pytest.fixture
def studio(tmp_path: Path, image_easel: Easel):
    settings = load_settings(data_dir=tmp_path / "data")
    with Studio(settings, FakePool(), catalog=image_easel.catalog) as studio:
        yield studio


def upload(studio: Studio, side: int = 32) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (side, 32), "red").save(buffer, "PNG")
    return f"sha256:{studio.upload(buffer.getvalue()).sha256}"


def request(*pictures: str, **fields):
    prompts = [{"image": picture} for picture in pictures]
    return parse_request({"model": "tiny", "image_prompts": prompts, **fields})


def test_pictures_by_record_and_by_upload(studio: Studio):
    painted = studio.wait(studio.submit(request()).id, 10)
    record = studio.record(painted.records[0])
    job = studio.submit(request(f"record:{record.id}", upload(studio), image_mix="average"))
    first, second = job.plans[0].image_prompts
    assert first.image == record.picture
    assert second.image == upload(studio).removeprefix("sha256:")
    again = studio.wait(studio.reproduce(job.plans[0]).id, 10)
    assert again.plans == (job.plans[0],)
    assert again.request.image_prompts[0].image == f"sha256:{record.picture}"
    assert again.request.image_mix == "average"


@pytest.mark.parametrize(
    ("picture", "fields", "kind", "field"),
    [
        ("record:nowhere", {}, NotFoundError, "image_prompts.0.image"),
        ("sha256:" + "0" * 64, {}, NotFoundError, "image_prompts.0.image"),
        ("@wide", {}, InvalidRequestError, "image_prompts.0.image"),
        ("@", {"image_adapter": "nope"}, NotFoundError, "image_adapter"),
        ("@", {"image_adapter": "wide"}, UnsupportedError, "image_adapter"),
        ("@", {"image_adapter": "like-mini"}, UnsupportedError, "image_adapter"),
    ],
)
def test_refused_before_there_is_a_job(
    studio: Studio, picture: str, fields: dict[str, str], kind: type[DanqingError], field: str
):
    name = {"@": upload(studio), "@wide": upload(studio, 5000)}.get(picture, picture)
    with pytest.raises(kind) as caught:
        studio.submit(request(name, **fields))
    assert caught.value.field == field
    assert studio.jobs() == []


def changed(plan: Plan, **updates: str) -> Plan:
    """The Plan with another adapter or image tower, as if from another machine."""
    adapter = plan.base.image_adapter
    assert isinstance(adapter, ImageAdapterPlan)
    refs = {name: getattr(adapter, name).model_copy(update={"sha256": value}) for name, value in updates.items()}
    base = plan.base.model_copy(update={"image_adapter": adapter.model_copy(update=refs)})
    return plan.model_copy(update={"passes": (base,)})


def test_reproduction_needs_the_same_adapter_encoder_and_picture(studio: Studio):
    (plan,) = studio.submit(request(upload(studio))).plans
    for part in ("model", "encoder"):
        with pytest.raises(MissingWeightsError) as caught:
            studio.reproduce(changed(plan, **{part: "9" * 64}))
        assert caught.value.field == "image_adapter"
    prompt = plan.image_prompts[0].model_copy(update={"image": "8" * 64})
    with pytest.raises(NotFoundError):
        studio.reproduce(plan.model_copy(update={"image_prompts": (prompt,)}))
