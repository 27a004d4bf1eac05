"""What happens when a person does something on the Paint page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from danqing.spec.drag import DragRequest
from danqing.spec.errors import BadFileError, DanqingError, UnsupportedError
from danqing.spec.painting import OutpaintRequest
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.spec.request import Request
from danqing.web.components.stage import say_to_stage
from danqing.web.drafts import draft_of, submit_draft
from danqing.web.errors import explain
from danqing.web.exploring import exploring
from danqing.web.fields import CONTROLS, INITS, RATIOS, WORDS, fit_size, size_of_ratio
from danqing.web.form import from_request, to_request
from danqing.web.i18n import LANGUAGES, say
from danqing.web.joining import tie_of
from danqing.web.pages.desk import Desk, Say, no_settings

_MODES = frozenset({"txt2img", *INITS})
_TOGGLES = ("soft", "only_masked", "hires")
_STRENGTH = {
    "outpaint": OutpaintRequest.model_fields["strength"].default,
    "drag": DragRequest.model_fields["strength"].default,
}
_PRIVATE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}


def wire(desk: Desk) -> None:
    """Attach every listener of the page.

    Gradio would refuse a value outside its range in English, in a toast, before our code sees it. `preprocess=False`
    hands every value on as it is: `web.form` checks it, and the error stands beside its field in the page's language.
    """
    raw: dict[str, Any] = {**_PRIVATE, "preprocess": False}
    # Gradio would drop what is chosen while an answer is on its way; asking later, it forgets what an event carries
    newest, each = ({**raw, "trigger_mode": mode} for mode in ("always_last", "multiple"))
    stage, inputs = desk.stage, desk.inputs
    everything = list(inputs.values())
    desk.paint.click(_paint(desk), [stage, *everything], [stage], **raw)
    stage.explore(exploring(desk), [stage, *everything], [stage], **raw)
    stage.draft(_draft(desk), [stage, *everything], [stage], **raw)
    desk.header.language(_speak(desk), [inputs["model"]], [stage, *(c for c, _ in desk.translated)], **each)
    stage.refill(_refill(desk), [stage, inputs["prompt"]], [stage, *everything], **each)
    inputs["mode"].input(_mode, [inputs["mode"]], [inputs["strength"]], **newest)
    sized = [inputs[name] for name in ("mode", "width_px", "height_px")]
    stage.picture(_picture(desk), [inputs["mode"], inputs["model"]], sized, **each)
    desk.ratio.input(_ratio(desk), [desk.ratio, inputs["model"]], sized[1:], **newest)
    fitted = [inputs[name] for name in ("styles", "width_px", "height_px", "steps", "cfg", "precision")]
    chosen = [inputs["model"], desk.ratio, inputs["precision"], stage]
    inputs["model"].input(_model(desk), chosen, fitted, **newest)
    for name in ("sampler", "schedule"):
        inputs[name].change(_hint(name), [inputs[name], stage], [inputs[name]], **raw)
    _wire_browser(desk)


def _language(stage: dict[str, Any] | None) -> str:
    wanted = (stage or {}).get("language", "")
    return wanted if wanted in LANGUAGES else "en"


def _wire_browser(desk: Desk) -> None:
    """Listeners that need no server: the browser does them at once."""
    quiet: dict[str, Any] = {"api_visibility": "private", "queue": False}
    for name in ("mode", "model"):
        js = f"(value) => {{ window.danqing.{name}(value); }}"
        desk.inputs[name].change(None, [desk.inputs[name]], None, js=js, **quiet)
    sides = [desk.inputs["width_px"], desk.inputs["height_px"]]
    for side in sides:
        side.change(None, sides, [desk.ratio], js="(w, h) => window.danqing.ratio(w, h)", **quiet)
    margins = [desk.inputs[name] for name in ("left_px", "right_px", "top_px", "bottom_px")]
    for margin in margins:
        margin.change(None, margins, None, js="(...sides) => { window.danqing.margins(...sides); }", **quiet)
    for name in _TOGGLES:
        js = f"(on) => {{ document.body.classList.toggle('on-{name}', Boolean(on)); }}"
        desk.inputs[name].change(None, [desk.inputs[name]], None, js=js, **quiet)
    careful = "(way) => { document.body.classList.toggle('on-quality', way === 'quality'); }"
    desk.inputs["drag_mode"].change(None, [desk.inputs["drag_mode"]], None, js=careful, **quiet)
    for button, call in (
        (desk.cancel, "cancel"),
        (desk.choose, "choose"),
        (desk.read, "read"),
        (desk.dice, "dice"),
        (desk.reuse, "reuse"),
    ):
        button.click(None, None, None, js=f"() => {{ window.danqing.{call}(); }}", **quiet)


def _paint(desk: Desk) -> Any:
    def paint(stage: dict[str, Any] | None, *values: Any) -> Any:
        try:
            job = desk.studio.submit(to_request(desk.form(values, stage)), tie=tie_of(stage))
        except DanqingError as error:
            return say_to_stage("error", error=explain(error, _language(stage)))
        size = job.plans[0].size
        return say_to_stage("job", id=job.id, count=len(job.plans), size=[size.width_px, size.height_px])

    return paint


def _draft(desk: Desk) -> Any:
    def draft(stage: dict[str, Any] | None, *values: Any) -> Any:
        try:
            form = desk.form(values, stage)
            wanted = draft_of(to_request(form), desk.model(form.model).defaults.size_px)
            job = submit_draft(desk.studio, wanted)
        except DanqingError as error:
            return say_to_stage("draft", error=explain(error, _language(stage)))
        return say_to_stage("draft", id=job.id)

    return draft


def _speak(desk: Desk) -> Any:
    def speak(event: gr.EventData, model: str) -> list[Any]:
        wanted = getattr(event, "tag", "")
        language = wanted if wanted in LANGUAGES else "en"
        t = Say(language)
        updates: list[Any] = []
        for component, words in desk.translated:
            update = words(t)
            if component is desk.inputs["model"]:
                update["choices"] = desk.model_choices(language)
            elif component is desk.inputs["hires_upscaler"]:
                update["choices"] = desk.upscaler_choices(CONTROLS["hires_upscaler"], language)
            elif component is desk.inputs["precision"]:
                update["choices"] = desk.precision_choices(model, language)
            elif component is desk.inputs["styles"]:
                update["choices"] = desk.style_choices(model, language)
            updates.append(gr.update(**update))
        return [say_to_stage("language", tag=language), *updates]

    return speak


def _mode(mode: str) -> float:
    return _STRENGTH.get(mode, 0.75)


def _ratio(desk: Desk) -> Any:
    def ratio(chosen: str, model: str) -> tuple[int, int]:
        return size_of_ratio(chosen, desk.model(model).defaults.size_px)

    return ratio


def _model(desk: Desk) -> Any:
    def model(name: str, ratio: str | None, precision: str, stage: dict[str, Any] | None) -> list[Any]:
        own = desk.model(name).defaults
        width, height = size_of_ratio(ratio if ratio in RATIOS else "1:1", own.size_px)
        language = _language(stage)
        chips = desk.style_choices(name, language)
        formats = desk.precision_choices(name, language)
        kept = precision if precision in {value for _, value in formats} else "auto"
        return [
            gr.update(choices=chips, value=[], visible=bool(chips)),
            width,
            height,
            own.steps,
            own.guidance_scale,
            gr.update(choices=formats, value=kept, visible=len(formats) > 1),
        ]

    return model


def _hint(name: str) -> Any:
    """The tip of a choice says what the chosen one does."""
    find = {"sampler": find_sampler, "schedule": find_schedule}[name]

    def hint(chosen: str, stage: dict[str, Any] | None) -> Any:
        language = _language(stage)
        try:
            key = f"h.{name}.{find(chosen).key}" if chosen else f"f.{name}.tip"
        except DanqingError:
            key = f"f.{name}.tip"
        return gr.update(info=say(language, key))

    return hint


def _picture(desk: Desk) -> Any:
    def picture(event: gr.EventData, mode: str, model: str) -> list[Any]:
        width, height = int(getattr(event, "width_px", 0)), int(getattr(event, "height_px", 0))
        if width <= 0 or height <= 0:
            return [gr.skip(), gr.skip(), gr.skip()]
        fitted = fit_size(width, height, desk.model(model).defaults.size_px)
        return [mode if mode in INITS else "img2img", *fitted]

    return picture


def _refill(desk: Desk) -> Any:
    def refill(event: gr.EventData, stage: dict[str, Any] | None, prompt: str) -> list[Any]:
        language = _language(stage)
        source, to = str(getattr(event, "source", "")), str(getattr(event, "to", "all"))
        try:
            data, width, height = desk.picture(source)
            if to in INITS:
                return _start_from(desk, (source, width, height), to, prompt or "")
            form = from_request(_shown(desk.studio.request_of_picture(data)))
        except BadFileError:
            return [say_to_stage("error", error=no_settings(language)), *desk.updates({})]
        except DanqingError as error:
            return [say_to_stage("error", error=explain(error, language)), *desk.updates({})]
        shown = desk.values(form)
        if to == "hires":
            shown["hires"] = True
        picture, mask = _pictures_of(desk, form.image), form.mask or None
        likes = {"prompts": list(form.image_prompts), "mix": form.image_mix}
        more = {"keep": dict(form.kept), "controls": list(form.controls), "likes": likes, "engine": form.region_engine}
        more |= {"regions": list(form.regions), "points": list(form.points)}
        more |= {"retouch_steps": list(form.retouch_steps), "finish": list(form.finish)}
        more["words"] = {name: getattr(form, name) for name in WORDS}
        size = [shown["width_px"], shown["height_px"]]
        command = say_to_stage("form", image=picture, mask=mask, mode=form.mode, size=size, **more)
        return [command, *desk.updates(shown, language, form.model)]

    return refill


def _shown(request: Request) -> Request:
    """The Request itself, where the form has a mode for its kind.

    Raises:
        UnsupportedError: It has none.
    """
    if request.kind in _MODES:
        return request
    raise UnsupportedError(
        "the form has no mode for this kind of painting",
        field="kind",
        value=request.kind,
        allowed=", ".join(sorted(_MODES)),
        next_step="use the picture as a starting picture",
    )


def _start_from(desk: Desk, picture: tuple[str, int, int], mode: str, prompt: str) -> list[Any]:
    """Take a finished picture as the start of the next one; its brief too, where none is written yet."""
    source, width, height = picture
    model = desk.default_model().defaults.size_px
    fitted = fit_size(width, height, max(model, int((width * height) ** 0.5)))
    changed: dict[str, Any] = {"mode": mode, "width_px": fitted[0], "height_px": fitted[1]}
    changed["strength"] = _STRENGTH.get(mode, 0.75)
    if mode == "outpaint":
        changed["left_px"] = changed["right_px"] = max(32, width // 32 * 8)
    kept: dict[str, Any] = {}
    if source.startswith("record:"):
        record = desk.studio.record(source.removeprefix("record:"))
        kept["parent"] = record.id
        if not prompt.strip():
            changed["prompt"] = record.plan.base.text.prompt
    image = {"ref": source, "width_px": width, "height_px": height}
    shows = {"words": {"source_prompt": _prompt_of(desk, source)}} if mode == "words" else {}
    command = say_to_stage("form", image=image, mask=None, keep=kept, mode=mode, size=list(fitted), **shows)
    return [command, *desk.updates(changed)]


def _prompt_of(desk: Desk, source: str) -> str:
    """What a picture says that it was painted from; empty where it says nothing."""
    try:
        return desk.studio.request_of_picture(desk.picture(source)[0]).prompt
    except DanqingError:
        return ""


def _pictures_of(desk: Desk, ref: str) -> dict[str, Any] | None:
    """Facts of the starting picture; None where there is none or where it is gone."""
    if not ref:
        return None
    try:
        _, width, height = desk.picture(ref)
    except DanqingError:
        return None
    return {"ref": ref, "width_px": width, "height_px": height}
