"""Answers of the server that the page gets when a test says so."""

from __future__ import annotations


class Held:
    """The first answer to an address: taken from the server at once, given to the page when `release` says so."""

    def __init__(self, page, pattern, method="GET", body=None):
        self._page = page
        self._method = method
        self._body = body
        self._route = self._answer = None
        page.route(pattern, self._take)

    def _take(self, route):
        if self._route is not None or route.request.method != self._method:
            route.fallback()
            return
        self._answer = {"body": self._body} if self._body is not None else {"response": route.fetch()}
        self._route = route

    @property
    def address(self):
        """The address, once it was asked for."""
        while self._route is None:
            self._page.wait_for_timeout(20)  # lets the browser's requests through
        return self._route.request.url

    def release(self):
        """Give the answer to the page; returns when the page has done with it what it does."""
        asked = self._route.request
        with self._page.expect_event("requestfinished", lambda request: request == asked):
            self._route.fulfill(**self._answer)
        self._page.evaluate("new Promise((done) => setTimeout(done, 50))")
