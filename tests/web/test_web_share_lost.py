"""The client's page when connections are lost and answers come late, and when news of a review arrives."""

from __future__ import annotations

import json

import pytest
from page_held import Held
from page_share import by_mouse, send, sent, sign, stored, write
from page_studio import until
from playwright.sync_api import expect

pytestmark = pytest.mark.browser


# --- lost connections -------------------------------------------------------------------------------------------------
def test_an_answer_that_is_lost_doubles_nothing(link, open_link):
    page = open_link(link)
    tries = []

    def lose(route):
        tries.append(route.request.post_data)
        if len(tries) > 1:
            route.continue_()
            return
        assert route.fetch(max_retries=3).status == 201  # the server has it, and nobody hears of that
        tries[0] = (tries[0], stored(page))
        route.abort()

    page.route("**/api/reviews", lose)
    by_mouse(page, "box", [(8, 8), (30, 30)])
    write(page, 1, "brighter")
    sign(page)
    send(page)
    sent(page)
    (first, kept), again = tries
    assert first == again
    assert kept["outbox"][0]["body"] == json.loads(first)
    assert kept["outbox"][0]["marks"][0]["prompt"] == "brighter"
    (review,) = link.reviews
    assert review.suggestions[0].prompt == "brighter"
    assert page.locator(".review").count() == 1
    assert stored(page)["outbox"] == []


def test_a_page_left_without_connection_sends_later(link, open_link):
    page = open_link(link)
    page.route("**/api/reviews", lambda route: route.abort())
    by_mouse(page, "box", [(8, 8), (30, 30)])
    write(page, 1, "brighter")
    sign(page)
    send(page)
    expect(page.locator(".sendbar .what")).to_contain_text("kept on this device")
    by_mouse(page, "box", [(40, 40), (60, 60)])
    write(page, 1, "and this not yet")
    page.unroute("**/api/reviews")
    page.reload()
    (review,) = link.told()
    assert [one.prompt for one in review.suggestions] == ["brighter"]
    expect(page.locator(".mark textarea")).to_have_value("and this not yet")
    expect(page.locator(".sendbar .what")).to_contain_text("1 remark to send")


def test_what_the_server_refuses_is_a_drawing_again(link, open_link):
    second = link.paint(seed=9)
    link.studio.show_on_share(link.share, [second])
    page = open_link(link)
    page.click(".flag.picked")
    sign(page)
    page.route("**/api/state", lambda route: route.abort())  # the page does not learn that it is hidden
    link.studio.hide_from_share(link.share, second)
    send(page)
    expect(page.locator(".sendbar .what")).to_contain_text("kept on this device")
    page.unroute("**/api/state")
    expect(page.locator(".thumb")).to_have_count(1)
    until(lambda: stored(page)["outbox"] == [], "it was tried for ever")
    assert link.reviews == []


# --- late answers -----------------------------------------------------------------------------------------------------
def test_an_older_state_that_comes_late_hides_no_version(link, open_link):
    page = open_link(link)
    held = Held(page, "**/api/state")
    link.studio.show_on_share(link.share, [link.paint(seed=8)])
    assert "state" in held.address
    link.studio.show_on_share(link.share, [link.paint(seed=9)])
    expect(page.locator(".thumb")).to_have_count(3)
    held.release()
    expect(page.locator(".thumb")).to_have_count(3)


def test_the_language_chosen_last_is_spoken_there_too(link, open_link):
    page = open_link(link)
    held = Held(page, "**/i18n/zh-Hans.json")
    page.select_option(".language", "zh-Hans")
    assert "zh-Hans" in held.address
    page.select_option(".language", "zh-Hant")
    expect(page.locator(".sendbar .primary")).to_have_text("送出")
    held.release()
    expect(page.locator(".sendbar .primary")).to_have_text("送出")
    assert stored(page)["language"] == "zh-Hant"


# --- what comes of it -------------------------------------------------------------------------------------------------
def test_a_new_version_comes_live_and_is_compared(link, open_link):
    page = open_link(link)
    by_mouse(page, "box", [(8, 8), (40, 40)])
    write(page, 1, "green apple")
    sign(page)
    send(page)
    sent(page)
    suggestion = link.told()[0].suggestions[0]
    expect(page.locator(".suggestion .state")).to_have_text("open")
    job = link.studio.apply_suggestion(suggestion.id)
    link.studio.wait(job.id, timeout_s=60)
    expect(page.locator(".news")).to_contain_text("A new version is here: 2")
    expect(page.locator(".suggestion .state")).to_have_text("done")
    expect(page.locator(".thumb .fresh:visible")).to_have_count(1)
    page.get_by_role("button", name="See the new version (2)").click()
    expect(page.locator(".about h1")).to_have_text("Version 2")
    expect(page.locator(".news button")).to_have_count(0)
    page.click(".tool.compare")
    handle = page.get_by_role("slider")
    expect(handle).to_be_focused()
    assert page.locator(".dq-compare-word").all_inner_texts() == ["Version 1", "Version 2"]
    handle.press("ArrowLeft")
    expect(handle).to_have_attribute("aria-valuenow", "45")
    pictures = page.locator(".dq-compare-picture")
    assert pictures.evaluate_all("(all) => all.every((one) => one.complete && one.naturalWidth > 0)")
    page.click(".tool.compare")
    expect(page.locator(".dq-compare")).to_have_count(0)


def test_a_hidden_version_goes_and_a_dismissed_wish_says_so(link, open_link):
    page = open_link(link)
    page.fill("#note", "hm")
    by_mouse(page, "box", [(8, 8), (40, 40)])
    write(page, 1, "blue")
    sign(page)
    send(page)
    sent(page)
    link.studio.set_suggestion(link.told()[0].suggestions[0].id, "dismissed")
    expect(page.locator(".suggestion .state")).to_have_text("not taken up")
    page.get_by_role("button", name="Show where").click()
    expect(page.locator(".overlay .shown")).to_have_count(1)
    link.studio.hide_from_share(link.share, link.first)
    expect(page.locator(".none")).to_be_visible()


def test_an_approval_can_be_undone_before_it_is_sent(link, open_link):
    page = open_link(link)
    sign(page)
    page.click(".flag.approve")
    expect(page.locator(".sendbar .what")).to_contain_text("Approving version 1")
    page.click(".sendbar .undo")
    expect(page.locator(".sendbar .what")).to_have_text("Not approved.")
    assert link.reviews == []
    page.click(".flag.picked")
    page.clock.install()
    page.click(".flag.approve")
    page.clock.run_for(5000)
    assert link.reviews == []
    page.clock.run_for(1500)
    (review,) = link.told()
    assert review.approved
    assert review.picked
    expect(page.locator("p.approved")).to_have_text("Approved by Mei")
    expect(page.locator(".flag.picked")).to_have_attribute("aria-pressed", "true")


def test_who_leaves_has_approved(link, open_link):
    page = open_link(link)
    sign(page)
    page.click(".flag.approve")
    page.goto("about:blank")
    assert link.told()[0].approved
