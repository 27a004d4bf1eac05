"""Infotext ↔ Request: what A1111 and its kin write into pictures, both ways, for every field.

`to_infotext` writes it for a Request or for a Plan (one picture, every default resolved). `parse_infotext` takes a text
apart and never fails; `request_from_infotext` makes a Request of it and says what it had to leave out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from danqing import __version__
from danqing.prompt.infotext_control import KEY as CONTROL_KEY
from danqing.prompt.infotext_control import control_fields, units_from
from danqing.prompt.infotext_fields import ENTRIES, Entry
from danqing.prompt.infotext_plan import control_hashes, model_fields, request_of_plan
from danqing.prompt.infotext_text import Infotext, format_text, parse_text
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.plan import Plan
from danqing.spec.registry.lookup import match
from danqing.spec.registry.samplers import SAMPLERS, split_legacy_name
from danqing.spec.registry.schedules import SCHEDULES
from danqing.spec.request import REQUEST, Request

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_HIRES_STRENGTH: Final = "Hires denoising strength"
_STRENGTH: Final = "Denoising strength"
_SAME = frozenset({"use same sampler", "use same scheduler", "use same checkpoint"})
"""What A1111 shows where the hires pass has no choice of its own."""

_IGNORED = frozenset(
    {"Size", "Hires resize", "Seed resize from", "First pass size", "Model hash", "VAE hash", "Pipeline", "Version"}
)
_BY_KEY: Final = {entry.key: entry for entry in ENTRIES}


@dataclass(frozen=True, slots=True)
class ReadInfotext:
    """A Request read from an infotext.

    Attributes:
        request: The Request.
        notes: What was left out or replaced, and why, for the person.
        rest: Pairs that no Request field stands for, such as hashes.
    """

    request: Request
    notes: tuple[str, ...] = ()
    rest: Mapping[str, str] | None = None


def to_infotext(
    what: Request | Plan, *, extra: Mapping[str, str] | None = None, version: str = f"Danqing {__version__}"
) -> str:
    """The infotext of a Request, or of one picture's Plan.

    Args:
        what: The Request or Plan; a Plan gives model hashes too.
        extra: More pairs, such as `{"Lora hashes": "ink: 0123456789ab"}`.
        version: What stands at `Version`.
    """
    hashes = model_fields(what) if isinstance(what, Plan) else {}
    request = request_of_plan(what) if isinstance(what, Plan) else what
    fields = _fields(request) | control_fields(request.controls, control_hashes(what))
    ordered = _in_order({**fields, **hashes})
    everything = {**ordered, **(extra or {}), "Version": version}
    return format_text(Infotext(request.prompt, request.negative_prompt, everything))


def parse_infotext(text: str) -> Infotext:
    """An infotext taken apart: prompt, negative prompt and every pair as text. Never fails."""
    return parse_text(text)


def request_from_infotext(text: str) -> ReadInfotext:
    """The Request that an infotext describes; values that no Request can have are left out and noted."""
    infotext = parse_text(text)
    reading = _Reading(dict(infotext.fields))
    data = reading.data()
    prompt = infotext.prompt + _old_hypernetwork(infotext.fields)
    data["prompt"], data["negative_prompt"] = prompt[:20_000], infotext.negative_prompt[:20_000]
    request = _validated(data, reading.notes)
    return ReadInfotext(request, tuple(reading.notes), reading.rest())


def _old_hypernetwork(fields: Mapping[str, str]) -> str:
    """The tag for a hypernetwork of an old picture: A1111 once wrote it as two pairs, its hash behind the name."""
    name = re.sub(r"\([0-9a-f]{8}\)$", "", fields.get("Hypernet", ""))
    return f"<hypernet:{name}:{fields.get('Hypernet strength', '1.0')}>" if name else ""


def _fields(request: Request) -> dict[str, str]:
    fields = {entry.key: text for entry in ENTRIES if (text := _written(request, entry)) is not None}
    if isinstance(request, Txt2ImgRequest) and _HIRES_STRENGTH in fields:
        fields[_STRENGTH] = fields.pop(_HIRES_STRENGTH)
    if request.width_px and request.height_px:
        fields["Size"] = f"{request.width_px}x{request.height_px}"
    elif request.width_px or request.height_px:
        fields["Width" if request.width_px else "Height"] = str(request.width_px or request.height_px)
    if request.seed_resize is not None:
        fields["Seed resize from"] = str(request.seed_resize)
    hires = request.hires
    if hires is not None and (hires.width_px or hires.height_px or hires.scale is None):
        fields["Hires resize"] = f"{hires.width_px or 0}x{hires.height_px or 0}"
    if getattr(request, "soft", None) is not None:
        fields["Soft inpainting enabled"] = "True"
    return fields


def _written(request: Request, entry: Entry) -> str | None:
    holder: Any = request
    for name in entry.path[:-1]:
        holder = getattr(holder, name, None)
    name = entry.path[-1]
    if not isinstance(holder, BaseModel) or name not in type(holder).model_fields:
        return None
    value: Any = getattr(holder, name)
    field = type(holder).model_fields[name]
    plain = not entry.always and not field.is_required() and value == field.get_default()
    return None if value is None or plain else entry.write(value)


def _in_order(fields: dict[str, str]) -> dict[str, str]:
    """The pairs in A1111's order: the first seven of every picture, then the rest."""
    first = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash", "VAE")
    return {key: fields[key] for key in (*first, *fields) if key in fields}


class _Reading:
    """Pairs on their way into a Request's fields."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        self.notes: list[str] = []

    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        self._sizes(data)
        for key, text in self.fields.items():
            entry = _BY_KEY.get(key)
            if entry is None or (key.startswith("Hires ") and text.casefold() in _SAME):
                continue
            try:
                _put(data, entry.path, entry.read(text))
            except (ValueError, TypeError, RecursionError):
                self.notes.append(f"{key}: {text[:60]!r} is not readable and was left out")
        self._kind(data)
        units, notes = units_from(self.fields, has_init="image" in data)
        self.notes.extend(notes)
        if units:
            data["controls"] = units
        self._sampling(data)
        self._models(data)
        if "RNG" not in self.fields and "Steps" in self.fields:
            # A1111 leaves out its default, the noise of an NVIDIA card, which `nv` computes on any machine.
            data["noise"] = "nv"
        return data

    def rest(self) -> dict[str, str]:
        known = _BY_KEY.keys() | _IGNORED
        return {key: text for key, text in self.fields.items() if key not in known and not CONTROL_KEY.fullmatch(key)}

    def _sizes(self, data: dict[str, Any]) -> None:
        size, first = self._size("Size"), self._size("First pass size")
        resize = self._size("Hires resize")
        if first and size and first != (0, 0):
            size, resize = first, size
        if size:
            data["width_px"], data["height_px"] = size
        for key, name in (("Width", "width_px"), ("Height", "height_px")):
            if self.fields.get(key, "").isdecimal():
                data[name] = int(self.fields.pop(key)[:6])
        if resize:
            hires = data.setdefault("hires", {})
            hires["width_px"], hires["height_px"] = resize[0] or None, resize[1] or None
        if seed_size := self._size("Seed resize from"):
            data["seed_resize"] = dict(zip(("width_px", "height_px"), seed_size, strict=True))

    def _size(self, key: str) -> tuple[int, int] | None:
        found = _SIZE.fullmatch(self.fields.get(key, ""))
        return (int(found[1]), int(found[2])) if found else None

    def _kind(self, data: dict[str, Any]) -> None:
        hires = data.get("hires")
        if hires is not None:
            hires.setdefault("scale", None if "width_px" in hires else 2.0)
        if self.fields.get("Soft inpainting enabled", "").casefold() == "true":
            data.setdefault("soft", {})
        if "source_prompt" in data:
            data["kind"] = "words"
            return
        data["kind"] = "outpaint" if "margins" in data else "inpaint" if "mask" in data else "img2img"
        if "points" in data:
            data["kind"] = "drag"
        if "steps" in data:
            data["kind"] = "retouch"
        if "image" in data:
            return
        data["kind"] = "txt2img"
        strength = data.pop("strength", None)
        if hires is not None and strength is not None:
            hires["strength"] = strength
        elif strength is not None:
            self.notes.append("the picture was made from another one, which its text does not hold")
        foreign = [name for name in data if name not in Txt2ImgRequest.model_fields]
        for name in foreign:
            del data[name]

    def _sampling(self, data: dict[str, Any]) -> None:
        holders = [(data.get("sampling"), "sampler", "schedule"), (data.get("hires"), "sampler", "schedule")]
        for holder, sampler, schedule in holders:
            if holder is None:
                continue
            if holder.get(sampler):
                holder[sampler], old_schedule = split_legacy_name(holder[sampler])
                if old_schedule is not None:
                    holder.setdefault(schedule, old_schedule)
            for name, known in (
                (sampler, match(SAMPLERS, holder.get(sampler) or "")),
                (schedule, match(SCHEDULES, holder.get(schedule) or "")),
            ):
                if holder.get(name) and known is None:
                    self.notes.append(f"the {name} {holder.pop(name)!r} is not known here; the model's own is used")

    def _models(self, data: dict[str, Any]) -> None:
        if "model" not in data and (short := self.fields.get("Model hash")):
            data["model"] = short
        vae = data.get("vae")
        if isinstance(vae, str) and vae.casefold() in {"automatic", "none"}:
            del data["vae"]


def _put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    holder = data
    for name in path[:-1]:
        holder = holder.setdefault(name, {})
    holder[path[-1]] = value


def _validated(data: dict[str, Any], notes: list[str]) -> Request:
    """The Request; fields that it refuses are removed one after another and noted."""
    for _ in range(64):
        try:
            return REQUEST.validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            path = [str(part) for part in first["loc"][1:]]
            notes.append(f"{'.'.join(path) or 'the request'}: {first['msg']}; it was left out")
            if not _remove(data, path):
                break
    return Txt2ImgRequest(prompt=str(data.get("prompt", "")), negative_prompt=str(data.get("negative_prompt", "")))


def _remove(data: dict[str, Any], path: list[str]) -> bool:
    """Removes the deepest part of the path that is there; False if nothing is."""
    for depth in range(len(path), 0, -1):
        holder: Any = data
        for name in path[: depth - 1]:
            holder = cast("dict[str, Any]", holder).get(name) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and path[depth - 1] in holder:
            del cast("dict[str, Any]", holder)[path[depth - 1]]
            return True
    return False
