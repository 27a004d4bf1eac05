"""How the Paint page names projects, and the document of the Projects page."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.project import Brief
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.web.i18n import say
from danqing.web.joining import add_joining, tie_of
from danqing.web.pages.projects import projects_page
from danqing.workers.pool import FakePool

PAGE = {"X-Danqing": "page"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    settings = load_settings(data_dir=tmp_path_factory.mktemp("joining"))
    with Studio(settings, FakePool()) as studio:
        app = FastAPI()
        add_joining(app, studio)
        app.include_router(projects_page())
        yield studio, TestClient(app)


def paint(studio, prompt, tie=None):
    job = studio.submit(Txt2ImgRequest(prompt=prompt, seed=1), tie=tie)
    return studio.wait(job.id, timeout_s=60).records[0]


def test_lists_projects_and_tells_a_brief(opened):
    studio, client = opened
    made = studio.create_project("Tea", Brief(words="a tea house"))
    assert {"id": made.id, "name": "Tea"} in client.get("/web/joining").json()["projects"]
    assert client.get(f"/web/joining/{made.id}").json()["words"] == "a tea house"
    gone = client.get("/web/joining/nothing?lang=zh-Hans")
    assert (gone.status_code, gone.json()["text"]) == (404, say("zh-Hans", "e.code.not_found"))
    studio.delete_project(made.id)
    assert made.id not in [one["id"] for one in client.get("/web/joining").json()["projects"]]


def test_adds_a_picture_to_a_project_or_a_new_one(opened):
    studio, client = opened
    record = paint(studio, "a red apple\non paper")
    made = studio.create_project("Apples")
    assert client.post(f"/web/joining/{made.id}/{record}").status_code == 403
    assert client.post(f"/web/joining/{made.id}/{record}", headers=PAGE).json()["name"] == "Apples"
    new = client.post(f"/web/joining/new/{record}", headers=PAGE).json()
    assert new["name"] == "a red apple on paper"
    assert all([v.record for v in studio.version_tree(one).versions] == [record] for one in (made.id, new["id"]))
    assert client.post(f"/web/joining/{made.id}/nothing", headers=PAGE).status_code == 404


def test_adds_a_picture_to_a_training_set_or_a_new_one(opened):
    studio, client = opened
    record = paint(studio, "a (green:1.2) pear/apple")
    studio.training_sets.create("Fruit")
    assert "Fruit" in client.get("/web/joining").json()["sets"]
    place = f"/web/joining/set/{record}"
    assert client.post(place, params={"name": "Fruit"}).status_code == 403
    told = [client.post(place, params={"name": "Fruit"}, headers=PAGE).json() for _ in range(2)]
    assert told == [{"name": "Fruit", "added": True}, {"name": "Fruit", "added": False}]
    new = [client.post(place, headers=PAGE).json()["name"] for _ in range(2)]
    assert new == ["a green pear apple", "a green pear apple 2"]
    assert [one.caption for one in studio.training_sets.get(new[1]).pictures] == ["a green pear/apple"]
    gone = client.post(place, params={"name": "No such"}, headers=PAGE)
    assert (gone.status_code, "no training set of this name" in gone.json()["text"]) == (404, True)
    assert client.post("/web/joining/set/nothing", headers=PAGE).status_code == 404


def test_new_pictures_join_the_project_of_the_page(opened):
    studio, _ = opened
    made = studio.create_project("Joined")
    assert tie_of(None) is tie_of({"project": ""}) is None
    record = paint(studio, "a pear", tie_of({"project": made.id}))
    assert [version.record for version in studio.version_tree(made.id).versions] == [record]


@pytest.mark.parametrize(("path", "base"), [("projects", "./"), ("projects/", "../"), ("projects/01K", "../")])
def test_the_document_carries_nothing_inline(opened, path, base):
    answer = opened[1].get(f"/{path}", headers={"Accept-Language": "zh-TW"})
    assert f'<base href="{base}">' in answer.text
    assert '<html lang="zh-Hant">' in answer.text
    assert re.search(r'<a href="projects"[^>]* aria-current="page"', answer.text)
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", answer.text) == []
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
