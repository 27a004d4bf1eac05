"""Regions in Chromium: boxes, a lasso, areas; moved, resized, snapped, undone; their cards, errors and way back."""

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
BOARD = ".dq-board[data-editing=region]"
WORDS = ".dq-region-words"
CARD = ".dq-region-card"


def regions(page):
    return stage_value(page)["regions"]


def box(page, index=0):
    found = regions(page)[index]["box"]
    return tuple(found[f"{side}_px"] for side in ("left", "top", "right", "bottom"))


def open_regions(page, tool="box", size=None):
    page.click("#sec-composition > button")
    if size:
        for name, side in zip(("width_px", "height_px"), size, strict=True):
            page.fill(f"#f-{name} input", str(side))
            page.keyboard.press("Tab")
    page.click(f"[data-region-tool={tool}]")
    on_board(page, "region")


def draw(page, start, *ends, say="", hold=None):
    """Draw with the tool in the hand, then write what is to be seen there."""
    before = len(regions(page))
    pull(page, start, *ends, hold=hold)
    page.wait_for_function("(n) => window.danqing.stage.value.regions.length > n", arg=before)
    expect(page.locator(WORDS)).to_be_focused()
    page.keyboard.type(say)


def tool(page, name):
    page.click(f".dq-toolbar [data-tool={name}]")


def area(served, reference):
    data = served.studio.picture_bytes(reference.removeprefix("sha256:"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def test_boxes_over_an_empty_frame_of_the_size_to_be_painted(open_page, served):
    page = open_page()
    open_regions(page, size=(160, 128))
    draw(page, (0.1, 0.1), (0.4, 0.6), say="a red rose")
    assert near(box(page), (16, 13, 64, 77))
    expect(page.locator(f"{CARD} textarea >> nth=0")).to_have_value("a red rose")
    tool(page, "region-box")
    draw(page, (0.6, 0.3), (0.9, 0.8), say="a cactus")
    page.click(f"{CARD} >> nth=1 >> .dq-more > summary")
    page.fill("[id='f-regions.1.negative_prompt'] textarea", "flowers")
    page.locator("[id='f-regions.1.feather_px'] input").fill("20")
    page.fill("#f-prompt textarea", "a garden")
    start(page)
    request = last_request(served)
    assert (request.kind, request.width_px, request.region_engine) == ("txt2img", 160, None)
    rose, cactus = request.regions
    assert (rose.prompt, rose.negative_prompt, rose.feather_px) == ("a red rose", None, 8)
    assert (cactus.prompt, cactus.negative_prompt, cactus.feather_px) == ("a cactus", "flowers", 20)
    assert near(cactus.box.as_tuple(), (96, 38, 144, 102))


def test_a_box_is_chosen_moved_resized_and_deleted(open_page):
    page = open_page()
    open_regions(page)
    draw(page, (0.1, 0.1), (0.3, 0.4), say="one")
    first = box(page)
    pull(page, (0.2, 0.25), (0.5, 0.35), hold="Alt")
    moved = box(page)
    assert near(np.subtract(moved, first), (38, 13, 38, 13))
    pull(page, (moved[2] / 128, moved[3] / 128), (0.9, 0.8), hold="Alt")
    assert near(box(page), (*moved[:2], 115, 102))
    page.click(".dq-region-undo")
    assert box(page) == moved
    page.click(".dq-region-redo")
    assert near(box(page), (*moved[:2], 115, 102))
    page.mouse.click(*place(page, 0.05, 0.95))
    expect(page.locator(".dq-region.selected")).to_have_count(0)
    page.mouse.click(*place(page, 0.7, 0.6))
    expect(page.locator(".dq-region.selected")).to_have_count(1)
    page.focus(".dq-board")
    page.keyboard.press("Delete")
    assert regions(page) == []
    page.keyboard.press("Control+z")
    assert regions(page)[0]["prompt"] == "one"
    expect(page.locator(CARD)).to_have_count(1)


def test_edges_snap_and_alt_lets_them_go(open_page):
    page = open_page()
    open_regions(page)
    pull_to = (0.507, 0.4)
    page.mouse.move(*place(page, 0.008, 0.1))
    page.mouse.down()
    page.mouse.move(*place(page, *pull_to), steps=5)
    expect(page.locator(".dq-guide.x")).to_have_count(2)
    page.mouse.up()
    expect(page.locator(".dq-guide")).to_have_count(0)
    page.keyboard.type("left")
    left, _, right, _ = box(page)
    assert (left, right) == (0, 64)
    tool(page, "region-box")
    draw(page, (0.51, 0.7), (0.8, 0.9), say="right")
    assert box(page, 1)[0] == 64  # to the other's edge, which is the middle too
    pull(page, (0.65, 0.8), (0.66, 0.8), hold="Alt")
    assert box(page, 1)[0] == 65


def test_a_lasso_and_a_brush_send_areas_as_pictures(open_page, served):
    page = open_page()
    open_regions(page, "lasso")
    draw(page, (0.1, 0.1), (0.45, 0.1), (0.45, 0.45), (0.1, 0.45), say="a pond")
    tool(page, "region-brush")
    page.mouse.click(*place(page, 0.05, 0.95))  # goes to the chosen area
    page.wait_for_function("window.danqing.stage.regions.all[0].around.bottom > 0.9")
    page.focus(".dq-board")
    page.keyboard.press("Escape")
    draw(page, (0.6, 0.7), (0.9, 0.7), say="a path")
    tool(page, "region-erase")
    pull(page, (0.9, 0.7), (0.88, 0.7))
    page.fill("#f-prompt textarea", "a park")
    start(page)
    pond, path = last_request(served).regions
    assert (pond.prompt, pond.box, path.prompt) == ("a pond", None, "a path")
    first, second = area(served, pond.mask), area(served, path.mask)
    assert first.shape == second.shape == (128, 128)
    assert (first[40, 40], first[121, 6], first[90, 90]) == (255, 255, 0)
    assert (second[90, 90], second[90, 116], second[40, 40]) == (255, 0, 0)


def test_an_area_is_moved_and_its_undo_brings_every_pixel_back(open_page):
    page = open_page()
    open_regions(page, "lasso")
    draw(page, (0.2, 0.2), (0.5, 0.2), (0.5, 0.5), (0.2, 0.5), say="a hill")
    before = regions(page)[0]["mask"]
    pull(page, (0.35, 0.35), (0.55, 0.55), hold="Alt")
    after = regions(page)[0]["mask"]
    assert after != before
    around = page.evaluate("window.danqing.stage.regions.all[0].around")
    assert near([around[side] * 128 for side in ("left", "top", "right", "bottom")], (51, 51, 90, 90), 3)
    page.focus(".dq-board")
    page.keyboard.press("Control+z")
    assert regions(page)[0]["mask"] == before
    page.keyboard.press("Control+Shift+z")
    assert regions(page)[0]["mask"] == after


def test_regions_by_keyboard(open_page):
    page = open_page()
    open_regions(page)
    page.focus(".dq-board")
    page.keyboard.press("Enter")
    assert box(page) == (32, 32, 96, 96)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert box(page) == (33, 40, 97, 104)
    page.keyboard.press("Control+ArrowLeft")
    assert box(page) == (33, 40, 96, 104)
    page.keyboard.press("Enter")
    expect(page.locator(WORDS)).to_be_focused()
    page.keyboard.type("words")
    page.keyboard.press("Enter")
    expect(page.locator(".dq-board")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".dq-region.selected")).to_have_count(0)
    page.keyboard.press("Enter")
    page.keyboard.press("PageUp")
    expect(page.locator(".dq-region.selected")).to_have_attribute("data-index", "0")
    expect(page.locator(".dq-region-bar [role=status]")).to_contain_text("33")


def test_zoom_and_pan_leave_boxes_where_they_are(open_page):
    page = open_page()
    open_regions(page)
    draw(page, (0.2, 0.2), (0.6, 0.6), say="still")
    before = box(page)
    page.mouse.move(*place(page, 0.4, 0.4))
    page.mouse.wheel(0, -300)
    page.focus(".dq-board")
    zoom = page.inner_text(".dq-zoom")
    page.keyboard.press("+")
    assert page.inner_text(".dq-zoom") != zoom
    page.keyboard.down("Space")
    pull(page, (0.4, 0.4), (0.45, 0.4))
    page.keyboard.up("Space")
    assert box(page) == before
    page.keyboard.press("Escape")
    tool(page, "region-box")
    pull(page, (0.3, 0.3), (0.5, 0.5), hold="Alt")
    page.wait_for_function("window.danqing.stage.value.regions.length === 2")
    assert near(box(page, 1), (38, 38, 64, 64))


def test_touch_draws_under_late_frames_and_a_second_finger_takes_it_back(open_page):
    page = open_page(width=390, height=844, touch=True)
    open_regions(page)
    page.locator(".dq-board").scroll_into_view_if_needed()
    drawn(page)
    at = [place(page, share, share) for share in (0.2, 0.4, 0.6)]
    late_frames(page)
    send = fingers(page)
    send("touchStart", at[0])
    send("touchMove", at[1])
    send("touchStart", at[1], at[2])
    send("touchEnd")
    send("touchStart", at[0])
    for spot in at[1:]:
        send("touchMove", spot)
    send("touchEnd")
    page.wait_for_function("window.danqing.stage.value.regions.length > 0")
    assert near(box(page), (26, 26, 77, 77), 3)


def test_regions_lie_on_the_starting_picture_and_follow_its_size(open_page, served):
    page = open_page()
    open_regions(page)
    draw(page, (0.25, 0.25), (0.5, 0.5), say="a bird")
    drop(page, png_of(picture("regions", 1, 256, 64)), "start")
    page.wait_for_selector("body[data-mode=img2img]")  # until then the frame is that of the words
    page.wait_for_function("window.danqing.stage.value.regions[0].box.right_px === 128")
    assert near(box(page), (64, 16, 128, 32), 3)
    page.click(".dq-sides [data-view=regions]")
    page.wait_for_selector(BOARD)
    page.wait_for_function("document.querySelector('.dq-base').naturalWidth === 256")
    start(page)
    request = last_request(served)
    assert request.kind == "img2img"
    assert near(request.regions[0].box.as_tuple(), (64, 16, 128, 32), 3)


def test_reuse_brings_regions_back(open_page, served):
    page = open_page()
    open_regions(page)
    draw(page, (0.1, 0.1), (0.4, 0.6), say="a lamp")
    tool(page, "region-lasso")
    draw(page, (0.6, 0.6), (0.9, 0.6), (0.9, 0.9), say="a chair")
    page.click(".dq-region-section .dq-expert > summary")
    page.select_option("#f-region_engine select", "latent")
    paint(page, "a room")
    asked = last_request(served)
    assert asked.region_engine == "latent"
    page.wait_for_selector(".dq-record-bar:not([hidden])")
    reuse(page, newest(served))
    page.wait_for_function("window.danqing.stage.value.regions.length === 2")
    start(page)
    again = last_request(served)
    assert again.regions == asked.regions  # the area is the same stored picture
    assert again.region_engine == "latent"
    page.wait_for_selector("body:not(.dq-running)")
    page.click(".dq-sides [data-view=regions]")
    page.wait_for_selector(BOARD)
    expect(page.locator(".dq-region")).to_have_count(2)


def test_what_is_wrong_stands_beside_the_region_in_the_language_of_the_page(open_page):
    page = open_page(locale="zh-TW")
    open_regions(page)
    draw(page, (0.1, 0.1), (0.4, 0.6))
    page.click("#dq-paint")
    wrong = page.locator("[id='f-regions.0.prompt'] .dq-field-error")
    expect(wrong).to_contain_text(words("zh-Hant")["e.region.prompt"])
    page.fill("[id='f-regions.0.prompt'] textarea", "x")
    expect(wrong).to_have_count(0)


def test_twelve_are_the_most(open_page):
    page = open_page()
    open_regions(page)
    page.focus(".dq-board")
    for _ in range(12):
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
    assert len(regions(page)) == 12
    page.keyboard.press("Enter")
    expect(page.locator(".dq-toast")).to_contain_text(words("en")["r.full"])
    assert len(regions(page)) == 12
    colours = page.evaluate("new Set(window.danqing.stage.regions.all.map((r) => r.color)).size")
    assert colours == 12


def test_a_region_gets_a_lora_and_a_control_of_its_own(open_page, served):
    page = open_page()
    open_regions(page)
    draw(page, (0.1, 0.1), (0.4, 0.6), say="a red rose")
    page.select_option("#f-region_engine select", "attention", force=True)
    page.click(f"{CARD} .dq-more > summary")
    lora = page.locator(f"{CARD} .dq-region-lora")
    expect(lora.locator("option")).to_have_count(4)  # none, and what fits the model
    expect(lora.locator(".dq-hint")).to_be_hidden()
    lora.locator("select").select_option("ink wash")
    written = page.locator(f"{CARD} textarea >> nth=0")
    expect(written).to_have_value("a red rose, ink wash painting <lora:ink wash:0.8>")
    expect(lora.locator(".dq-hint")).to_be_visible()
    lora.locator("input").fill("0.5")
    page.keyboard.press("Tab")
    expect(written).to_have_value("a red rose, ink wash painting <lora:ink wash:0.5>")
    page.click(".dq-region-control")
    control = "[id='f-regions.0.control']"
    page.fill("#f-prompt textarea", "a garden")
    page.click("#dq-paint")
    error = page.locator("[id='f-regions.0.control.image'] .dq-field-error")
    expect(error).to_be_visible()
    reference = "sha256:" + served.studio.upload(png_of(picture("lines", 1, 64, 64))).sha256
    page.evaluate("(ref) => window.danqing.stage.regions.all[0].card.control.card.setPicture(ref)", reference)
    page.locator(f"{control} input[type=range]").first.fill("0.7")
    start(page)
    request = last_request(served)
    assert request.region_engine is None  # the engine that would let a LoRA act everywhere is let go
    (region,) = request.regions
    assert region.prompt == "a red rose, ink wash painting <lora:ink wash:0.5>"
    assert (region.control.image, region.control.weight) == (reference, 0.7)
    assert region.control.model
    lora.locator("select").select_option("")
    expect(written).to_have_value("a red rose")
    page.click(f"{control} .dq-card-head .dq-icon")
    expect(page.locator(control)).to_have_count(0)
    assert regions(page)[0]["control"] is None
