"""Routes of the client's page: `/share/{token}` and its files under `/share/static`.

The page is the same for every token and holds nothing of worth: what is behind a link, and whether it opens, its
scripts ask from `/share/{token}/api/…`. The files' address contains a digest of them all; browsers keep them for good.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response

from danqing.web.assets import CANVAS

FILES = Path(__file__).parent / "static"
_HTML = Path(__file__).parent / "page.html"
# The studio's own modules that the page has too; compare.js finds the page's base.js beside it.
SHARED = (CANVAS / "compare.js", CANVAS / "dom.js")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would make some browsers send `Origin: null` with a review
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_PAGE_HEADERS = _SAFE | {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
_FILE_HEADERS = _SAFE | {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "public, max-age=31536000, immutable",
}


def add_share_page(app: FastAPI) -> None:
    """Register the page and its files.

    Args:
        app: The application that is mounted at `/share` (`server.share.create_share_app`).
    """
    static = f"/static/{digest()}"

    for module in SHARED:
        app.add_api_route(f"{static}/{module.name}", partial(_shared, module), include_in_schema=False)

    @app.get("/{token}", include_in_schema=False)
    def page(token: str) -> HTMLResponse:  # noqa: ARG001 (any token: the page asks what is behind it)
        return HTMLResponse(_html(), headers=_PAGE_HEADERS)

    @app.get("/{token}/", include_in_schema=False)
    def slashed(token: str) -> RedirectResponse:  # relative, so that it holds behind a proxy's prefix too
        return RedirectResponse(f"../{quote(token, safe='')}", status_code=308)

    app.mount(static, GZipMiddleware(_Kept(directory=FILES)), name="danqing-share-static")


def _shared(module: Path) -> FileResponse:
    return FileResponse(module, media_type="text/javascript", headers=_FILE_HEADERS)


class _Kept(StaticFiles):
    """Files with the page's headers, to be kept for good."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """The file, or 304 where the browser has it."""
        answer = super().file_response(*args, **kwargs)  # pyright: ignore[reportArgumentType]
        answer.headers.update(_FILE_HEADERS)
        return answer


@cache
def digest() -> str:
    """Sixteen hex digits that change with any of the page's files."""
    total = hashlib.sha256()
    for file in [*sorted(path for path in FILES.rglob("*") if path.is_file()), *SHARED]:
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]


@cache
def _html() -> str:
    """The page: every module is named, so that a phone asks for all of them at once."""
    modules = sorted(path.name for path in [*FILES.glob("*.js"), *SHARED] if path.name != "main.js")
    static = f"static/{digest()}"
    preload = "\n".join(f'<link rel="modulepreload" href="{static}/{name}">' for name in modules)
    html = _HTML.read_text(encoding="utf-8")
    return html.replace("<!--modules-->", preload).replace("{static}", static)
