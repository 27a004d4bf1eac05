"""Drafts without a browser: what is asked for, and that nothing of them stays."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_studio import FakeStudio, until

from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.request import parse_request
from danqing.web.drafts import DRAFTS, SEED, STEPS, draft_of, submit_draft
from danqing.web.routes import add_routes


def test_a_draft_is_one_small_quick_picture():
    request = parse_request(
        {"kind": "txt2img", "prompt": "x", "count": 4, "width_px": 1024, "height_px": 512, "hires": {"scale": 2}}
    )
    draft = draft_of(request, 128)
    assert (draft.count, draft.hires, draft.sampling.steps, draft.seed) == (1, None, STEPS, SEED)
    assert draft.width_px * draft.height_px <= 1.1 * 128**2
    assert draft.width_px > draft.height_px
    assert (draft.prompt, draft.kind) == ("x", "txt2img")
    assert parse_request(draft.model_dump()) == draft  # it is still a Request that is allowed


@pytest.mark.parametrize(("wanted", "steps"), [(None, STEPS), (3, 3), (50, STEPS)])
def test_a_draft_has_never_more_steps_than_the_picture(wanted, steps):
    request = parse_request(
        {"kind": "txt2img", "sampling": {"steps": wanted}, "seed": 9, "width_px": 96, "height_px": 64}
    )
    draft = draft_of(request, 128)
    assert draft.sampling.steps == steps
    assert (draft.seed, draft.width_px, draft.height_px) == (9, 96, 64)


def test_a_finished_draft_is_not_in_the_gallery():
    studio = FakeStudio(step_s=0.001)
    job = submit_draft(studio, draft_of(Txt2ImgRequest(prompt="a sketch"), 128))
    for _ in studio.watch(job.id):
        pass
    until(lambda: all(record.deleted_at for record in studio.kept.values()), "the draft stays")
    assert studio.records() == []
    (record,) = studio.kept.values()
    assert studio.picture_bytes(record.picture)  # the page still shows it


def test_a_page_that_is_loaded_again_does_not_watch_a_draft():
    studio = FakeStudio(step_s=0.2)
    app = FastAPI()
    add_routes(app, studio, upload_max_bytes=20_000)
    job = submit_draft(studio, Txt2ImgRequest(prompt="slow"))
    status = TestClient(app).get("/web/status").json()
    assert (studio.job(job.id).user, status["jobs"], status["waiting"]) == (DRAFTS, [], 1)
    studio.cancel(job.id)
