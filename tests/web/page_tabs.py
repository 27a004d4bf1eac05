"""Pages in Chromium for the tests: each alone as in a browser just started, without starting one for each.

Loading the page is what these tests wait for most. Pages with the same language and screen share a context, and with
it the files and the compiled scripts that the browser keeps; what a site can store is wiped after each test.

A page that closes takes out of its process's memory what it had loaded; a page that goes elsewhere leaves it there for
five minutes. Taken from memory, a file costs no request: a load takes half of the processor time. So pages that a test
is done with show nothing until there are many of them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from page_hands import TIMEOUT_MS

STORED = "cookies,local_storage,indexeddb,cache_storage,service_workers,websql,file_systems,interest_groups"
DESK = {"width": 1280, "height": 720}
LEFT_OPEN = 24


class Tabs:
    """Opens pages; `wipe` closes them and forgets what they stored.

    The browser must run with `--process-per-site`: an empty page in each context keeps its process alive.
    """

    def __init__(self, browser):
        self._browser = browser
        self._rooms = {}
        self._pages = []
        self._left = []

    def open(self, *, viewport=DESK, dark=False, still=False, **options):
        """An empty page; `options` are those of Playwright's context, `still` asks for reduced motion."""
        key = tuple(sorted(options.items()))
        if key not in self._rooms:
            self._rooms[key] = self._room(options)
        page = self._rooms[key].context.new_page()
        self._pages.append((key, page))
        page.set_viewport_size(viewport)
        page.emulate_media(
            color_scheme="dark" if dark else "light", reduced_motion="reduce" if still else "no-preference"
        )
        return page

    def _room(self, options):
        context = self._browser.new_context(viewport=DESK, **options)
        context.set_default_timeout(TIMEOUT_MS)
        return _Room(context)

    def wipe(self):
        """Leave the pages, for good, and forget what their sites stored."""
        origins = {
            (key, urlsplit(page.url)._replace(path="", query="", fragment="").geturl()) for key, page in self._pages
        }
        for _, page in self._pages:
            if not page.is_closed():
                self._leave(page)
        self._pages.clear()
        for key, origin in origins:
            self._rooms[key].forget(origin)
        if len(self._left) > LEFT_OPEN:
            for page in self._left:
                page.close()
            self._left.clear()

    def _leave(self, page):
        """Nothing of the page runs afterwards; what it had loaded stays in memory."""
        page.unroute_all(behavior="ignoreErrors")  # an answer that was never released
        page.goto("about:blank")
        self._left.append(page)

    def close(self):
        """Close everything."""
        for room in self._rooms.values():
            room.context.close()


class _Room:
    """A context with an empty page of the tests' site, so that its process and what was compiled there stay."""

    def __init__(self, context):
        self.context = context
        keeper = context.new_page()
        keeper.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"))
        keeper.goto("http://127.0.0.1/")
        keeper.unroute("**/*")
        self._session = context.new_cdp_session(keeper)

    def forget(self, origin):
        self.context.clear_cookies()
        self.context.clear_permissions()
        self._session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": STORED})
