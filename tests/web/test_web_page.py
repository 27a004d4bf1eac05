"""The Paint page in Chromium: paint, cancel, languages, PNG in, layouts, errors, history."""

from __future__ import annotations

import re

import pytest
from page_hands import BRIEF, SETTLED, drop, late_frames, newest, paint, png_of, start, toast
from page_studio import picture
from playwright.sync_api import expect

from danqing.web.i18n import words

pytestmark = pytest.mark.browser


def test_paints_with_preview_progress_and_history(open_page, served):
    page = open_page()
    before = len(served.studio.records())
    expect(page.locator(".dq-thumb")).to_have_count(before)
    page.fill(BRIEF, "a red apple")
    with served.studio.holding(0, 12):
        start(page, lambda: page.press(BRIEF, "Control+Enter"))
        page.wait_for_selector("body.dq-running")
        assert page.locator("#dq-cancel").is_visible()
        assert not page.locator("#dq-paint").is_visible()
        page.wait_for_function("document.querySelector('.dq-base').src.startsWith('data:image/jpeg')")
        assert re.search(r"step \d+ of 20", page.inner_text(".dq-progress"))
        assert int(page.get_attribute(".dq-progress", "aria-valuenow")) > 0
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    record = newest(served)
    assert record.plan.base.text.prompt == "a red apple"
    page.wait_for_function(f"document.querySelector('.dq-base').src.includes('{record.id}')")
    expect(page.locator(".dq-thumb")).to_have_count(before + 1)
    page.reload()
    page.wait_for_selector(SETTLED)
    expect(page.locator(".dq-thumb")).to_have_count(before + 1)


def test_cancels_and_keeps_what_is_finished(open_page, served):
    page = open_page()
    page.fill("#f-count input", "4")
    with served.studio.holding(2, 4):
        paint(page, "many cats", wait=False)
        page.wait_for_function("document.querySelectorAll('.dq-tile[data-id]:not([data-id=\"\"])').length >= 1")
        page.click("#dq-cancel")
        page.wait_for_selector("body:not(.dq-running)")
    job = list(served.studio.all_jobs.values())[-1]
    assert job.state == "cancelled"
    assert page.locator("#dq-paint").is_visible()
    assert page.input_value(BRIEF) == "many cats"


def test_a_reload_goes_on_watching(open_page, served):
    page = open_page()
    page.fill("#f-count input", "3")
    with served.studio.holding(1, 4):
        paint(page, "three hearts", wait=False)
        page.reload()
        page.wait_for_selector("html.dq-settled body.dq-running")
    page.wait_for_selector("body:not(.dq-running)")


def test_switches_language_without_losing_the_form(open_page):
    page = open_page()
    page.fill(BRIEF, "my brief")
    page.fill("#f-count input", "3")
    page.select_option(".dq-language", "zh-Hant")
    page.wait_for_function("document.querySelector('#dq-paint').textContent.includes('開始繪製')")
    assert page.input_value(BRIEF) == "my brief"
    assert page.input_value("#f-count input") == "3"
    assert page.get_attribute("html", "lang") == "zh-Hant"
    page.select_option(".dq-language", "zh-Hans")
    page.wait_for_function("document.querySelector('#dq-paint').textContent.includes('绘制')")
    page.reload()
    page.wait_for_selector(SETTLED)
    assert "绘制" in page.inner_text("#dq-paint")


@pytest.mark.parametrize(("locale", "language"), [("zh-TW", "zh-Hant"), ("zh-CN", "zh-Hans")])
def test_no_english_is_left_on_a_chinese_page(open_page, locale, language):
    page = open_page(locale=locale)
    paint(page, "圖")
    page.click(".dq-info")
    for name in ("composition", "model", "sampling", "finish"):
        page.click(f"#sec-{name} > button")
    english, chinese = words("en"), words(language)
    translated = {english[key] for key in english if english[key] != chinese[key]}
    shown = page.evaluate(
        """() => {
          const found = [document.title];
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walk.nextNode()) {
            const { data, parentElement } = walk.currentNode;
            if (!['SCRIPT', 'STYLE'].includes(parentElement.tagName)) found.push(data);
          }
          for (const node of document.querySelectorAll('#dq-header *, #dq-main *')) {
            for (const name of ['aria-label', 'title', 'placeholder']) found.push(node.getAttribute(name) ?? '');
          }
          return found.map((text) => text.trim()).filter(Boolean);
        }"""
    )
    assert sorted(set(shown) & translated) == []


def test_a_dropped_png_refills_the_form(open_page, served):
    page = open_page()
    page.fill("#f-width_px input", "160")
    paint(page, "a rocket to refill")
    record = newest(served)
    png = served.studio.picture_bytes(record.picture)
    page.reload()
    page.wait_for_selector(SETTLED)
    drop(page, png, "read")
    page.wait_for_function("document.querySelector('#f-prompt textarea').value === 'a rocket to refill'")
    expect(page.locator("#f-width_px input")).to_have_value("160")
    page.click("#sec-sampling > button")
    expect(page.locator("#f-seed textarea, #f-seed input")).to_have_value(str(record.plan.seeds.seed))


def test_a_dropped_picture_starts_img2img(open_page, served):
    page = open_page()
    drop(page, png_of(picture("outside", 1, 96, 64)), "start")
    page.wait_for_selector("body[data-mode=img2img]")
    page.wait_for_function("window.danqing.stage.value.image?.width_px === 96")
    paint(page, "like this")
    request = list(served.studio.all_jobs.values())[-1].request
    assert request.kind == "img2img"
    assert (request.width_px, request.height_px) == (96, 64)


def test_a_file_that_is_no_picture_is_refused(open_page):
    page = open_page()
    drop(page, b"not a picture", "start")
    said = toast(page)
    assert "PNG" in said or "picture" in said
    open_page.wrong.clear()  # Chromium reports the 415 in its console, as it should


def test_errors_stand_beside_their_field_and_nothing_is_lost(open_page):
    page = open_page(locale="zh-TW")
    page.fill(BRIEF, "keep me")
    for control, value, said in (("width_px", "5", "16"), ("count", "500", "64"), ("seed", "abc", str(2**64 - 1))):
        if control == "seed":
            page.click("#sec-sampling > button")
        field = f"#f-{control} input, #f-{control} textarea"
        page.fill(field, value)
        page.click("#dq-paint")
        page.wait_for_selector(".dq-field-error")
        assert said in page.inner_text(".dq-field-error")
        assert page.get_attribute(field, "aria-invalid") == "true"
        assert page.input_value(BRIEF) == "keep me"
        assert page.input_value(field) == value
        page.fill(field, "64" if control != "count" else "1")
        page.wait_for_selector(".dq-field-error", state="detached")


def test_what_is_typed_at_once_into_an_opened_section_stays(open_page, served):
    """Gradio builds a closed fold when it is opened and, a frame later, writes the first values over what was typed."""
    page = open_page()
    page.fill(BRIEF, "a quick hand")
    late_frames(page)
    page.click("#sec-sampling > button")
    field = "#f-seed input, #f-seed textarea"
    page.fill(field, "4711")
    start(page, lambda: page.press(field, "Control+Enter"))
    assert list(served.studio.all_jobs.values())[-1].request.seed == 4711
    page.evaluate("new Promise((done) => requestAnimationFrame(done))")
    assert page.input_value(field) == "4711"


def test_a_reused_seed_stays(open_page, served):
    page = open_page()
    paint(page, "once more")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    late_frames(page)
    page.evaluate("window.danqing.reuse()")
    field = page.locator("#f-seed input, #f-seed textarea")
    expect(field).to_have_value(str(newest(served).plan.seeds.seed))
    page.evaluate("new Promise((done) => requestAnimationFrame(done))")
    expect(field).to_have_value(str(newest(served).plan.seeds.seed))


def test_asks_for_a_mask_before_it_inpaints(open_page):
    page = open_page(locale="zh-CN")
    page.click("#sec-composition > button")
    page.click("#f-mode label >> nth=2")
    page.wait_for_selector("body[data-mode=inpaint]")
    page.click("#dq-paint")
    page.wait_for_selector(".dq-field-error")
    assert words("zh-Hans")["e.image"] in page.inner_text(".dq-field-error")


def test_delete_can_be_undone(open_page, served):
    page = open_page()
    paint(page, "to be deleted")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    record = newest(served)
    page.click("[data-act=delete]")
    page.wait_for_selector(f"[data-id={record.id}]", state="detached")
    page.click(".dq-toast button")
    page.wait_for_selector(f"[data-id={record.id}]")
    assert served.studio.record(record.id).deleted_at is None


def test_sends_a_picture_to_the_second_pass_and_reuses_its_seed(open_page, served):
    page = open_page()
    paint(page, "enlarge me")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    seed = str(newest(served).plan.seeds.seed)
    page.click("[data-act=hires]")
    page.wait_for_selector("body.on-hires")
    start(page)
    request = list(served.studio.all_jobs.values())[-1].request
    assert request.hires is not None
    assert str(request.seed) == seed


@pytest.mark.parametrize("dark", [False, True])
def test_the_first_screen_fits_1280_by_720_with_contrast_aa(open_page, dark):
    page = open_page(dark=dark)
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate(
        "document.querySelector('#dq-form').scrollHeight <= document.querySelector('#dq-form').clientHeight"
    )
    for selector in ("#dq-paint", "#sec-composition", "#sec-finish", ".dq-board", ".dq-history"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 720, selector
    assert page.locator(".dq-canvas").bounding_box()["width"] >= 0.55 * 1280
    assert page.evaluate("document.body.classList.contains('dark')") is dark
    assert page.evaluate(CONTRAST) == []


def test_works_at_390_px(open_page):
    page = open_page(width=390, height=844, locale="zh-TW", touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paint(page, "行動裝置")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".dq-board").bounding_box()["width"] > 340


CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll('#dq-header *, #dq-main *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true })) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const shown = `${node.tagName}.${node.className} ${node.textContent.trim().slice(0, 30)}`;
    if (ratio < 4.5) low.push(`${shown} ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def test_an_error_unfolds_its_section(open_page):
    page = open_page(locale="zh-CN")
    error = "{field: 'steps', section: 'sampling', text: '太多', original: 'too many', code: 'invalid_request'}"
    page.evaluate(f"window.danqing.stage.refuse({error})")
    page.wait_for_selector("#f-steps .dq-field-error")
    expect(page.locator("#sec-sampling > button")).to_have_attribute("aria-expanded", "true")


def test_the_sampler_says_what_it_does(open_page):
    page = open_page(locale="zh-TW")
    page.click("#sec-sampling > button")
    page.click("#f-sampler input")
    page.click("#f-sampler li[aria-label='Euler a']")
    page.wait_for_function(
        f"document.querySelector('#f-sampler').textContent.includes('{words('zh-Hant')['h.sampler.euler_a']}')"
    )
