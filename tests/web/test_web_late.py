"""Answers that come late: what was asked for after them is what the page shows."""

from __future__ import annotations

import json

import pytest
from page_hands import drop, newest, paint, png_of, stage_value
from page_held import Held
from page_studio import picture
from playwright.sync_api import expect

from danqing.web.i18n import words

pytestmark = pytest.mark.browser


@pytest.fixture
def two(open_page, served):
    """A page with two finished pictures: the page, the older Record and the newer one."""
    page = open_page()
    found = []
    for brief in ("the older one", "the newer one"):
        paint(page, brief)
        found.append(newest(served))
        page.wait_for_selector(f"[data-id={found[-1].id}]")
    return page, *found


def choose(page, model):
    page.click("#f-model input")
    page.click(f"#f-model li[aria-label^='{model}']")


def thumb(page, record):
    return page.locator(f"[data-id={record.id}] button")


def shown(page):
    return page.evaluate("[window.danqing.stage.view, window.danqing.stage.record?.id ?? null]")


def test_the_picture_asked_for_last_is_looked_at(two):
    page, older, newer = two
    held = Held(page, f"**/web/records/{older.id}?*")
    thumb(page, older).click()
    assert older.id in held.address
    thumb(page, newer).click()
    expect(thumb(page, newer)).to_have_attribute("aria-current", "true")
    held.release()
    assert shown(page) == ["record", newer.id]


def test_a_late_picture_does_not_cover_what_is_painted(two, served):
    page, older, _ = two
    held = Held(page, f"**/web/records/{older.id}?*")
    thumb(page, older).click()
    assert older.id in held.address
    with served.studio.holding(0, 4):
        paint(page, "goes on", wait=False)
        held.release()
        assert shown(page) == ["result", None]
    page.wait_for_selector("body:not(.dq-running)")


def test_deleting_leaves_what_is_looked_at_by_then(two, served):
    page, _, newer = two
    held = Held(page, f"**/web/records/{newer.id}?*", "DELETE")
    page.click("[data-act=delete]")
    assert newer.id in held.address
    with served.studio.holding(0, 4):
        paint(page, "goes on", wait=False)
        held.release()
        expect(thumb(page, newer)).to_have_count(0)
        assert shown(page) == ["result", None]
    page.wait_for_selector("body:not(.dq-running)")


def test_an_enlarged_picture_waits_where_another_one_is_looked_at(two):
    page, older, newer = two
    held = Held(page, "**/web/upscale?*", "POST")
    page.click("[data-act=upscale]")
    assert "upscale" in held.address
    thumb(page, older).click()
    expect(thumb(page, older)).to_have_attribute("aria-current", "true")
    held.release()
    assert shown(page) == ["record", older.id]
    expect(page.locator(".dq-toast")).to_contain_text(f"{newer.width_px * 4} × {newer.height_px * 4}")
    page.click(".dq-toast button")
    expect(page.locator(".dq-loose-bar")).to_be_visible()


def test_a_picture_painted_while_the_list_is_read_stays_in_it(open_page, served):
    page = open_page()
    held = Held(page, "**/web/records?search=*")
    page.focus(".dq-search")
    page.keyboard.press("Enter")
    assert "records" in held.address
    paint(page, "not in the list yet")
    record = newest(served)
    held.release()
    expect(thumb(page, record)).to_have_count(1)


def test_two_pictures_of_one_job_stand_in_their_order(open_page, served):
    page = open_page()
    page.fill("#f-count input", "2")
    held = Held(page, "**/web/records/rec*?lang=*")
    paint(page, "twins")
    assert "records" in held.address
    held.release()
    first, second = list(served.studio.kept.values())[-2:]
    assert first.job_id == second.job_id
    expect(thumb(page, first)).to_have_count(1)
    expect(thumb(page, second)).to_have_count(1)
    order = page.eval_on_selector_all(".dq-thumbs > [data-id]", "(all) => all.map((one) => one.dataset.id)")
    assert order[:2] == [second.id, first.id]


def test_the_language_chosen_last_is_spoken(open_page):
    page = open_page()
    held = Held(page, "**/web/i18n/zh-Hans.json")
    page.select_option(".dq-language", "zh-Hans")
    assert "zh-Hans" in held.address
    page.select_option(".dq-language", "zh-Hant")
    expect(page.locator("#dq-paint")).to_have_text(words("zh-Hant")["paint"])
    held.release()
    assert page.evaluate("document.documentElement.lang") == "zh-Hant"
    expect(page.locator("#dq-paint")).to_have_text(words("zh-Hant")["paint"])


def test_the_form_speaks_the_language_chosen_last(open_page):
    page = open_page()
    held = Held(page, "**/gradio_api/run/**", "POST")
    page.select_option(".dq-language", "zh-Hans")
    assert "gradio" in held.address
    page.select_option(".dq-language", "zh-Hant")
    page.wait_for_function("document.documentElement.lang === 'zh-Hant'")
    held.release()
    expect(page.locator("#dq-paint")).to_have_text(words("zh-Hant")["paint"])


def test_the_header_believes_the_newest_answer(open_page):
    page = open_page()
    held = Held(page, "**/web/status", body=json.dumps({"waiting": 3, "jobs": []}))
    page.evaluate("document.dispatchEvent(new Event('dq:queue'))")
    assert "status" in held.address
    idle = page.inner_text(".dq-queue")
    with page.expect_response("**/web/status"):
        page.evaluate("document.dispatchEvent(new Event('dq:queue'))")
    held.release()
    assert page.inner_text(".dq-queue") == idle  # before it asks again by itself
    assert "3" not in idle


def test_the_picture_dropped_last_is_the_start(open_page):
    page = open_page()
    held = Held(page, "**/web/uploads*", "POST")
    drop(page, png_of(picture("slow", 1, 96, 64)), "start")
    assert "uploads" in held.address
    drop(page, png_of(picture("quick", 1, 64, 96)), "start")
    page.wait_for_function("window.danqing.stage.value.image?.height_px === 96")
    held.release()
    assert stage_value(page)["image"]["height_px"] == 96


def test_a_mask_that_comes_late_stays_with_its_picture(open_page, served):
    page = open_page()
    paint(page, "half")
    page.click("[data-act=inpaint]")
    page.wait_for_selector(".dq-board.masking")
    page.wait_for_function("window.danqing.stage.value.image !== null")
    page.click(".dq-toolbar [data-t-aria='s.invert']")
    assert stage_value(page)["mask"] is not None
    paint(page, "half, again")
    record = newest(served)
    mask = list(served.studio.all_jobs.values())[-1].request.mask.removeprefix("sha256:")
    held = Held(page, f"**/web/uploads/{mask}*")
    thumb(page, record).click()
    page.click("[data-act=all]")
    assert mask in held.address
    drop(page, png_of(picture("other", 1, 96, 64)), "start")
    page.wait_for_function("window.danqing.stage.value.image?.width_px === 96")
    held.release()
    assert stage_value(page)["mask"] is None


def test_the_newest_list_of_projects_stays(open_page):
    page = open_page()
    none, one = (json.dumps({"projects": found}) for found in ([], [{"id": "tea", "name": "Tea house"}]))
    page.route("**/web/joining?*", lambda route: route.fulfill(body=one))
    held = Held(page, "**/web/joining?*", body=none)
    page.evaluate("dispatchEvent(new Event('focus'))")
    assert "joining" in held.address
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator(".dq-joins option")).to_have_count(2)
    held.release()
    expect(page.locator(".dq-joins option")).to_have_count(2)


def test_both_pictures_dropped_in_a_row_set_their_size(open_page):
    page = open_page()
    held = Held(page, "**/gradio_api/run/**", "POST")
    drop(page, png_of(picture("wide", 1, 256, 128)), "start")
    assert "gradio" in held.address
    drop(page, png_of(picture("tall", 1, 128, 256)), "start")
    page.wait_for_function("window.danqing.stage.value.image?.height_px === 256")
    expect(page.locator("#f-height_px input >> nth=0")).not_to_have_value("128")
    width, height = (int(page.input_value(f"#f-{name} input >> nth=0")) for name in ("width_px", "height_px"))
    assert width < height


def test_the_model_chosen_last_fits_the_form(open_page):
    page = open_page()
    page.click("#sec-model > button")
    held = Held(page, "**/gradio_api/run/**", "POST")
    choose(page, "told")
    assert "gradio" in held.address
    choose(page, "danqing-mini")
    held.release()
    expect(page.locator("#f-width_px input >> nth=0")).to_have_value("128")
