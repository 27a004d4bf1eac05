"""Pulling places of a picture in Chromium: arrows, pins, what may change, the bend, undo and the way back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from page_hands import (
    drawn,
    drop,
    fingers,
    last_request,
    late_frames,
    near,
    newest,
    on_board,
    paint,
    place,
    png_of,
    pull,
    reuse,
    stage_value,
    start,
)
from page_studio import picture
from PIL import Image
from playwright.sync_api import expect

from danqing.web.i18n import words

pytestmark = pytest.mark.browser
BOARD = ".dq-board[data-editing=drag]"
BENT = "document.querySelector('.dq-bent').style.display === 'block'"


def open_drag(page, name="drag", side=100):
    page.click("#sec-composition > button")
    page.check("#f-mode input[value=drag]", force=True)
    page.wait_for_selector("body[data-mode=drag]")
    drop(page, png_of(picture(name, 1, side, side)), "start")
    page.wait_for_selector(BOARD)
    page.wait_for_function(
        "(side) => { const b = document.querySelector('.dq-base'); return b.complete && b.naturalWidth === side; }",
        arg=side,
    )
    drawn(page)


def points(page):
    return [
        tuple(point[f"{end}_{axis}_px"] for end in ("from", "to") for axis in "xy")
        for point in stage_value(page)["points"]
    ]


def test_pulls_and_pins_are_painted(open_page, served):
    page = open_page()
    open_drag(page)
    expect(page.locator("#f-strength input >> nth=0")).to_have_value("0.7")
    assert not page.locator("#f-width_px").is_visible()
    pull(page, (0.3, 0.3), (0.5, 0.3))
    pull(page, (0.6, 0.6), (0.8, 0.7))
    page.mouse.click(*place(page, 0.2, 0.8))
    expect(page.locator(".dq-arrows .shaft")).to_have_count(2)
    expect(page.locator(".dq-arrows .pin")).to_have_count(1)
    expect(page.locator(".dq-drag-section")).to_contain_text("2")
    page.check("#f-drag_mode input[value=quality]")
    start(page)
    request = last_request(served)
    assert (request.kind, request.mode, request.strength, request.mask) == ("drag", "quality", 0.7, None)
    assert request.width_px is None
    found = [(p.from_x_px, p.from_y_px, p.to_x_px, p.to_y_px) for p in request.points]
    assert near(found[0], (30, 30, 50, 30), 1)
    assert near(found[1], (60, 60, 80, 70), 1)
    assert near(found[2], (20, 80, 20, 80), 1)
    assert found[2][:2] == found[2][2:]


def test_either_end_is_moved_deleted_undone(open_page):
    page = open_page()
    open_drag(page)
    pull(page, (0.3, 0.3), (0.5, 0.5))
    first = points(page)
    pull(page, (0.505, 0.505), (0.7, 0.4))
    assert near(points(page)[0], (30, 30, 70, 40), 1)
    pull(page, (0.305, 0.305), (0.2, 0.6))
    assert near(points(page)[0], (20, 60, 70, 40), 1)
    page.click(".dq-toolbar [data-t-aria='s.undo']")
    page.click(".dq-toolbar [data-t-aria='s.undo']")
    assert points(page) == first
    page.click(".dq-toolbar [data-t-aria='s.redo']")
    assert near(points(page)[0], (30, 30, 70, 40), 1)
    page.mouse.click(*place(page, 0.705, 0.405))  # chooses, does not pin
    assert len(points(page)) == 1
    page.focus(".dq-board")
    page.keyboard.press("Delete")
    assert points(page) == []
    page.keyboard.press("Control+z")
    assert near(points(page)[0], (30, 30, 70, 40), 1)


def test_pulls_by_keyboard(open_page):
    page = open_page()
    open_drag(page)
    page.focus(".dq-board")
    page.keyboard.press("Enter")
    assert points(page) == [(50, 50, 60, 50)]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert points(page) == [(50, 50, 61, 42)]
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowDown")
    assert points(page) == [(50, 51, 61, 42)]
    expect(page.locator(".dq-drag-bar [role=status]")).to_contain_text("50, 51")
    page.keyboard.press("Escape")
    page.keyboard.press("Delete")  # nothing is chosen
    assert len(points(page)) == 1
    page.keyboard.press("PageDown")
    page.keyboard.press("Backspace")
    assert points(page) == []


def test_the_bend_follows_the_pull_and_can_be_hidden(open_page):
    page = open_page()
    open_drag(page)
    page.mouse.move(*place(page, 0.4, 0.5))
    page.mouse.down()
    page.mouse.move(*place(page, 0.6, 0.5), steps=4)
    page.wait_for_function(BENT)
    bent = """() => {
      const base = document.querySelector('.dq-base');
      const canvas = document.querySelector('.dq-bent');
      const flat = new OffscreenCanvas(100, 100).getContext('2d');
      flat.drawImage(base, 0, 0);
      const at = (context, x, y) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
      const now = canvas.getContext('2d');
      return { handle: at(flat, 40, 50), target: at(now, 60, 50), corner: [at(flat, 2, 2), at(now, 2, 2)] };
    }"""
    page.wait_for_function(
        f"(() => {{ const f = ({bent})(); return f.handle.every((c, n) => Math.abs(c - f.target[n]) <= 2); }})()"
    )
    found = page.evaluate(bent)
    assert found["corner"][0] == found["corner"][1]
    page.mouse.up()  # now the studio's own preview takes its place
    page.wait_for_selector(".dq-bent[data-true=true]", state="attached")
    found = page.evaluate(bent)
    assert np.abs(np.subtract(found["target"], found["handle"])).max() < 40
    page.click(".dq-preview-bend")
    page.wait_for_function(f"!({BENT})")
    assert page.get_attribute(".dq-preview-bend", "aria-pressed") == "false"


def test_what_may_change_is_brushed(open_page, served):
    page = open_page()
    open_drag(page)
    pull(page, (0.3, 0.3), (0.4, 0.3))
    page.click(".dq-toolbar [data-tool=brush]")
    pull(page, (0.3, 0.3), (0.5, 0.3))
    assert len(points(page)) == 1
    page.click(".dq-toolbar [data-tool=pull]")
    pull(page, (0.7, 0.8), (0.8, 0.8))
    expect(page.locator(".dq-drag-bar .dq-wrong")).to_have_text(words("en")["e.points.outside"])
    page.click(".dq-toolbar [data-t-aria='s.undo']")
    expect(page.locator(".dq-drag-bar .dq-wrong")).to_be_hidden()
    start(page)
    request = last_request(served)
    data = served.studio.picture_bytes(request.mask.removeprefix("sha256:"))
    mask = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert mask.shape == (100, 100)
    assert (mask[30, 40], mask[90, 90]) == (255, 0)


def test_modules_of_the_bend(open_page):
    page = open_page()
    found = page.evaluate(
        """async () => {
          const { bent } = await import('/web/canvas/warp.js');
          const image = new ImageData(40, 40);
          for (let i = 0; i < 1600; i += 1) image.data.set([i % 251, (i * 7) % 251, 90, 255], i * 4);
          const same = (a, b) => a.data.every((value, n) => value === b.data[n]);
          const still = [{ from: { x: 5, y: 5 }, to: { x: 5, y: 5 } }];
          const moved = [{ from: { x: 10, y: 20 }, to: { x: 20, y: 20 } }];
          const none = new Uint8Array(1600);
          const at = (made, x, y) => [...made.data.slice((y * 40 + x) * 4, (y * 40 + x) * 4 + 3)];
          const made = bent(image, moved, null);
          const pinned = bent(image, [...moved, { from: { x: 24, y: 20 }, to: { x: 24, y: 20 } }], null);
          return { still: same(bent(image, still, null), image), frozen: same(bent(image, moved, none), image),
            target: at(made, 20, 20), handle: at(image, 10, 20), far: at(made, 39, 39), corner: at(image, 39, 39),
            pin: at(pinned, 24, 20), before: at(image, 24, 20) };
        }"""
    )
    assert found["still"] is True
    assert found["frozen"] is True
    assert np.abs(np.subtract(found["target"], found["handle"])).max() <= 2
    assert found["far"] == found["corner"]
    assert np.abs(np.subtract(found["pin"], found["before"])).max() <= 8


def test_reuse_brings_pulls_back(open_page, served):
    page = open_page()
    paint(page, "a swan")
    page.wait_for_selector("[data-act=drag]")
    page.click("[data-act=drag]")
    on_board(page, "drag")
    pull(page, (0.3, 0.3), (0.5, 0.4))
    start(page)
    page.wait_for_selector("body:not(.dq-running)")
    asked = last_request(served)
    assert asked.parent is not None
    reuse(page, newest(served))
    page.wait_for_selector(BOARD)
    page.wait_for_function("window.danqing.stage.value.points.length === 1")
    expect(page.locator(".dq-arrows .shaft")).to_have_count(1)
    start(page)
    assert last_request(served).points == asked.points


def test_without_a_pull_it_says_what_to_do(open_page):
    page = open_page(locale="zh-CN")
    open_drag(page)
    page.click("#dq-paint")
    expect(page.locator("#f-points .dq-field-error")).to_contain_text(words("zh-Hans")["e.points"])
    pull(page, (0.3, 0.3), (0.5, 0.4))
    expect(page.locator(".dq-field-error")).to_have_count(0)


def test_touch_pulls_zooms_and_late_frames_lose_nothing(open_page):
    page = open_page(width=390, height=844, touch=True)
    open_drag(page)
    page.locator(".dq-board").scroll_into_view_if_needed()
    drawn(page)
    late_frames(page)
    send = fingers(page)
    at = [place(page, share, 0.5) for share in (0.3, 0.5, 0.6)]
    send("touchStart", at[0])
    send("touchMove", at[1])
    send("touchMove", at[2])
    send("touchEnd")
    page.wait_for_function("window.danqing.stage.value.points.length === 1")
    assert near(points(page)[0], (30, 50, 60, 50), 2)
    zoom = float(page.inner_text(".dq-zoom").removesuffix("%"))
    (x, y), far = place(page, 0.45, 0.8), 30
    send("touchStart", (x - far, y))
    send("touchStart", (x - far, y), (x + far, y))
    send("touchMove", (x - 3 * far, y), (x + 3 * far, y))
    send("touchEnd")
    assert float(page.inner_text(".dq-zoom").removesuffix("%")) > zoom * 1.5
    assert len(points(page)) == 1
    page.wait_for_function(BENT)
