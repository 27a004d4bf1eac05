"""The stage: canvas, live progress, results, history and details, in one `gr.HTML` of ours.

Its JavaScript lives in `components/canvas/*.js`. It owns its `value`: `image` (`{"ref", "width_px", "height_px"}` or
None), `mask` (a PNG data URI or None), `kept` (see `web.form`) and `language`. Python speaks to it by the prop
`command` (`say_to_stage`); it speaks to Python by the events `refill`, `picture` and `change`.
"""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

_NUMBERS = itertools.count(1)
_ON_LOAD = """
const names = ['refill', 'picture', 'change'];
import(new URL('web/canvas/main.js', document.baseURI).href)
  .then((module) => module.mount({ element, trigger, props, watch, names }));
"""
EMPTY: dict[str, Any] = {"image": None, "mask": None, "kept": {}, "language": "en"}


def stage() -> gr.HTML:
    """The canvas and everything around it."""
    return gr.HTML(
        EMPTY,
        html_template='<div class="dq-stage-root"></div>',
        js_on_load=_ON_LOAD,
        apply_default_css=False,
        elem_id="dq-stage",
        command={},
    )


def say_to_stage(kind: str, **values: Any) -> dict[str, Any]:
    """An update that hands the stage one command; the number makes two equal commands differ."""
    return gr.update(command={"kind": kind, "number": next(_NUMBERS), **values})
