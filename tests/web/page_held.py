"""Answers of the server that the page gets when a test says so."""

from __future__ import annotations


class Held:
    """The first answer to an address: taken from the server at once, given to the page when `release` says so.

    A POST that is sent twice, as Gradio does on a choice in a list when the machine is slow, is held twice.
    """

    def __init__(self, page, pattern, method="GET", body=None):
        self._page = page
        self._method = method
        self._body = body
        self._asked = self._route = self._answer = None
        self._twins = []
        page.route(pattern, self._take)

    def _take(self, route):
        asked = route.request
        if self._asked is None and asked.method == self._method:
            self._asked = asked  # before the answer is fetched: the next request may come meanwhile
            # a kept-alive connection may be closed by the server while it is taken: that is asked again
            fetched = {"body": self._body} if self._body is not None else {"response": route.fetch(max_retries=3)}
            self._answer = fetched
            self._route = route
        elif self._asked is not None and self._is_twin(asked):
            self._twins.append(route)
        else:
            route.fallback()

    def _is_twin(self, asked):
        return asked.method == self._method == "POST" and asked.post_data == self._asked.post_data

    @property
    def address(self):
        """The address, once it was asked for."""
        while self._route is None:
            self._page.wait_for_timeout(20)  # lets the browser's requests through
        return self._route.request.url

    def release(self):
        """Give the answer to the page; returns when the page has done with it what it does."""
        with self._page.expect_event("requestfinished", lambda request: request == self._asked):
            self._route.fulfill(**self._answer)
        for twin in self._twins:
            twin.fulfill(**self._answer)
        self._page.evaluate("new Promise((done) => setTimeout(done, 50))")
