"""The Paint page: its controls, laid out and wired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.web.components.header import header
from danqing.web.components.stage import place, stage
from danqing.web.fields import RATIOS, SECTIONS, Control
from danqing.web.i18n import say
from danqing.web.pages.desk import Desk, Say, Words
from danqing.web.pages.wiring import wire

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_FIRST = "en"
_MODES = ("txt2img", "img2img", "inpaint", "outpaint", "drag", "words", "retouch")


def build(studio: Studio) -> gr.Blocks:
    """The page for this studio."""
    desk = Desk(studio)
    with gr.Blocks(title=say(_FIRST, "app.page"), analytics_enabled=False, fill_width=True) as page:
        desk.header = header()
        with gr.Row(elem_id="dq-main", equal_height=False):
            with gr.Column(elem_id="dq-form", min_width=0):
                _brief(desk)
                _size(desk)
                _actions(desk)
                for name, controls in SECTIONS.items():
                    _section(desk, name, controls)
                _explore(desk)
            desk.stage = stage()
        wire(desk)
    return page


def _brief(desk: Desk) -> None:
    prompt = gr.Textbox(
        label=say(_FIRST, "prompt"),
        placeholder=say(_FIRST, "prompt.placeholder"),
        lines=3,
        max_lines=8,
        elem_id="f-prompt",
        max_length=20_000,
    )
    desk.add("prompt", prompt, lambda t: {"label": t("prompt"), "placeholder": t("prompt.placeholder")})
    negative = gr.Textbox(
        label=say(_FIRST, "negative"),
        placeholder=say(_FIRST, "negative.placeholder"),
        lines=1,
        max_lines=5,
        elem_id="f-negative_prompt",
        max_length=20_000,
    )
    desk.add("negative_prompt", negative, lambda t: {"label": t("negative"), "placeholder": t("negative.placeholder")})
    styles = gr.CheckboxGroup(
        label=say(_FIRST, "styles"),
        choices=desk.style_choices(None, _FIRST),
        elem_id="f-styles",
        elem_classes=["dq-chips"],
        visible=bool(desk.style_choices(None, _FIRST)),
    )
    desk.add("styles", styles, lambda t: {"label": t("styles")})


def _size(desk: Desk) -> None:
    side = desk.default_model().defaults.size_px
    desk.ratio = gr.Radio(
        label=say(_FIRST, "size"),
        choices=list(RATIOS),
        value="1:1",
        elem_id="f-ratio",
        elem_classes=["dq-chips", "dq-ratios"],
    )
    desk.translate(desk.ratio, lambda t: {"label": t("size")})
    with gr.Row(elem_classes=["dq-numbers"]):
        for name, key, value in (("width_px", "width", side), ("height_px", "height", side), ("count", "count", 1)):
            number = gr.Number(
                label=say(_FIRST, key),
                value=value,
                precision=None,
                step=8 if name != "count" else 1,
                elem_id=f"f-{name}",
                min_width=0,
            )
            desk.add(name, number, _label_only(key))


def _label_only(key: str) -> Words:
    return lambda t: {"label": t(key)}


def _actions(desk: Desk) -> None:
    with gr.Row(elem_classes=["dq-actions"]):
        desk.paint = gr.Button(say(_FIRST, "paint"), variant="primary", size="lg", elem_id="dq-paint")
        desk.cancel = gr.Button(say(_FIRST, "cancel"), variant="secondary", size="lg", elem_id="dq-cancel")
    desk.translate(desk.paint, lambda t: {"value": t("paint")})
    desk.translate(desk.cancel, lambda t: {"value": t("cancel")})


def _section(desk: Desk, name: str, controls: tuple[Control, ...]) -> None:
    # Open here, folded by `foldSections` in the browser: Gradio builds what is in a closed fold only when it is opened
    # and, one frame later, writes the first values over what has been typed since.
    fold = gr.Accordion(say(_FIRST, f"sec.{name}"), open=True, elem_id=f"sec-{name}", elem_classes=["dq-section"])
    desk.translate(fold, _label_only(f"sec.{name}"))
    with fold:
        if name == "composition":
            _start(desk)
        waiting: list[Control] = []
        for control in controls:
            if control.half:
                waiting.append(control)
                if len(waiting) == 2:
                    with gr.Row(elem_classes=["dq-numbers", *_classes(control)]):
                        for half in waiting:
                            _add(desk, half)
                    waiting.clear()
                continue
            _add(desk, control)
            if control.name == "seed":
                _seed_buttons(desk)
        if name == "composition":
            place("dq-controls")
        if name == "finish":
            place("dq-finish")


def _explore(desk: Desk) -> None:
    """The fold that compares; the stage's JavaScript fills it."""
    fold = gr.Accordion(say(_FIRST, "sec.explore"), open=True, elem_id="sec-explore", elem_classes=["dq-section"])
    desk.translate(fold, _label_only("sec.explore"))
    with fold:
        place("dq-explore")


def _start(desk: Desk) -> None:
    """Where a picture starts from, and the buttons that bring one."""
    mode = gr.Radio(
        label=say(_FIRST, "f.mode"),
        choices=_mode_choices(Say(_FIRST)),
        value="txt2img",
        elem_id="f-mode",
        elem_classes=["dq-chips", "dq-modes"],
    )
    desk.add("mode", mode, lambda t: {"label": t("f.mode"), "choices": _mode_choices(t)})
    with gr.Row(elem_classes=["dq-pair"]):
        desk.choose = gr.Button(say(_FIRST, "choose"), size="sm", elem_id="dq-choose", min_width=0)
        desk.read = gr.Button(say(_FIRST, "read"), size="sm", elem_id="dq-read", min_width=0)
    desk.translate(desk.choose, lambda t: {"value": t("choose")})
    desk.translate(desk.read, lambda t: {"value": t("read")})


def _mode_choices(t: Say) -> list[tuple[str, str]]:
    return [(t(f"o.mode.{mode}"), mode) for mode in _MODES]


def _seed_buttons(desk: Desk) -> None:
    with gr.Row(elem_classes=["dq-pair"]):
        desk.dice = gr.Button(say(_FIRST, "dice"), size="sm", elem_id="dq-dice", min_width=0)
        desk.reuse = gr.Button(say(_FIRST, "reuse"), size="sm", elem_id="dq-reuse", min_width=0)
    desk.translate(desk.dice, lambda t: {"value": t("dice")})
    desk.translate(desk.reuse, lambda t: {"value": t("reuse")})


def _classes(control: Control) -> list[str]:
    classes = ["dq-only", *(f"m-{mode}" for mode in control.modes)] if control.modes else []
    return classes + ([f"need-{control.needs}"] if control.needs else [])


def _add(desk: Desk, control: Control) -> None:
    value = desk.first_value(control)
    common: dict[str, Any] = {
        "label": control.label(_FIRST),
        "info": None if control.half else control.tip(_FIRST),
        "elem_id": f"f-{control.name}",
        "elem_classes": _classes(control),
        "value": value,
    }
    words = _words_of(control)
    if control.kind == "slider":
        desk.add(control.name, gr.Slider(control.low, control.high, step=control.step, buttons=[], **common), words)
    elif control.is_optional_number:  # Gradio's Number turns an empty value into 0 as soon as it is shown
        common["value"] = ""
        number = gr.Textbox(lines=1, max_lines=1, max_length=32, placeholder=say(_FIRST, "auto"), **common)
        desk.add(control.name, number, words)
    elif control.kind == "number":
        desk.add(control.name, gr.Number(step=control.step, precision=None, min_width=0, **common), words)
    elif control.kind == "check":
        desk.add(control.name, gr.Checkbox(**common), words)
    elif control.kind == "radio":
        desk.add(control.name, gr.Radio(choices=control.choices(_FIRST), **common), words)
    elif control.kind == "text":
        lines = 2 if control.name.endswith("prompt") else 1
        desk.add(control.name, gr.Textbox(lines=lines, max_lines=max(lines, 4), **common), words)
    elif control.name == "model":
        choices = desk.model_choices(_FIRST)
        desk.add(control.name, gr.Dropdown(choices=choices, allow_custom_value=True, **common), words)
    elif control.name == "precision":
        choices = desk.precision_choices(None, _FIRST)
        desk.add(control.name, gr.Dropdown(choices=choices, visible=len(choices) > 1, **common), words)
    elif control.name == "hires_upscaler":
        choices = desk.upscaler_choices(control, _FIRST)
        desk.add(control.name, gr.Dropdown(choices=choices, allow_custom_value=True, **common), words)
    else:
        desk.add(control.name, gr.Dropdown(choices=control.choices(_FIRST), **common), words)


def _words_of(control: Control) -> Words:
    def update(t: Say) -> dict[str, Any]:
        words: dict[str, Any] = {"label": t(f"f.{control.name}")}
        if not control.half:
            words["info"] = t(f"f.{control.name}.tip")
        if control.is_optional_number:
            words["placeholder"] = t("auto")
        if control.options:
            words["choices"] = control.choices(t.language)
        return words

    return update
