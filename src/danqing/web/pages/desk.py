"""What the page's functions share: its components by name, their words, and values ↔ Form."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from danqing.spec.errors import BadFileError, InvalidRequestError
from danqing.spec.model import ModelInfo
from danqing.spec.registry.families import BUILTIN_MODEL
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule
from danqing.spec.registry.upscalers import find_upscaler
from danqing.studio.precisions import precisions_for
from danqing.web.fields import CONTROLS, WORDS, Control, label
from danqing.web.form import NAMES, Form
from danqing.web.i18n import say, words

if TYPE_CHECKING:
    from danqing.studio.service import Studio

WORD = "word:"
STYLE = "style:"
_OPTIONAL_NUMBERS = tuple(name for name, control in CONTROLS.items() if control.is_optional_number)
_MASKED = ("inpaint", "drag")
_NOT_IN_A_DRAG: dict[str, Any] = {
    "width_px": None,
    "height_px": None,
    "hires": False,
    "controls": (),
    "image_prompts": (),
    "resize_mode": "stretch",
    "colour_correction": False,
}
"""What is not to be seen while a picture is dragged or retouched."""
_MASK_PREFIX = "data:image/png;base64,"


@dataclass(frozen=True)
class Say:
    """Strings of one language, as a function of the key."""

    language: str

    def __call__(self, key: str) -> str:
        """The string of this key."""
        return say(self.language, key)


Words = Callable[[Say], dict[str, Any]]


class Desk:
    """The page's components and the studio behind them."""

    header: gr.HTML
    stage: gr.HTML
    ratio: gr.Radio
    paint: gr.Button
    cancel: gr.Button
    choose: gr.Button
    read: gr.Button
    dice: gr.Button
    reuse: gr.Button

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.inputs: dict[str, Any] = {}
        self.translated: list[tuple[Any, Words]] = []

    def add(self, name: str, component: Any, update: Words) -> None:
        """A component that holds the Form's field `name`."""
        self.inputs[name] = component
        self.translate(component, update)

    def translate(self, component: Any, update: Words) -> None:
        """A component whose words depend on the language."""
        self.translated.append((component, update))

    # models and styles
    def default_model(self) -> ModelInfo:
        """The built-in model's facts, or of the first model there is, or nothing but defaults."""
        models = self.studio.models()
        return next((m for m in models if m.name == BUILTIN_MODEL), models[0] if models else _NO_MODEL)

    def model(self, name: str | None) -> ModelInfo:
        """The model a person chose; the default one if that is not there."""
        return next((m for m in self.studio.models() if m.name == name), self.default_model())

    def model_choices(self, language: str) -> list[tuple[str, str]]:
        """(shown, name) of every model."""
        note = say(language, "o.model.builtin")
        return [(f"{m.name} ({note})" if m.builtin else m.name, m.name) for m in self.studio.models()]

    def upscaler_choices(self, control: Control, language: str) -> list[tuple[str, str]]:
        """(shown, value) of the ways a second pass enlarges, then of every upscaler file."""
        return control.choices(language) + [(file.name, file.name) for file in self.studio.upscalers()]

    def precision_choices(self, model: str | None, language: str) -> list[tuple[str, str]]:
        """(shown, value) of the number formats that a model can run in here."""
        possible = precisions_for(self.studio, self.model(model))
        return [(shown, value) for shown, value in CONTROLS["precision"].choices(language) if value in possible]

    def style_choices(self, model: str | None, language: str) -> list[tuple[str, str]]:
        """(shown, value) of the model's style words and of the styles in styles.csv."""
        known = words(language)
        chips = [(known.get(f"o.style.{word}", word), WORD + word) for word in self.model(model).styles]
        return chips + [(style.name, STYLE + style.name) for style in self.studio.styles()]

    def first_value(self, control: Control) -> Any:
        """What a control shows on an untouched page."""
        defaults = self.default_model()
        known = {"model": defaults.name, "steps": defaults.defaults.steps, "cfg": defaults.defaults.guidance_scale}
        return known.get(control.name, control.default)

    # values → Form
    def form(self, values: tuple[Any, ...], stage: dict[str, Any] | None) -> Form:
        """The Form of what stands in the page; stores a painted mask.

        Raises:
            DanqingError: The mask is not a picture.
        """
        held = dict(zip(self.inputs, values, strict=True))
        stage = stage or {}
        held["prompt"], held["styles"] = _with_styles(held.get("prompt") or "", held.get("styles") or [])
        held["negative_prompt"] = held.get("negative_prompt") or ""
        held["image"] = (stage.get("image") or {}).get("ref", "")
        held |= {name: _number(held[name]) for name in _OPTIONAL_NUMBERS if name in held}
        held["controls"] = tuple(stage.get("controls") or ())
        likes = stage.get("likes") or {}
        held["image_prompts"], held["image_mix"] = tuple(likes.get("prompts") or ()), likes.get("mix") or "tokens"
        if self.model(held.get("model")).defaults.distilled_guidance is None:
            held["distilled"] = None  # its field is not to be seen
        held["finish"] = tuple(stage.get("finish") or ())
        held["mask"] = self._mask(stage.get("mask")) if held.get("mode") in _MASKED else ""
        kept = dict(stage.get("kept") or {})
        if held.get("mode") == "drag":
            held |= {"points": tuple(stage.get("points") or ()), **_NOT_IN_A_DRAG}
            kept.pop("refiner", None)
        elif held.get("mode") == "retouch":
            held |= {"retouch_steps": tuple(stage.get("retouch_steps") or ()), **_NOT_IN_A_DRAG}
            kept.pop("refiner", None)
        elif held.get("mode") == "words":
            asked: dict[str, Any] = stage.get("words") or {}
            held |= {name: asked[name] for name in WORDS if name in asked}
            held |= {name: tuple(held.get(name) or ()) for name in ("weights", "local")}
            kept.pop("refiner", None)
        else:
            held["regions"] = tuple(self._region(n, region) for n, region in enumerate(stage.get("regions") or ()))
            held["region_engine"] = stage.get("engine") or ""
        return Form(**{name: held[name] for name in NAMES if name in held}, kept=kept)

    def _region(self, index: int, region: dict[str, Any]) -> dict[str, Any]:
        """A Region as the page holds it, its painted mask stored."""
        mask = region.get("mask")
        if not isinstance(mask, str) or not mask.startswith(_MASK_PREFIX):
            return region
        return {**region, "mask": self._mask(mask, f"regions.{index}.mask")}

    def _mask(self, uri: str | None, field: str = "mask") -> str:
        if not uri:
            return ""
        try:
            data = base64.b64decode(uri.removeprefix(_MASK_PREFIX), validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadFileError("the mask is not a PNG data URI", field=field, next_step="paint it again") from error
        return f"sha256:{self.studio.upload(data).sha256}"

    # Form → values
    def values(self, form: Form) -> dict[str, Any]:
        """What each component shows for this Form: labels for keys, the model's own numbers for "unset"."""
        model = self.model(form.model)
        shown: dict[str, Any] = {name: getattr(form, name) for name in self.inputs}
        own = model.defaults
        for name, value in (("steps", own.steps), ("cfg", own.guidance_scale), ("width_px", own.size_px)):
            shown[name] = value if shown[name] is None else shown[name]
        shown["height_px"] = own.size_px if shown["height_px"] is None else shown["height_px"]
        shown["model"] = form.model or model.name
        shown["styles"] = [STYLE + name for name in form.styles]
        shown["sampler"] = label(find_sampler, form.sampler)
        schedule = label(find_schedule, form.schedule)
        shown["schedule"] = "" if schedule == "Automatic" else schedule
        for name in _OPTIONAL_NUMBERS:
            shown[name] = "" if shown.get(name) is None else f"{shown[name]:.12g}"
        shown["hires_scale"] = 2.0 if form.hires_scale is None else form.hires_scale
        shown["hires_upscaler"] = self._upscaler(form.hires_upscaler)
        return shown

    def _upscaler(self, name: str) -> str:
        """The value that the list has for any spelling of an upscaler."""
        try:
            return find_upscaler(name).key
        except InvalidRequestError:
            wanted = name.strip().lower()
            files = self.studio.upscalers()
            known = (f.name for f in files if wanted in {f.name.lower(), *(alias.lower() for alias in f.aliases)})
            return next(known, name)

    def updates(self, changed: dict[str, Any], language: str = "en", model: str | None = None) -> list[Any]:
        """One update for each input: those in `changed` get their value, the rest stays."""
        updates: list[Any] = []
        for name in self.inputs:
            if name not in changed:
                updates.append(gr.skip())
            elif name == "styles":
                updates.append(self._style_update(changed[name], model, language))
            elif name == "precision":
                updates.append(self.precision_update(changed[name], model, language))
            else:
                updates.append(self._value_update(name, changed[name]))
        return updates

    def _value_update(self, name: str, value: Any) -> Any:
        control = CONTROLS.get(name)
        if control is not None and control.kind == "slider" and value is not None and value > control.high:
            return gr.update(value=value, maximum=value)
        return gr.update(value=value)

    def precision_update(self, wanted: str, model: str | None, language: str) -> Any:
        """The formats of a model; one that a picture was painted in is among them, even where it cannot run here."""
        choices = self.precision_choices(model, language)
        if wanted not in {value for _, value in choices}:
            choices += [pair for pair in CONTROLS["precision"].choices(language) if pair[1] == wanted]
        return gr.update(choices=choices, value=wanted, visible=len(choices) > 1)

    def _style_update(self, chosen: list[str], model: str | None, language: str) -> Any:
        choices = self.style_choices(model, language)
        known = {value for _, value in choices}
        choices += [(value.removeprefix(STYLE), value) for value in chosen if value not in known]
        return gr.update(choices=choices, value=chosen, visible=bool(choices))

    # pictures
    def picture(self, ref: str) -> tuple[bytes, int, int]:
        """Bytes, width and height of a PictureRef.

        Raises:
            NotFoundError: It is not there.
            BadFileError: It is not a picture.
        """
        kind, _, name = ref.partition(":")
        if kind == "record":
            record = self.studio.record(name)
            return self.studio.picture_bytes(record.picture), record.width_px, record.height_px
        data = self.studio.picture_bytes(name)
        with Image.open(io.BytesIO(data)) as image:
            return data, image.width, image.height


_NO_MODEL = ModelInfo(name=BUILTIN_MODEL, family="danqing", path="", sha256="0" * 64)


def _number(text: Any) -> Any:
    """What stands in an optional number: None where it is empty, the text itself where it is no number."""
    cleaned = str("" if text is None else text).strip()
    if not cleaned:
        return None
    try:
        number = float(cleaned)
    except ValueError:
        return cleaned
    return int(number) if number.is_integer() else number


def _with_styles(prompt: str, chips: list[str]) -> tuple[str, tuple[str, ...]]:
    """Style words of the model go to the end of the brief; styles of styles.csv go by name."""
    wanted = [chip.removeprefix(WORD) for chip in chips if chip.startswith(WORD)]
    present = {part.strip().casefold() for part in prompt.replace("，", ",").split(",")}
    added = [word for word in wanted if word.casefold() not in present]
    joined = ", ".join(part for part in (prompt.rstrip(" ,"), *added) if part) if added else prompt
    return joined, tuple(chip.removeprefix(STYLE) for chip in chips if chip.startswith(STYLE))


def no_settings(language: str) -> dict[str, Any]:
    """The error of a picture without settings, as `errors.explain` would give it."""
    return {
        "code": "bad_file",
        "field": None,
        "section": None,
        "text": words(language)["e.no_settings"],
        "original": "",
    }
