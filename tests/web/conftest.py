"""The page in a browser: a fake studio behind it, Debian's Chromium before it."""

from __future__ import annotations

import shutil
import socket
import threading

import pytest
from page_hands import SETTLED, TIMEOUT_MS
from page_studio import FakeStudio, build_app, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Served:
    """A running page: `studio` behind it, `address` before it."""

    def __init__(self, studio, address):
        self.studio = studio
        self.address = address


@pytest.fixture(scope="module")
def served():
    import uvicorn

    studio = FakeStudio(step_s=0.03)
    server = uvicorn.Server(uvicorn.Config(build_app(studio), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started, "the server did not start")
        yield Served(studio, f"http://127.0.0.1:{listening.getsockname()[1]}/")
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture
def open_page(chromium, served):
    """Opens the page; afterwards: no request left this machine, and nothing was wrong in the browser's console."""
    until(lambda: served.studio.idle, "a job of the test before goes on")  # or the page would go on watching it
    contexts = []
    wrong = []

    def watch(page):
        page.on("request", lambda r: None if _stays(r.url, served.address) else wrong.append(f"request to {r.url}"))
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type == "error" else None)

    def start(width=1280, height=720, locale="en-US", dark=False, touch=False):
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            locale=locale,
            color_scheme="dark" if dark else "light",
            has_touch=touch,
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        watch(page)
        page.goto(served.address)
        page.wait_for_selector(SETTLED, timeout=2 * TIMEOUT_MS)  # the whole of Gradio is loaded first
        return page

    start.wrong = wrong
    yield start
    for context in contexts:
        context.close()
    assert wrong == []


def _stays(url, address):
    return url.startswith((address, "data:", "blob:"))
