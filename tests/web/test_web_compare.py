"""Before and after in Chromium: the divider by pointer and keys, the difference, and the module on its own."""

from __future__ import annotations

import pytest
from page_hands import drawn, paint, png_of, start
from page_studio import picture
from playwright.sync_api import expect

from danqing.web.i18n import words

pytestmark = pytest.mark.browser
HANDLE = ".dq-compare-handle"


def value(page):
    return int(page.get_attribute(HANDLE, "aria-valuenow"))


def revised(page):
    """A picture painted over another one is on the canvas."""
    paint(page, "before")
    page.wait_for_selector("[data-act=img2img]")
    assert not page.locator("[data-act=compare]").is_visible()  # it revises nothing
    page.click("[data-act=img2img]")
    page.wait_for_function("window.danqing.stage.value.image !== null")
    page.fill("#f-prompt textarea", "after")
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    page.click("[data-act=compare]")
    page.wait_for_selector(HANDLE)
    drawn(page)


def test_a_divider_wipes_between_before_and_after(open_page):
    page = open_page(locale="zh-TW")
    revised(page)
    expect(page.locator(".dq-compare-word.left")).to_have_text(words("zh-Hant")["v.before"])
    assert value(page) == 50
    box = page.locator(".dq-compare").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    page.mouse.up()
    assert abs(value(page) - 80) <= 1
    page.focus(HANDLE)
    page.keyboard.press("Home")
    assert value(page) == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert value(page) == 6
    page.keyboard.press("End")
    assert value(page) == 100
    zoom = page.inner_text(".dq-zoom")
    page.click(".dq-zooms [data-t-aria='s.zoom.in']")
    assert page.inner_text(".dq-zoom") != zoom
    page.click("[data-compare=difference]")
    expect(page.locator(".dq-compare.difference")).to_have_count(1)
    assert not page.locator(HANDLE).is_visible()
    page.click("[data-compare=wipe]")
    assert page.locator(HANDLE).is_visible()
    page.click(".dq-compare-bar [data-t-aria='v.close']")
    expect(page.locator(".dq-compare")).to_have_count(0)
    page.click("[data-act=compare]")
    page.wait_for_selector(HANDLE)
    page.click(".dq-thumb >> nth=-1")  # another picture ends the comparison
    expect(page.locator(".dq-compare")).to_have_count(0)


def test_the_module_on_its_own(open_page, served):
    page = open_page()
    one, two = (served.studio.upload(_png(seed)).sha256 for seed in (1, 2))
    found = page.evaluate(
        """async ([one, two]) => {
          const { insetOf, mount } = await import('/web/canvas/compare.js');
          const host = document.createElement('div');
          host.id = 'host';
          host.style.cssText = 'position: fixed; left: 100px; top: 100px; width: 400px; height: 300px; z-index: 99';
          document.body.append(host);
          const places = { before: `/web/uploads/${one}`, after: `/web/uploads/${two}` };
          const shown = mount(host, { ...places, labels: { before: 'A', after: 'B', handle: 'divider' } });
          window.shown = shown;
          shown.set(130);
          const most = shown.get();
          shown.set(25);
          return { most, words: [...host.querySelectorAll('.dq-compare-word')].map((node) => node.textContent),
            name: host.querySelector('button').getAttribute('aria-label'), inset: insetOf([32, 0, 0, 64], 64, 64) };
        }""",
        [one, two],
    )
    assert found == {"most": 100, "words": ["A", "B"], "name": "divider", "inset": "0% 0% 50% 33.33333333333333%"}
    page.mouse.click(400, 200)  # a press beside the divider moves it there
    assert page.evaluate("Math.round(window.shown.get())") == 75
    page.evaluate("window.shown.destroy()")
    assert page.locator("#host .dq-compare").count() == 0


def _png(seed):
    return png_of(picture("compare", seed, 64, 48))
