"""The client's page before a real server: draw by mouse, touch and keys, and send."""

from __future__ import annotations

import pytest
from page_share import RING, SIDE_PX, Fingers, by_mouse, near, on_screen, send, sent, sign, stored, write
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


def test_a_box_and_a_lasso_by_mouse(link, open_link):
    page = open_link(link)
    by_mouse(page, "box", [(8, 10), (30, 34)])
    page.keyboard.type("bigger, with v, b and l")  # the words have the focus; letters choose no tool there
    by_mouse(page, "lasso", RING)
    page.keyboard.insert_text("换成青苹果")
    page.check(".mark:nth-child(2) input[value=whole]")
    page.click(".flag.starred")
    page.fill("#note", "Lovely <b>colours</b>")
    sign(page)
    assert page.locator("[data-tool=lasso][aria-pressed=true]").count() == 1
    send(page)
    sent(page)
    (review,) = link.told()
    box, lasso = review.suggestions
    assert near(box.box, (8, 10, 30, 34))
    assert box.prompt == "bigger, with v, b and l"
    assert (lasso.prompt, lasso.strength, box.strength) == ("换成青苹果", 0.9, 0.6)
    left, top, right, bottom = lasso.bounds
    assert abs(left - 30) <= 2
    assert abs(top - 20) <= 2
    assert abs(right - 56) <= 2
    assert abs(bottom - 50) <= 2
    assert (review.starred, review.picked, review.approved) == (True, False, False)
    assert review.note == "Lovely <b>colours</b>"
    expect(page.locator(".review .text").first).to_have_text("Lovely <b>colours</b>")
    assert stored(page)["outbox"] == []
    assert page.locator(".mark").count() == 0


def test_a_box_and_a_lasso_by_touch_on_a_phone(link, open_link):
    page = open_link(link, width=390, height=844, touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    hand = Fingers(page)
    hand.draw("box", [(10, 12), (20, 20), (36, 40)])
    expect(page.locator(".mark")).to_have_count(1)
    write(page, 1, "greener")
    hand.draw("lasso", RING)
    expect(page.locator(".mark")).to_have_count(2)
    write(page, 2, "更亮")
    hand.draw("box", [(50, 8)])  # a tap
    expect(page.locator(".mark")).to_have_count(3)
    page.tap("button[aria-label=Undo]")
    expect(page.locator(".mark")).to_have_count(2)
    expect(page.locator(".mark:nth-child(2) textarea")).to_have_value("更亮")
    sign(page)
    page.tap(".sendbar .primary")
    sent(page)
    (review,) = link.told()
    assert near(review.suggestions[0].box, (10, 12, 36, 40), by=3)
    assert review.suggestions[1].lasso is not None
    assert [one.prompt for one in review.suggestions] == ["greener", "更亮"]


def test_two_fingers_zoom_and_draw_nothing(link, open_link):
    page = open_link(link, width=390, height=844, touch=True)
    before = page.locator(".world").bounding_box()["width"]
    page.tap("[data-tool=box]")
    Fingers(page).pinch(30, 120)
    page.wait_for_selector(".board.zoomed")
    assert page.locator(".world").bounding_box()["width"] > before * 2
    assert page.locator(".mark").count() == 0


def test_the_wheel_zooms_and_a_mark_drawn_then_is_where_it_was_drawn(link, open_link):
    page = open_link(link)
    page.mouse.move(*on_screen(page, 16, 16))
    page.mouse.wheel(0, -600)
    page.wait_for_selector(".board.zoomed")
    by_mouse(page, "box", [(12, 12), (20, 22)])
    badge = page.locator(".badge").bounding_box()
    x, y = on_screen(page, 12, 12)
    pixel = page.locator(".world").bounding_box()["width"] / SIDE_PX
    assert abs(badge["x"] + badge["width"] / 2 - x) < pixel
    assert abs(badge["y"] + badge["height"] / 2 - y) < pixel
    (mark,) = next(iter(stored(page)["drafts"].values()))["marks"]
    assert abs(mark["box"]["left_px"] - 12) <= 1
    assert abs(mark["box"]["bottom_px"] - 22) <= 1


def test_keys_alone(link, open_link):
    page = open_link(link)
    page.focus(".board")
    page.keyboard.press("Enter")
    expect(page.locator(".badge")).to_be_focused()
    before = next(iter(stored(page)["drafts"].values()))["marks"][0]["box"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    after = next(iter(stored(page)["drafts"].values()))["marks"][0]["box"]
    assert after["left_px"] == before["left_px"] + 1
    assert after["bottom_px"] == before["bottom_px"] + 1
    page.keyboard.press("Enter")
    expect(page.locator(".mark textarea")).to_be_focused()
    page.keyboard.type("more light")
    page.focus(".badge")
    page.keyboard.press("Delete")
    expect(page.locator(".mark")).to_have_count(0)
    expect(page.locator(".board")).to_be_focused()
    page.keyboard.press("Control+z")
    expect(page.locator(".mark textarea")).to_have_value("more light")


def test_a_mark_without_words_and_a_name_are_asked_for(link, open_link):
    page = open_link(link)
    by_mouse(page, "box", [(8, 8), (30, 30)])
    send(page)
    expect(page.locator(".mark .wrong")).to_be_visible()
    expect(page.locator(".mark textarea")).to_be_focused()
    page.keyboard.type("brighter")
    expect(page.locator(".mark .wrong")).to_be_hidden()
    send(page)
    expect(page.locator("#name-wrong")).to_be_visible()
    expect(page.locator("#name")).to_be_focused()
    assert link.reviews == []


def test_a_word_being_composed_is_left_alone(link, open_link):
    page = open_link(link)
    by_mouse(page, "box", [(8, 8), (30, 30)])
    cdp = page.context.new_cdp_session(page)
    cdp.send("Input.imeSetComposition", {"text": "qing", "selectionStart": 4, "selectionEnd": 4})
    link.studio.show_on_share(link.share, [link.paint(seed=8)])
    page.wait_for_selector(".news button")  # the page has drawn itself anew meanwhile
    expect(page.locator(".mark textarea")).to_have_value("qing")
    cdp.send("Input.insertText", {"text": "青"})
    expect(page.locator(".mark textarea")).to_have_value("青")
    expect(page.locator(".mark textarea")).to_be_focused()
