"""The client's page before a real server: draw by mouse and touch, send, lose the connection, see what comes of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from page_hands import TIMEOUT_MS, drawn
from page_projects import serving
from page_studio import until
from playwright.sync_api import expect

from danqing.spec.project import Brief
from danqing.spec.request import parse_request
from danqing.spec.share import ShareChanges, ShareOrder, Shown
from danqing.store.projects_base import ReviewQuery, Tie
from danqing.workers.pool import FakePool

pytestmark = pytest.mark.browser
FIRST_WORDS, OTHER_WORDS = "spring-2027", "autumn-2027"  # passwords
SIDE_PX = 64  # of the fake painter's pictures
EXPECTED = re.compile(r"Failed to load resource|ERR_FAILED")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("share"), FakePool()) as (studio, address):
        yield SimpleNamespace(studio=studio, address=address.rstrip("/"))


class Link:
    """A project with one version behind a link of its own."""

    def __init__(self, served, **order):
        self.served = served
        self.studio = served.studio
        brief = Brief(words="a poster <b>for spring</b>", palette=("#c8372d",), do=("leave room",))
        self.project = self.studio.create_project("Tea house", brief).id
        self.first = self.paint(seed=3)
        made = self.studio.create_share(self.project, ShareOrder(**{"name": "Drafts", "follow": True, **order}))
        self.share, self.address = made.share.id, f"{served.address}{made.path}"
        self.api = f"{made.path}/api"

    def paint(self, **fields):
        request = parse_request({"prompt": "red apple, 3d", "width_px": SIDE_PX, "height_px": SIDE_PX, **fields})
        job = self.studio.submit(request, tie=Tie(self.project))
        return self.studio.wait(job.id, timeout_s=60).records[0]

    @property
    def reviews(self):
        return self.studio.reviews(ReviewQuery(share=self.share))

    def told(self, count=1):
        until(lambda: len(self.reviews) == count, f"there are not {count} reviews")
        return self.reviews


@pytest.fixture
def link(served):
    return Link(served)


@pytest.fixture
def open_link(chromium, served):
    """Opens a link; afterwards: no request left this machine, and nothing was wrong in the browser's console."""
    contexts, wrong = [], []

    def watch(page):
        page.on("request", lambda r: None if r.url.startswith(served.address) else wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", hear)

    def hear(message):
        if message.type == "error" and not EXPECTED.search(message.text):
            wrong.append(message.text)

    def start(link, width=1280, height=720, locale="en-US", touch=False, ready=".board:not(.coming)"):
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            locale=locale,
            has_touch=touch,
            is_mobile=touch,
            reduced_motion="reduce",  # colours and places are what they will be
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        watch(page)
        page.goto(link.address)
        page.wait_for_selector(ready)
        return page

    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def on_screen(page, x, y):
    """Where a place of the picture is in the window."""
    box = page.locator(".world").bounding_box()
    return box["x"] + x * box["width"] / SIDE_PX, box["y"] + y * box["height"] / SIDE_PX


def by_mouse(page, tool, points):
    page.click(f"[data-tool={tool}]")
    page.mouse.move(*on_screen(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on_screen(page, *point), steps=3)
    page.mouse.up()


class Fingers:
    """Touches as a screen sends them."""

    def __init__(self, page):
        self.page = page
        self.cdp = page.context.new_cdp_session(page)

    def send(self, kind, *places):
        points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
        self.cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def draw(self, tool, points):
        self.page.tap(f"[data-tool={tool}]")
        self.page.evaluate("scrollTo(0, 0)")
        places = [on_screen(self.page, *point) for point in points]
        self.send("touchStart", places[0])
        for place in places[1:]:
            self.send("touchMove", place)
            drawn(self.page)  # a finger is never faster than the screen
        self.send("touchEnd")

    def pinch(self, wide, wider):
        x, y = on_screen(self.page, 32, 32)
        self.send("touchStart", (x - wide, y), (x + wide, y))
        for step in range(1, 6):
            reach = wide + (wider - wide) * step / 5
            self.send("touchMove", (x - reach, y), (x + reach, y))
        self.send("touchEnd")


RING = [(40, 20), (52, 24), (56, 36), (50, 48), (38, 50), (30, 40), (32, 26), (39, 20)]


def near(box, wanted, by=2):
    found = (box.left_px, box.top_px, box.right_px, box.bottom_px)
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


def write(page, number, text):
    page.fill(f".mark:nth-child({number}) textarea", text)


def sign(page, name="Mei"):
    page.fill("#name", name)


def send(page):
    page.click(".sendbar .primary")


def sent(page):
    expect(page.locator(".sendbar .what")).to_contain_text("Sent. Thank you, Mei!")


def stored(page):
    return page.evaluate(
        "JSON.parse(Object.entries(localStorage).find(([name]) => name !== 'danqing.share.theme')?.[1] ?? 'null')"
    )


# --- drawing and sending ----------------------------------------------------------------------------------------------
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


# --- lost connections -------------------------------------------------------------------------------------------------
def test_an_answer_that_is_lost_doubles_nothing(link, open_link):
    page = open_link(link)
    tries = []

    def lose(route):
        tries.append(route.request.post_data)
        if len(tries) > 1:
            route.continue_()
            return
        assert route.fetch().status == 201  # the server has it, and nobody hears of that
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


# --- doors ------------------------------------------------------------------------------------------------------------
def test_a_password(served, open_link):
    link = Link(served, password=FIRST_WORDS, name="For <i>Mei</i>", shown=Shown(brief=True))
    page = open_link(link, ready="#password")
    expect(page.locator("#password")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#password-wrong")).to_contain_text("not the password")
    page.fill("#password", FIRST_WORDS)
    page.keyboard.press("Enter")
    page.wait_for_selector(".board:not(.coming)")
    expect(page.locator(".title")).to_have_text("For <i>Mei</i>")
    page.click(".brief summary")
    expect(page.locator(".brief .text")).to_have_text("a poster <b>for spring</b>")
    link.studio.change_share(link.share, ShareChanges(password=OTHER_WORDS))
    page.wait_for_selector("#password")  # another password: everybody is asked again


def test_an_expired_link(served, open_link):
    link = Link(served, expires_at=datetime.now(UTC) + timedelta(hours=1))
    page = open_link(link)
    by_mouse(page, "box", [(8, 8), (40, 40)])
    write(page, 1, "not sent in time")
    link.studio.change_share(link.share, ShareChanges(expires_at=datetime.now(UTC) + timedelta(seconds=1)))
    expect(page.locator(".gate h1")).to_have_text("This link does not open any more")
    expect(page.locator("#kept")).to_have_value("not sent in time")
    page.reload()
    expect(page.locator(".gate h1")).to_have_text("This link does not open any more")


def test_the_language_of_the_share_then_the_clients_choice(served, open_link):
    link = Link(served, language="zh-Hant")
    page = open_link(link, locale="en-US")
    expect(page.locator(".sendbar .primary")).to_have_text("送出")
    assert page.evaluate("document.documentElement.lang") == "zh-Hant"
    page.select_option(".language", "zh-Hans")
    expect(page.locator(".sendbar .primary")).to_have_text("发送")
    page.click(".theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    expect(page.locator(".sendbar .primary")).to_have_text("发送")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    gone = SimpleNamespace(address=f"{served.address}/share/{'x' * 32}")
    page = open_link(gone, locale="zh-TW", ready=".gate .card")
    expect(page.locator(".gate h1")).to_have_text("這個連結已經打不開了")


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(up).backgroundColor);
      if (a > 0.99) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const style = getComputedStyle(node);
    if (!own || !node.checkVisibility() || node.closest(':disabled, option') || style.opacity < 1) continue;
    const [a, b] = [light(parse(style.color)), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.className || node.tagName}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll('button, a, select, textarea, input, [role=slider]')]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim() || node.labels?.length))
  .map((node) => node.outerHTML)"""


def test_contrast_names_and_size_of_what_is_pressed(served, open_link):
    link = Link(served, shown=Shown(brief=True, prompts=True, labels=True))
    page = open_link(link, width=390, height=844, touch=True)
    Fingers(page).draw("box", [(10, 12), (36, 40)])
    write(page, 1, "greener")
    page.click(".flag.starred")
    for _ in range(2):
        drawn(page)
        assert page.evaluate(CONTRAST) == []
        page.tap(".theme")
    assert page.evaluate(NAMELESS) == []
    small = page.evaluate(
        """() => [...document.querySelectorAll('.bar button, .flag, .thumb, .primary, .plain, .mark > .tool')]
          .filter((node) => node.checkVisibility())
          .filter((node) => Math.min(node.offsetWidth, node.offsetHeight) < 40).map((node) => node.className)"""
    )
    assert small == []
