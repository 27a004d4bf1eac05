"""The address of a review endpoint, checked before anything is sent. Light, so that the settings can use it."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_url(url: str) -> str:
    """The base address without a slash at its end.

    Raises:
        ValueError: It is no http(s) address with a host, or holds a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine, parts = False, urlsplit("")
    if not fine or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address such as http://127.0.0.1:11434/v1, with no user, query or fragment in it")
    return url.strip().rstrip("/")
