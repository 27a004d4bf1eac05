"""The header: name, pages, queue, language, light and dark."""

from __future__ import annotations

import gradio as gr

from danqing.web.i18n import LANGUAGES
from danqing.web.kept import address

_OPTIONS = "".join(f'<option value="{tag}" lang="{tag}">{name}</option>' for tag, name in LANGUAGES.items())
_PAGES = (
    ("nav.paint", ".", "Paint"),
    ("nav.projects", "projects", "Projects"),
    ("nav.training", "training", "Training"),
)
_TEMPLATE = """
<header class="dq-header">
  <h1 class="dq-name"><span lang="zh-Hans" class="dq-seal">丹青</span><span class="dq-latin">Danqing</span></h1>
  <nav class="dq-nav">{pages}</nav>
  <span class="dq-queue" role="status" aria-live="polite"></span>
  <span class="dq-spring"></span>
  <select class="dq-language">{options}</select>
  <button type="button" class="dq-theme dq-icon"></button>
</header>
"""
_ON_LOAD = """
const names = ['language'];
import(new URL('{script}', document.baseURI).href)
  .then((module) => module.mount({{ element, trigger, names }}));
"""


def header_html(page: str) -> str:
    """The header's elements, with the link to this page marked (a key of the page's words, as `nav.paint`)."""
    here = {page: ' aria-current="page"'}
    links = "".join(f'<a href="{to}" data-t="{key}"{here.get(key, "")}>{name}</a>' for key, to, name in _PAGES)
    return _TEMPLATE.format(pages=links, options=_OPTIONS)


def header() -> gr.HTML:
    """Our own header; it fires `language` with the tag that the browser or the person chose."""
    script = _ON_LOAD.format(script=address("canvas/header.js"))
    return gr.HTML(
        "", html_template=header_html("nav.paint"), js_on_load=script, apply_default_css=False, elem_id="dq-header"
    )
