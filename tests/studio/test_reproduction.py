from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from studio_helpers import MODEL, fake_planner, make_plan

from danqing.prompt.infotext import to_infotext
from danqing.spec.errors import BadFileError, MissingWeightsError, NotFoundError
from danqing.spec.model import ModelInfo
from danqing.spec.painting import Output, Txt2ImgRequest
from danqing.spec.plan import InitPlan, Plan
from danqing.store.metadata import encode_picture
from danqing.studio import doctor
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool


class FakeCatalog:
    def __init__(self, *models: ModelInfo) -> None:
        self.models = models

    def find(self, name: str) -> ModelInfo:
        for model in self.models:
            if name in (model.name, model.sha256):
                return model
        raise NotFoundError("no such model", value=name)

    def list(self) -> list[ModelInfo]:
        return list(self.models)

    def problems(self) -> dict[str, str]:
        return {"/models/broken": "its config is not JSON"}


HERE = ModelInfo(name=MODEL.name, sha256=MODEL.sha256, family="sd1", path="builtin")


@pytest.fixture
def studio(tmp_path: Path):
    with Studio(
        load_settings(data_dir=tmp_path / "data"), FakePool(), catalog=FakeCatalog(HERE), planner=fake_planner
    ) as studio:
        yield studio


def file_of(plan: Plan, output: Output | None = None, *, with_plan: bool = True) -> bytes:
    image = Image.new("RGB", (32, 32), "red")
    text = to_infotext(plan)
    return encode_picture(image, output or Output(), infotext=text, plan=plan if with_plan else None).data


def test_exactly_the_plan_is_painted(studio: Studio):
    plan = make_plan(seed=99)
    job = studio.wait(studio.reproduce(plan, user="mei").id, 10)
    assert (job.plans, job.user, job.request.seed) == ((plan,), "mei", 99)
    assert studio.record(job.records[0]).plan == plan


def test_another_model_of_the_same_name(studio: Studio):
    other = MODEL.model_copy(update={"sha256": "cd" * 32})
    plan = make_plan()
    plan = plan.model_copy(update={"passes": (plan.base.model_copy(update={"model": other}),)})
    with pytest.raises(MissingWeightsError, match="is not the one that painted") as caught:
        studio.reproduce(plan)
    assert "cdcdcdcdcd" in str(caught.value)


def test_a_model_that_is_not_here(studio: Studio):
    plan = make_plan(vae=MODEL.model_copy(update={"name": "nowhere", "sha256": "ef" * 32}))
    with pytest.raises(MissingWeightsError, match="nowhere, which is not here"):
        studio.reproduce(plan)


def test_an_init_picture_that_is_not_here(studio: Studio):
    with pytest.raises(NotFoundError, match="painted over") as caught:
        studio.reproduce(make_plan(kind="img2img", init=InitPlan(image="0" * 64)))
    assert "upload" in str(caught.value.next_step)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("with_plan", [True, False])
def test_the_request_of_a_picture(studio: Studio, form: str, with_plan: bool):
    request = studio.request_of_picture(file_of(make_plan(seed=42), Output(format=form), with_plan=with_plan))
    assert isinstance(request, Txt2ImgRequest)
    assert (request.prompt, request.seed, request.sampling.steps) == ("a red apple", 42, 4)
    assert request.guidance.scale == 7.0


def test_a_parent_from_another_studio_is_left_out(studio: Studio):
    assert studio.request_of_picture(file_of(make_plan(parent="elsewhere"))).parent is None


def test_a_picture_that_says_nothing(studio: Studio):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "PNG")
    with pytest.raises(BadFileError, match="does not say"):
        studio.request_of_picture(buffer.getvalue())


def test_styles_from_the_data_folder_win(studio: Studio):
    root = studio.settings.models_path
    root.mkdir()
    (root / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink wash,colour\nold,old,\n")
    (studio.settings.data_dir / "styles.csv").write_text("name,prompt,negative_prompt\nink,our ink of {prompt},\n")
    assert {style.name: style.prompt for style in studio.styles()} == {"ink": "our ink of {prompt}", "old": "old"}


def test_the_doctor(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_device", lambda *_: {"ok": True})
    facts = json.loads(json.dumps(studio.doctor()))
    assert facts["packages"]["sqlalchemy"]
    assert facts["database"]["ok"]
    assert facts["models"][0]["name"] == MODEL.name
    assert "/models/broken: its config is not JSON" in facts["problems"]
    assert facts["workers"][0]["device"] == "fake"


def test_the_doctor_when_no_worker_starts(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.sys, "executable", "/nowhere/python")
    facts = studio.doctor()
    assert not facts["device"]["ok"]
    assert any("nothing can be painted" in problem for problem in facts["problems"])


def test_a_password_in_the_database_url_is_not_told():
    assert doctor._without_password("postgresql://u:secret@host/x") == "postgresql://***@host/x"
    assert doctor._without_password("/home/a@b/danqing.db") == "/home/a@b/danqing.db"
