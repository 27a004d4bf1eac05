"""Exact, fast or draft on the Paint page: chosen beside the steps, asked for, and found again in a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_hands import BRIEF, last_request, newest, paint, reuse, start
from playwright.sync_api import expect

from danqing.web.i18n import words

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("locale", "language"), [("en-US", "en"), ("zh-CN", "zh-Hans"), ("zh-TW", "zh-Hant")])
def test_the_qualities_stand_beside_the_steps_in_every_language(open_page, locale: str, language: str, tmp_path: Path):
    page = open_page(locale=locale)
    page.click("#sec-sampling > button")
    known = words(language)
    field = page.locator("#f-paint_quality")
    expect(field).to_contain_text(known["f.paint_quality"])
    expect(field).to_contain_text(known["f.paint_quality.tip"])
    shown = [one.strip() for one in field.locator("label:has(input)").all_text_contents()]
    assert shown == [known[f"o.paint_quality.{name}"] for name in ("exact", "fast", "draft")]
    steps, quality = (page.locator(f"#f-{name}").bounding_box() for name in ("steps", "paint_quality"))
    assert steps is not None
    assert quality is not None
    assert 0 < quality["y"] - steps["y"] < 260
    field.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / f"quality-{language}.png")


def test_a_chosen_quality_is_asked_for_and_comes_back_with_the_picture(open_page, served):
    page = open_page()
    page.click("#sec-sampling > button")
    page.fill(BRIEF, "a quick apple")
    page.click("#f-paint_quality label:has-text('Draft')")
    start(page, lambda: page.press(BRIEF, "Control+Enter"))
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    assert last_request(served).quality == "draft"
    record = newest(served)
    assert record.plan.quality == "draft"
    assert record.plan.base.shortcuts.cache_interval > 1
    page.click("#f-paint_quality label:has-text('Exact')")
    reuse(page, record)
    expect(page.locator("#f-paint_quality input[value='draft']")).to_be_checked()


def test_left_alone_it_is_exact(open_page, served):
    page = open_page()
    paint(page, "an exact apple")
    assert last_request(served).quality == "exact"
