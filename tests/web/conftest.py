"""The page in a browser: a fake studio behind it, Debian's Chromium before it."""

from __future__ import annotations

import re
import shutil

import pytest
from page_hands import SETTLED, TIMEOUT_MS
from page_projects import serving
from page_serving import listening
from page_share import Link
from page_studio import FakeStudio, build_app, until
from page_tabs import Tabs

from danqing.workers.pool import FakePool

EXPECTED = re.compile(r"Failed to load resource|ERR_FAILED")  # where a test cuts the connection
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--js-flags=--no-maglev --no-turbofan",  # no page lives long enough to gain what compiling it well costs
    "--process-per-site",  # see `page_tabs`
]


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def all_tabs(chromium):
    opened = Tabs(chromium)
    yield opened
    opened.close()


@pytest.fixture
def tabs(all_tabs):
    """Pages of one test."""
    yield all_tabs
    all_tabs.wipe()


class Served:
    """A running page: `studio` behind it, `address` before it."""

    def __init__(self, studio, address):
        self.studio = studio
        self.address = address


@pytest.fixture(scope="module")
def served():
    studio = FakeStudio(step_s=0.01)
    with listening(build_app(studio)) as address:
        yield Served(studio, address)


@pytest.fixture
def open_page(tabs, served):
    """Opens the page; afterwards: no request left this machine, and nothing was wrong in the browser's console."""
    until(lambda: served.studio.idle, "a job of the test before goes on")  # or the page would go on watching it
    wrong = []

    def watch(page):
        page.on("request", lambda r: None if _stays(r.url, served.address) else wrong.append(f"request to {r.url}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)

    def start(width=1280, height=720, locale="en-US", dark=False, touch=False):
        page = tabs.open(viewport={"width": width, "height": height}, locale=locale, dark=dark, has_touch=touch)
        watch(page)
        page.goto(served.address)
        page.wait_for_selector(SETTLED, timeout=2 * TIMEOUT_MS)  # the whole of Gradio is loaded first
        return page

    start.wrong = wrong
    yield start
    tabs.wipe()
    assert wrong == []


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The whole server with a fake painter, for the clients' pages."""
    with serving(tmp_path_factory.mktemp("share"), FakePool()) as (studio, address):
        yield Served(studio, address.rstrip("/"))


@pytest.fixture
def link(house):
    return Link(house)


@pytest.fixture
def open_link(tabs, house):
    """Opens a client's link; afterwards: no request left this machine, nothing was wrong in the browser's console."""
    wrong = []

    def hear(message):
        if message.type == "error" and not EXPECTED.search(message.text):
            wrong.append(message.text)

    def start(link, width=1280, height=720, locale="en-US", touch=False, ready=".board:not(.coming)"):
        size = {"width": width, "height": height}
        # still: colours and places are what they will be
        page = tabs.open(viewport=size, still=True, locale=locale, has_touch=touch, is_mobile=touch)
        page.on("request", lambda r: None if r.url.startswith(house.address) else wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", hear)
        page.goto(link.address)
        page.wait_for_selector(ready)
        return page

    yield start
    tabs.wipe()
    assert wrong == []


def _stays(url, address):
    return url.startswith((address, "data:", "blob:"))
