"""The canvas in Chromium: mask, keys, touch, the frame of an extension, its small modules."""

from __future__ import annotations

import io

import pytest
from page_hands import drawn, fingers, mask_of, paint, stage_value, start
from PIL import Image

pytestmark = pytest.mark.browser


def test_paints_a_mask_and_inpaints(open_page, served):
    page = open_page()
    paint(page, "a cake")
    page.click("[data-act=inpaint]")
    page.wait_for_selector(".dq-board.masking")
    page.wait_for_function("window.danqing.stage.value.image !== null")
    drawn(page)
    box = page.locator(".dq-board").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=6)
    page.mouse.up()
    mask = mask_of(page)
    assert mask.size == (128, 128)
    assert mask.getpixel((64, 64)) == 255
    assert mask.getpixel((2, 2)) == 0
    page.click(".dq-toolbar [data-t-aria='s.invert']")
    assert mask_of(page).getpixel((2, 2)) == 255
    page.click(".dq-toolbar [data-t-aria='s.undo']")
    assert mask_of(page).getpixel((2, 2)) == 0
    page.click(".dq-toolbar [data-t-aria='s.clear']")
    assert stage_value(page)["mask"] is None
    page.click(".dq-toolbar [data-t-aria='s.undo']")
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    request = list(served.studio.all_jobs.values())[-1].request
    assert request.kind == "inpaint"
    stored = Image.open(io.BytesIO(served.studio.picture_bytes(request.mask.removeprefix("sha256:"))))
    assert stored.size == (128, 128)
    assert request.parent is not None


def test_the_canvas_by_keyboard(open_page):
    page = open_page()
    paint(page, "a star")
    page.click("[data-act=inpaint]")
    page.wait_for_selector(".dq-board.masking")
    drawn(page)
    page.focus(".dq-board")
    page.keyboard.press("Enter")
    assert mask_of(page).getpixel((64, 64)) == 255
    page.keyboard.press("e")
    page.keyboard.press("Enter")
    assert stage_value(page)["mask"] is None
    page.keyboard.press("Control+z")
    assert stage_value(page)["mask"] is not None
    zoom = page.inner_text(".dq-zoom")
    page.keyboard.press("+")
    assert page.inner_text(".dq-zoom") != zoom
    page.keyboard.press("0")
    assert page.inner_text(".dq-zoom") == zoom


def test_pinching_zooms_and_two_fingers_draw_nothing(open_page):
    page = open_page(width=390, height=844, touch=True)
    paint(page, "pinch")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    page.click("[data-act=inpaint]")
    page.wait_for_selector(".dq-board.masking")
    page.locator(".dq-board").scroll_into_view_if_needed()
    drawn(page)
    before = float(page.inner_text(".dq-zoom").removesuffix("%"))
    box = page.locator(".dq-board").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    send = fingers(page)
    send("touchStart", (x - 20, y))
    send("touchStart", (x - 20, y), (x + 20, y))
    for n in range(1, 6):
        send("touchMove", (x - 20 - 10 * n, y), (x + 20 + 10 * n, y))
    send("touchEnd")
    assert float(page.inner_text(".dq-zoom").removesuffix("%")) > before * 1.5
    assert stage_value(page)["mask"] is None
    page.tap(".dq-board")
    assert stage_value(page)["mask"] is not None


def test_modules_of_the_canvas(open_page):
    page = open_page()
    results = page.evaluate(
        """async () => {
          const { Undo } = await import('/web/canvas/undo.js');
          const undo = new Undo(10);
          for (let n = 0; n < 5; n += 1) undo.push({ data: [n, 0, 0, 0] });
          const kept = undo.past.length;
          const back = undo.back({ data: ['now'] }).data[0];
          const forth = undo.forth({ data: ['then'] }).data[0];
          const { chosenLanguage } = await import('/web/canvas/header.js');
          const wanted = [['zh-TW'], ['zh-Hans-HK'], ['fr', 'zh'], ['fr'], ['en-GB', 'zh']];
          const languages = wanted.map((tags) => chosenLanguage(tags));
          const ratios = [[128, 128], [176, 96], [112, 144], [500, 100]].map(([w, h]) => window.danqing.ratio(w, h));
          return { kept, back, forth, languages, ratios };
        }"""
    )
    assert results == {
        "kept": 2,
        "back": 4,
        "forth": "now",
        "languages": ["zh-Hant", "zh-Hans", "zh-Hans", "en", "en"],
        "ratios": ["1:1", "16:9", "3:4", None],
    }


def test_the_frame_of_an_extension_follows_its_margins(open_page, served):
    page = open_page()
    paint(page, "wider")
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    page.click("[data-act=outpaint]")
    page.wait_for_selector(".dq-frame:not([hidden])")
    page.wait_for_function("document.querySelector('.dq-frame').style.inset === '0px -32px'")
    start(page)
    request = list(served.studio.all_jobs.values())[-1].request
    assert (request.kind, request.margins.left_px, request.strength) == ("outpaint", 32, 1.0)
