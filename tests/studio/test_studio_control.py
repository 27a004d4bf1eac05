"""ControlNet units through the Studio: pictures by record or upload, refusals before the job, reproduction."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from danqing.spec.errors import DanqingError, InvalidRequestError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.request import parse_request
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool
from easel import Easel


@pytest.fixture
def studio(tmp_path: Path, control_easel: Easel):
    settings = load_settings(data_dir=tmp_path / "data")
    with Studio(settings, FakePool(), catalog=control_easel.catalog) as studio:
        yield studio


def upload(studio: Studio, side: int = 32) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (side, 32), "red").save(buffer, "PNG")
    return f"sha256:{studio.upload(buffer.getvalue()).sha256}"


def request(*units, **fields):
    return parse_request({"prompt": "a cat", "model": "tiny", "controls": units, **fields})


def test_pictures_by_record_and_by_upload(studio: Studio):
    painted = studio.wait(studio.submit(request()).id, 10)
    record = studio.record(painted.records[0])
    job = studio.submit(request({"model": "live", "image": f"record:{record.id}", "mask": upload(studio)}))
    (unit,) = job.plans[0].controls
    assert unit.image == record.picture
    assert unit.mask == upload(studio).removeprefix("sha256:")
    assert job.request.controls[0].image == f"record:{record.id}"
    again = studio.wait(studio.reproduce(job.plans[0]).id, 10)
    assert again.plans == (job.plans[0],)
    assert again.request.controls[0].image == f"sha256:{record.picture}"


@pytest.mark.parametrize(
    ("unit", "kind", "field"),
    [
        ({"model": "live", "image": "record:nowhere"}, NotFoundError, "controls.0.image"),
        ({"model": "live", "image": "sha256:" + "0" * 64}, NotFoundError, "controls.0.image"),
        ({"model": "live", "image": "@", "mask": "sha256:" + "0" * 64}, NotFoundError, "controls.0.mask"),
        ({"model": "live", "image": "@wide"}, InvalidRequestError, "controls.0.image"),
        ({"model": "nope", "image": "@"}, NotFoundError, "controls.0.model"),
        ({"model": "deep", "image": "@"}, UnsupportedError, "controls.0.model"),
        ({"model": "wordy", "image": "@"}, UnsupportedError, "controls.0.model"),
        ({"model": "mini-line", "image": "@"}, UnsupportedError, "controls.0.model"),
    ],
)
def test_what_cannot_be_starts_no_job(studio: Studio, unit: dict[str, str], kind: type[DanqingError], field: str):
    stand_ins = {"@": upload(studio), "@wide": upload(studio, 5000)}
    with pytest.raises(kind) as caught:
        studio.submit(request({name: stand_ins.get(value, value) for name, value in unit.items()}))
    assert caught.value.field == field
    assert studio.jobs() == []


def test_reproducing_needs_the_same_controlnet_and_picture(studio: Studio):
    (plan,) = studio.submit(request({"model": "live", "image": upload(studio)})).plans
    (unit,) = plan.controls
    gone = unit.model.model_copy(update={"sha256": "0" * 64})
    for changes, kind, said in (
        ({"model": gone}, MissingWeightsError, "models/ControlNet"),
        ({"image": "0" * 64}, NotFoundError, "upload the same file"),
    ):
        with pytest.raises(kind, match=said):
            studio.reproduce(plan.model_copy(update={"controls": (unit.model_copy(update=changes),)}))


def test_models_and_problems(studio: Studio):
    assert {"sets/live", "zero", "mini-line"} <= {info.name for info in studio.controlnets()}
