"""A page that is one document of our own, outside Gradio: its JavaScript asks the API for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import HTMLResponse

from danqing.web.answers import language_of
from danqing.web.components.header import header_html
from danqing.web.i18n import say
from danqing.web.kept import address

# Nothing of ours is inline, so nothing inline may run.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src {pictures}; connect-src 'self'; "
    "font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_DOCUMENT = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<base href="{base}">
{styles}
<link rel="icon" href="{seal}" type="image/svg+xml">
<script type="module" src="{script}"></script>
</head>
<body>
<div class="gradio-container {classes}"><div>{header}</div><main id="{main}"></main></div>
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """What differs between such pages.

    Attributes:
        title: Key of its title among the words.
        entry: Key of its link in the header.
        script: Folder of its modules (`web.kept.FOLDERS`).
        styles: Names of its style sheets, without `.css`.
        classes: Of the whole.
        main: Id of the element that its JavaScript fills.
        pictures: Where pictures may come from, as the policy says it.
    """

    title: str
    entry: str
    script: str
    styles: tuple[str, ...]
    classes: str
    main: str
    pictures: str = "'self'"

    def answer(self, request: Request, *, base: str) -> HTMLResponse:
        """The document; `base` leads from its address to the studio's root, so that a proxy may put it anywhere."""
        language = language_of(request)
        page = _DOCUMENT.format(
            language=language,
            title=say(language, self.title),
            base=base,
            styles="\n".join(f'<link rel="stylesheet" href="{address(f"static/{name}.css")}">' for name in self.styles),
            seal=address("static/seal.svg"),
            script=address(f"{self.script}/main.js"),
            classes=self.classes,
            header=header_html(self.entry),
            main=self.main,
        )
        policy = _CSP.format(pictures=self.pictures)
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
