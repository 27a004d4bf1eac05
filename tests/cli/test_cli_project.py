"""`danqing project` over the real Studio with fake workers."""

from __future__ import annotations

import json
import zipfile

import pytest
from door_studio import plans_of

from danqing.cli import main, session
from danqing.spec.plan import InitPlan, MaskPlan
from danqing.spec.request import parse_request
from danqing.spec.review import ReviewBody
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool


def planner(request, catalog, **facts):
    changes = {"parent": request.parent, "kind": request.kind}
    if request.kind == "inpaint":
        changes |= {"init": InitPlan(image=request.image[7:]), "mask": MaskPlan(mask=request.mask[7:])}
    return tuple(plan.model_copy(update=changes) for plan in plans_of(request))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "make_studio", lambda settings: Studio(settings, FakePool(), planner=planner))
    monkeypatch.setenv("DANQING_DATA_DIR", str(tmp_path / "data"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def run(folder, capsys):
    def run(*arguments, code=0):
        assert main.run(["project", *arguments, "--json"]) == code
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else json.loads(captured.err.splitlines()[-1])["error"]

    return run


@pytest.fixture
def painted(folder):
    with Studio(load_settings(), FakePool(), planner=planner) as studio:
        job = studio.submit(parse_request({"prompt": "red apple, 3d", "seed": 7}))
        return studio.wait(job.id, timeout_s=20).records[0]


def test_from_a_brief_to_the_next_version(run, painted, folder, capsys):
    made = run("new", "Tea house", "--words", "春天", "--colour", "#c8372d", "--do", "room", "--size", "1024x1536")
    project = made["project"]["id"]
    assert made["project"]["brief"]["size"] == {"width_px": 1024, "height_px": 1536}
    assert run("add", project, painted)["items"][0]["record"] == painted
    assert run("list", "--search", "春天")["projects"][0]["versions"] == 1
    link = run("share", project, "--days", "3", "--follow", "--address", "https://tea.example/")
    assert link["link"] == f"https://tea.example/share/{link['token']}"
    assert link["share"]["name"] == "Tea house"
    with Studio(load_settings(), FakePool(), planner=planner) as studio:
        said = [{"box": {"left_px": 1, "top_px": 1, "right_px": 9, "bottom_px": 9}, "prompt": "a leaf"}]
        body = ReviewBody(key="key-00000001", record=painted, reviewer="Mei", suggestions=said, approved=True)
        studio.send_review(studio.open_share(link["token"]), body)
    (review,) = run("reviews", project, "--open")["reviews"]
    suggestion = review["suggestions"][0]["id"]
    draft = run("apply", suggestion, "--dry-run", "--strength", "0.9")["request"]
    assert (draft["kind"], draft["prompt"], draft["strength"]) == ("inpaint", "a leaf, 3d", 0.9)
    (result,) = run("apply", suggestion, "--count", "1", "--seed", "5")["records"]
    assert run("apply", suggestion, code=1)["code"] == "conflict"
    shown = run("show", project)
    assert [one["parent"] for one in shown["tree"]["versions"]] == [None, painted]
    assert shown["links"][0]["records"] == [painted, result["id"]]
    assert main.run(["project", "show", project]) == 0
    assert f"  {result['id']}" in capsys.readouterr().out
    assert main.run(["project", "reviews", project]) == 0
    assert "[applied] 1,1 … 9,9: a leaf" in capsys.readouterr().out
    packed = run("export", project, "--language", "zh-Hans")
    assert packed["path"] == "tea-house.zip"
    with zipfile.ZipFile(folder / packed["path"]) as archive:
        assert "tea-house/index.html" in archive.namelist()
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("new", " "), 2, "invalid_request"),
        (("new", "x", "--colour", "red"), 2, "invalid_request"),
        (("new", "x", "--size", "large"), 2, "invalid_request"),
        (("show", "nobody"), 2, "not_found"),
        (("add", "nobody", "x"), 2, "not_found"),
        (("share", "nobody"), 2, "not_found"),
        (("reviews", "nobody"), 2, "not_found"),
        (("apply", "nobody"), 2, "not_found"),
        (("export", "nobody"), 2, "not_found"),
    ],
)
def test_wrong_input_is_told_plainly(run, arguments, code, kind):
    assert run(*arguments, code=code)["code"] == kind
