"""The stage: canvas, live progress, results, history and details, in one `gr.HTML` of ours.

Its JavaScript lives in `components/canvas/*.js`. It owns its `value`: `image` (`{"ref", "width_px", "height_px"}` or
None), `mask` (a PNG data URI or None), `controls` (ControlUnits as JSON), `drawings` (ref of a map → what was drawn,
so that a pose can be changed again), `likes` (`{"prompts", "mix"}`: image prompts as JSON, and how several are
mixed), `regions` (Regions as JSON, a painted mask as a PNG data URI), `engine` (how they are painted; empty: open),
`points` (DragPoints as JSON), `words` (how words are changed: `web.fields.WORDS`), `kept` (see `web.form`), `project`
(id of the one that new pictures join) and `language`. Python speaks to it by the prop `command` (`say_to_stage`); it
speaks to Python by the events `refill`, `draft`, `explore`, `picture` and `change`. It also fills the places in the
form that `place` makes.
"""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

from danqing.web.fields import SECTIONS
from danqing.web.kept import address

_NUMBERS = itertools.count(1)
_ON_LOAD = """
const names = ['refill', 'draft', 'explore', 'picture', 'change'];
import(new URL('{script}', document.baseURI).href)
  .then((module) => module.mount({{ element, trigger, props, watch, names }}));
"""
EMPTY: dict[str, Any] = {
    "image": None,
    "mask": None,
    "controls": [],
    "drawings": {},
    "likes": {"prompts": [], "mix": "tokens"},
    "regions": [],
    "engine": "",
    "points": [],
    "words": {},
    "retouch_steps": [],
    "finish": [],
    "kept": {},
    "project": "",
    "language": "en",
}


def stage() -> gr.HTML:
    """The canvas and everything around it."""
    return gr.HTML(
        EMPTY,
        html_template=f'<div class="dq-stage-root" data-sections="{" ".join((*SECTIONS, "explore"))}"></div>',
        js_on_load=_ON_LOAD.format(script=address("canvas/main.js")),
        apply_default_css=False,
        elem_id="dq-stage",
        command={},
    )


def place(name: str) -> gr.HTML:
    """An empty place in the form that the stage's JavaScript fills, with this id."""
    return gr.HTML(html_template="<div></div>", apply_default_css=False, elem_id=name)


def say_to_stage(kind: str, **values: Any) -> dict[str, Any]:
    """An update that hands the stage one command; the number makes two equal commands differ."""
    return gr.update(command={"kind": kind, "number": next(_NUMBERS), **values})
