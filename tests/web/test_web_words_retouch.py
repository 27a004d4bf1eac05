"""Changing a picture by its words and retouching it, in Chromium: the form filled, painted, brought back."""

from __future__ import annotations

import pytest
from page_hands import BRIEF, drop, last_request, newest, paint, png_of, reuse, start, toast
from page_studio import picture
from playwright.sync_api import expect

from danqing.spec.retouch_steps import DetailStep
from danqing.web.i18n import words

pytestmark = pytest.mark.browser


def send(page, to):
    page.wait_for_selector(f"[data-act={to}]")
    page.click(f"[data-act={to}]")
    page.wait_for_selector(f"body[data-mode={to}]")


def test_words_of_a_record_are_changed(open_page, served):
    page = open_page()
    paint(page, "a cat on grass")
    before = newest(served)
    send(page, "words")
    expect(page.locator("#f-source_prompt textarea")).to_have_value("a cat on grass")
    expect(page.locator("#sec-sampling")).to_be_hidden()
    page.fill(BRIEF, "a dog on grass")
    page.locator("#f-cross_share input").fill("0.8")
    page.click("#f-weights .dq-row .dq-act")
    page.fill("[id='f-weights.0.word'] input", "grass")
    page.fill("[id='f-weights.0.weight'] input", "1.8")
    page.click("#f-local .dq-row .dq-act")
    page.fill("[id='f-local.0.source'] input", "cat")
    page.fill("[id='f-local.0.target'] input", "dog")
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    asked = last_request(served)
    assert (asked.kind, asked.image, asked.parent) == ("words", f"record:{before.id}", before.id)
    assert (asked.prompt, asked.source_prompt) == ("a dog on grass", "a cat on grass")
    assert (asked.cross_share, asked.self_share, asked.inversion) == (0.8, 0.6, None)
    assert [(w.word, w.weight) for w in asked.weights] == [("grass", 1.8)]
    assert [(w.source, w.target) for w in asked.local] == [("cat", "dog")]
    assert not asked.model_fields_set & {"seed", "sampling", "guidance", "model", "width_px", "negative_prompt"}
    reuse(page, newest(served))
    expect(page.locator("#f-source_prompt textarea")).to_have_value("a cat on grass")
    expect(page.locator("[id='f-weights.0.weight'] input")).to_have_value("1.8")
    page.click("#f-weights [data-t-aria=remove]")
    assert toast(page).startswith(words("en")["w.removed"])
    page.click(".dq-toast button")
    expect(page.locator("[id='f-weights.0.word'] input")).to_have_value("grass")
    start(page)
    once_more = last_request(served)
    assert (once_more.weights, once_more.local) == (asked.weights, asked.local)
    assert (once_more.cross_share, once_more.source_prompt) == (0.8, "a cat on grass")


def test_words_of_any_picture_with_settings_of_its_own(open_page, served):
    page = open_page(locale="zh-CN")
    page.click("#sec-composition > button")
    page.check("#f-mode input[value=words]", force=True)
    expect(page.locator(".dq-board")).to_contain_text(words("zh-Hans")["s.need.words"])
    drop(page, png_of(picture("any", 1, 100, 80)), "start")
    page.wait_for_selector("#f-as_painted:visible")
    page.uncheck("#f-as_painted input")
    page.click("#sec-sampling > button")
    page.fill("#f-steps input[type=number]", "12")
    page.fill(BRIEF, "a dog")
    page.fill("#f-source_prompt textarea", "a cat")
    page.click(".dq-words-section .dq-expert > summary")
    page.select_option("#f-inversion select", "null_text")
    page.click("#f-weights .dq-row .dq-act")
    page.click("#dq-paint")
    expect(page.locator("[id='f-weights.0.word'] .dq-field-error")).to_contain_text(words("zh-Hans")["e.word.empty"])
    page.click("#f-weights [data-t-aria=remove]")
    expect(page.locator(".dq-field-error")).to_have_count(0)
    start(page)
    asked = last_request(served)
    assert (asked.kind, asked.inversion, asked.sampling.steps) == ("words", "null_text", 12)
    assert (asked.source_prompt, asked.weights, asked.parent) == ("a cat", (), None)
    assert served.studio.picture_bytes(asked.image.removeprefix("sha256:"))


def step(page, place, name):
    return page.locator(f"[id='f-{place}.{name}'] :is(input, textarea, select)")


def test_a_picture_is_retouched_step_by_step(open_page, served):
    page = open_page()
    paint(page, "a portrait")
    before = newest(served)
    send(page, "retouch")
    expect(page.locator("#f-width_px")).to_be_hidden()
    page.click("#dq-paint")
    expect(page.locator("#f-retouch_steps > .dq-field-error")).to_have_text(words("en")["e.steps"])
    for kind in ("upscale", "detail", "cutout"):
        page.click(f"#f-retouch_steps [data-step={kind}]")
    expect(page.locator(".dq-field-error")).to_have_count(0)
    step(page, "retouch_steps", "0.scale").fill("3")
    page.check("[id='f-retouch_steps.0.tiled'] input[type=checkbox]")
    step(page, "retouch_steps", "0.tiled.mode").select_option("tiles")
    step(page, "retouch_steps", "1.detect").fill("apple")
    step(page, "retouch_steps", "1.prompt").fill("a green apple")
    page.click("[id='f-retouch_steps.1'] [data-t-aria='t.up']")
    page.click("[id='f-retouch_steps.0'] summary")
    step(page, "retouch_steps", "0.max_count").fill("2")
    page.click("[id='f-retouch_steps.2'] summary")
    step(page, "retouch_steps", "2.background").fill("red")
    page.click("#dq-paint")
    wrong = page.locator("[id='f-retouch_steps.2.background'] .dq-field-error")
    expect(wrong).to_have_text(words("en")["e.step.colour"])
    step(page, "retouch_steps", "2.background").fill("#ff8800")
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    asked = last_request(served)
    assert (asked.kind, asked.image, asked.prompt) == ("retouch", f"record:{before.id}", "a portrait")
    assert (asked.hires, asked.width_px, asked.finish) == (None, None, ())
    detail, large, cut = asked.steps
    assert (detail.detect, detail.prompt, detail.max_count, detail.strength) == ("apple", "a green apple", 2, 0.4)
    assert (large.scale, large.upscaler, large.tiled.mode, large.tiled.strength) == (3, None, "tiles", 0.3)
    assert (cut.background, cut.trim) == ("#ff8800", False)
    reuse(page, newest(served))
    expect(page.locator("#f-retouch_steps .dq-step-card")).to_have_count(3)
    page.click("[id='f-retouch_steps.1'] [data-t-aria='t.delete']")
    expect(page.locator("#f-retouch_steps .dq-step-card")).to_have_count(2)
    page.click(".dq-toast button")
    start(page)
    assert last_request(served).steps == asked.steps


def test_any_painting_is_finished_by_steps(open_page, served):
    page = open_page(locale="zh-TW", width=390, height=844)
    page.fill(BRIEF, "a boat")
    page.click("#sec-finish > button")
    page.click("#f-finish [data-step=cutout]")
    step(page, "finish", "0.trim").check()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#f-finish [data-step=restore_faces]")
    step(page, "finish", "1.visibility").fill("0.5")
    start(page)
    asked = last_request(served)
    assert (asked.kind, [one.kind for one in asked.finish]) == ("txt2img", ["cutout", "restore_faces"])
    assert (asked.finish[0].trim, asked.finish[1].visibility) == (True, 0.5)


def test_a_detail_has_the_fields_that_users_of_adetailer_know(open_page, served):
    page = open_page(locale="zh-CN")
    page.fill(BRIEF, "a street")
    page.click("#sec-finish > button")
    page.click("#f-finish [data-step=detail]")
    page.click("[id='f-finish.0'] summary")
    start(page)
    assert last_request(served).finish == (DetailStep(),)  # what stands there at first is what the spec has
    step(page, "finish", "0.classes").fill("cat, 狗，bird")
    step(page, "finish", "0.min_area").fill("0.01")
    step(page, "finish", "0.max_area").fill("0.5")
    step(page, "finish", "0.keep").select_option("confidence")
    step(page, "finish", "0.outline").uncheck()
    step(page, "finish", "0.offset_x_px").fill("-12")
    step(page, "finish", "0.offset_y_px").fill("8")
    step(page, "finish", "0.merge").select_option("merge_invert")
    page.wait_for_selector("body:not(.dq-running)")
    start(page)
    asked = DetailStep(
        classes=("cat", "狗", "bird"),
        min_area=0.01,
        max_area=0.5,
        keep="confidence",
        outline=False,
        offset_x_px=-12,
        offset_y_px=8,
        merge="merge_invert",
    )
    assert last_request(served).finish == (asked,)
    page.wait_for_selector("body:not(.dq-running)")
    reuse(page, newest(served))
    expect(step(page, "finish", "0.classes")).to_have_value("cat, 狗, bird")
    expect(step(page, "finish", "0.merge")).to_have_value("merge_invert")
