"""The header: name, queue, language, light and dark."""

from __future__ import annotations

import gradio as gr

from danqing.web.i18n import LANGUAGES

_OPTIONS = "".join(f'<option value="{tag}" lang="{tag}">{name}</option>' for tag, name in LANGUAGES.items())
_TEMPLATE = f"""
<header class="dq-header">
  <h1 class="dq-name"><span lang="zh-Hans" class="dq-seal">丹青</span><span class="dq-latin">Danqing</span></h1>
  <span class="dq-queue" role="status" aria-live="polite"></span>
  <span class="dq-spring"></span>
  <select class="dq-language">{_OPTIONS}</select>
  <button type="button" class="dq-theme dq-icon"></button>
</header>
"""
_ON_LOAD = """
const names = ['language'];
import(new URL('web/canvas/header.js', document.baseURI).href)
  .then((module) => module.mount({ element, trigger, names }));
"""


def header() -> gr.HTML:
    """Our own header; it fires `language` with the tag that the browser or the person chose."""
    return gr.HTML("", html_template=_TEMPLATE, js_on_load=_ON_LOAD, apply_default_css=False, elem_id="dq-header")
