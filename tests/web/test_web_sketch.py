"""Sketches and their live drafts, settings of annotators, the area of a control, in Chromium."""

from __future__ import annotations

import io

import numpy as np
import pytest
from page_hands import drawn, drop, png_of, stage_value, start, toast
from page_studio import DETAIL, FOREIGN, LINE, picture, until
from PIL import Image
from playwright.sync_api import expect

from danqing.web.drafts import DRAFTS, STEPS
from danqing.web.i18n import words

pytestmark = pytest.mark.browser
CARD = ".dq-cards .dq-card"
DRAFT = "document.querySelector('.dq-draft')?.dataset.record"


@pytest.fixture(autouse=True)
def nets(served):
    served.studio.nets = [LINE, DETAIL, FOREIGN]


def card(page, kind):
    page.click("#sec-composition > button")
    page.click(".dq-add >> nth=0")
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", kind)


def pad(page, button=".dq-draw"):
    page.click(button)
    page.wait_for_selector("dialog[open]")
    drawn(page)


def stroke(page, *places):
    """A line through places given as shares of the board."""
    box = page.locator("dialog .dq-board").bounding_box()
    points = [(box["x"] + box["width"] / 2 + dx * box["height"], box["y"] + dy * box["height"]) for dx, dy in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def close(page):
    page.click("dialog .dq-use")
    page.wait_for_selector("dialog", state="detached")


def stored(served, ref):
    return Image.open(io.BytesIO(served.studio.picture_bytes(ref.removeprefix("sha256:"))))


def jobs(served):
    return list(served.studio.all_jobs.values())


def test_a_sketch_is_scribble_control_white_on_black(open_page, served):
    page = open_page()
    card(page, "scribble_canny")
    pad(page)
    page.uncheck("dialog .dq-check input")
    before = len(jobs(served))
    page.click("dialog .dq-use")
    expect(page.locator("dialog .dq-wrong >> nth=-1")).to_have_text(words("en")["c.sketch.empty"])
    stroke(page, (-0.2, 0.5), (0.2, 0.5))
    stroke(page, (0, 0.3), (0, 0.7))
    page.click("dialog [data-t-aria='s.undo']")
    close(page)
    (unit,) = stage_value(page)["controls"]
    assert (unit["annotator"], unit["model"]) == ("none", LINE.name)
    found = np.asarray(stored(served, unit["image"]).convert("L"))
    assert found.shape == (512, 512)
    assert found[256, 256] == 255
    assert found[200, 256] == found[5, 5] == 0
    assert len(jobs(served)) == before  # without "live" nothing is painted
    pad(page)
    stroke(page, (0, 0.3), (0, 0.7))  # it goes on where it was
    close(page)
    again = np.asarray(stored(served, stage_value(page)["controls"][0]["image"]).convert("L"))
    assert again[256, 220] == again[200, 256] == 255


def test_each_stroke_repaints_a_draft_that_stays_nowhere(open_page, served):
    page = open_page()
    page.fill("#f-prompt textarea", "a live apple")
    page.fill("#f-count input", "3")
    card(page, "draw_sketch")
    pad(page)
    before = {record.id for record in served.studio.records(limit=100)}
    stroke(page, (-0.2, 0.5), (0.2, 0.5))
    first = page.wait_for_function(DRAFT).json_value()
    job = jobs(served)[-1]
    assert (job.user, job.request.count, job.request.sampling.steps) == (DRAFTS, 1, STEPS)
    assert job.request.prompt == "a live apple"
    assert job.request.controls[0].image == stage_value(page)["controls"][0]["image"]
    stroke(page, (0, 0.3), (0, 0.7))
    page.wait_for_function(f"(first) => {{ const id = {DRAFT}; return id && id !== first; }}", arg=first)
    close(page)
    assert {record.id for record in served.studio.records(limit=100)} == before
    assert not page.locator("body.dq-running").count()
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    assert jobs(served)[-1].request.count == 3


def test_a_newer_stroke_cancels_the_draft_before(open_page, served):
    page = open_page()
    card(page, "draw_sketch")
    pad(page)
    with served.studio.holding(0, 2):
        number = len(jobs(served))
        stroke(page, (-0.2, 0.5), (0.2, 0.5))
        page.wait_for_function("window.danqing.stage.controls.cards[0].unit.image?.startsWith('sha256:')")
        until(lambda: len(jobs(served)) == number + 1, "the stroke asked for no draft")
        stroke(page, (0, 0.3), (0, 0.7))
        page.wait_for_function(
            "(id) => fetch(`web/jobs/${id}/events`).then((r) => r.text()).then((s) => s.includes('cancelled'))",
            arg=jobs(served)[number].id,
        )
    page.wait_for_function(DRAFT)
    assert jobs(served)[number].state == "cancelled"
    assert jobs(served)[-1].state == "done"
    page.keyboard.press("Escape")
    assert toast(page).startswith(words("en")["c.easel.dropped"])
    assert stage_value(page)["controls"][0]["image"] == ""  # as before: nothing is drawn


def test_why_there_is_no_draft_stands_beside_the_pad(open_page, served):
    served.studio.nets = [DETAIL]
    page = open_page(locale="zh-TW")
    card(page, "draw_sketch")
    pad(page)
    stroke(page, (-0.2, 0.5), (0.2, 0.5))
    expect(page.locator(".dq-drafts .dq-wrong")).to_have_text(words("zh-Hant")["e.control.model"])
    close(page)


def test_settings_of_an_annotator(open_page, served):
    page = open_page(locale="zh-CN")
    page.wait_for_function("window.danqing.stage.controls.available")
    drop(page, png_of(picture("set", 1, 64, 64)), "control")
    page.wait_for_selector(CARD)
    page.click(f"{CARD} .dq-more > summary")
    low = page.locator("[id='f-controls.0.params.low_threshold']")
    chinese = words("zh-Hans")
    expect(low.locator("span > span")).to_have_text(chinese["c.param.canny.low_threshold"])
    expect(low.locator("output")).to_have_text("100")
    low.locator("input").focus()
    page.keyboard.press("ArrowLeft")
    expect(low.locator("output")).to_have_text("99")
    start(page)
    (unit,) = jobs(served)[-1].request.controls
    assert unit.params == {"low_threshold": 99.0}
    low.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert stage_value(page)["controls"][0]["params"] == {}  # the default is not written down
    page.select_option(f"{CARD} [id='f-controls.0.annotator'] select", "seg_superpixels")
    expect(low).to_have_count(0)
    page.select_option("[id='f-controls.0.params.colors'] select", "mean")
    assert stage_value(page)["controls"][0]["params"] == {"colors": "mean"}
    page.select_option(".dq-language", "en")
    expect(page.locator("[id='f-controls.0.params.superpixels'] span > span")).to_have_text("Superpixels")


def test_the_area_of_a_control(open_page, served):
    page = open_page()
    page.wait_for_function("window.danqing.stage.controls.available")
    drop(page, png_of(picture("area", 1, 64, 64)), "control")
    page.wait_for_selector(CARD)
    page.click(f"{CARD} .dq-more > summary")
    pad(page, ".dq-area")
    stroke(page, (-0.1, 0.5), (0.1, 0.5))
    close(page)
    page.wait_for_selector("[id='f-controls.0.mask'] img")
    start(page)
    (unit,) = jobs(served)[-1].request.controls
    area = np.asarray(stored(served, unit.mask).convert("L"))
    assert (area[256, 256], area[10, 10]) == (255, 0)
    pad(page, ".dq-area")
    page.click("dialog [data-t-aria='s.invert']")
    close(page)
    area = np.asarray(stored(served, stage_value(page)["controls"][0]["mask"]).convert("L"))
    assert (area[256, 256], area[10, 10]) == (0, 255)
    page.click("[id='f-controls.0.mask'] .dq-link")
    assert stage_value(page)["controls"][0]["mask"] is None
