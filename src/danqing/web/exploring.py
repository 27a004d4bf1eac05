"""Comparisons on the Paint page: the axes by group, how many pictures, beginning one, its grid and its sheet."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response
from gradio import EventData
from pydantic import ValidationError

from danqing.planning.explore import read_axis
from danqing.spec.base import Data
from danqing.spec.errors import DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.explore import MAX_CELLS, Axis, Exploration, ExploreRequest
from danqing.spec.registry.axes import AXES, AxisInfo, find_axis
from danqing.web.answers import PREFIX, from_page, language_of, refused
from danqing.web.components.stage import say_to_stage
from danqing.web.errors import explain
from danqing.web.form import to_request
from danqing.web.i18n import LANGUAGES, say
from danqing.web.joining import tie_of

if TYPE_CHECKING:
    from danqing.studio.service import Studio
    from danqing.web.pages.desk import Desk

SECTION = "explore"
GROUPS: dict[str, tuple[str, ...]] = {
    "words": ("replace", "order", "network", "style"),
    "noise": ("seed", "variation_seed", "variation_strength", "initial_noise", "noise"),
    "sampling": (
        *("guidance", "steps", "sampler", "schedule", "strength", "rescale", "pag", "distilled_guidance", "eta"),
        *("sigma_min", "sigma_max", "rho", "churn", "churn_min", "churn_max", "s_noise"),
    ),
    "model": ("model", "vae", "clip_skip", "precision", "refiner", "refiner_at"),
    "size": ("size", "hires_scale", "hires_steps", "hires_sampler", "hires_upscaler"),
    "controls": ("control_weight", "control_start", "control_end", "image_weight"),
}
"""Keys of the axes as the page lists them; `x.group.<name>` names a group."""
_NEWEST = 10
_SHOWN_CHARS = 60
_WORDS = re.compile(r"[A-Za-z]{2}")
_Id = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]


class CountBody(Data):
    """The axes as they stand in the form; one without values is not yet finished."""

    x: Axis | None = None
    y: Axis | None = None
    z: Axis | None = None

    @property
    def given(self) -> dict[str, Axis]:
        """The axes that are there, by letter."""
        every = {"x": self.x, "y": self.y, "z": self.z}
        return {letter: axis for letter, axis in every.items() if axis is not None}


def add_exploring(app: FastAPI, studio: Studio) -> None:
    """Register `/web/explore` on the application."""
    router = APIRouter(prefix=f"{PREFIX}/explore", include_in_schema=False)

    @router.get("/axes")
    def axes() -> JSONResponse:
        known = {info.key: {"key": info.key, "example": info.example} for info in AXES}
        groups = [{"name": name, "axes": [known[key] for key in keys]} for name, keys in GROUPS.items()]
        return JSONResponse({"groups": groups})

    @router.post("/count", dependencies=[Depends(from_page)])
    def count(body: CountBody, request: Request) -> JSONResponse:
        return JSONResponse(count_of(body.given, language_of(request)))

    @router.get("")
    def newest() -> JSONResponse:
        return JSONResponse({"explorations": [_summary(found) for found in studio.explorations(_NEWEST)]})

    @router.get("/{exploration_id}")
    def exploration(exploration_id: _Id, request: Request) -> JSONResponse:
        try:
            return JSONResponse(_told(studio, studio.exploration(exploration_id)))
        except DanqingError as error:
            return refused(error, request)

    @router.post("/{exploration_id}/cancel", dependencies=[Depends(from_page)])
    def cancel(exploration_id: _Id, request: Request) -> JSONResponse:
        try:
            return JSONResponse({"stopped": studio.cancel_exploration(exploration_id)})
        except DanqingError as error:
            return refused(error, request)

    @router.get("/{exploration_id}/sheet")
    def sheet(exploration_id: _Id, request: Request) -> Response:
        try:
            drawn = studio.exploration_sheet(exploration_id)
        except DanqingError as error:
            return refused(error, request)
        out = io.BytesIO()
        drawn.save(out, "PNG")
        named = f'attachment; filename="danqing-compare-{exploration_id}.png"'
        return Response(
            out.getvalue(),
            media_type="image/png",
            headers={"Content-Disposition": named, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )

    app.include_router(router)


def exploring(desk: Desk) -> Any:
    """What happens on "Paint all": the form's Request in every form that the axes say."""

    def explore(event: EventData, stage: dict[str, Any] | None, *values: Any) -> Any:
        tag = (stage or {}).get("language", "")
        language = tag if tag in LANGUAGES else "en"
        axes: dict[str, Axis] = {}
        try:
            axes = _axes_of(getattr(event, "axes", None))
            request = to_request(replace(desk.form(values, stage), count=1))
            tie = tie_of(stage)
            asked = ExploreRequest(
                request=request,
                x=axes["x"],
                y=axes.get("y"),
                z=axes.get("z"),
                vary_seeds=bool(getattr(event, "vary", False)),
                project=None if tie is None else tie.project,
            )
            found = desk.studio.explore(asked)
        except DanqingError as error:
            return say_to_stage("explore", error=explain_axes(error, axes, language))
        return say_to_stage("explore", id=found.id)

    return explore


def count_of(axes: Mapping[str, Axis], language: str) -> dict[str, Any]:
    """How many pictures the axes make.

    Returns:
        `count` (None while an axis is not finished) and `errors`, by letter.
    """
    count: int | None = 1 if "x" in axes else None
    errors: dict[str, Any] = {}
    for letter, axis in axes.items():
        if not axis.values.strip():
            count = None
            continue
        try:
            size = len(read_axis(axis, letter).values)
            count = count * size if count is not None else None
            if count is not None and count > MAX_CELLS:
                raise _too_many(letter, count)
        except InvalidRequestError as error:
            errors[letter] = explain_axes(error, axes, language)
            count = None
    return {"count": count, "errors": errors}


def explain_axes(error: DanqingError, axes: Mapping[str, Axis], language: str) -> dict[str, Any]:
    """As `errors.explain`; what an axis caused has the field `explore.x` (or y, z) and words about the axis."""
    shown = explain(error, language)
    letter = _letter(error, axes)
    if letter is None:
        return shown
    text = _text(error, axes.get(letter), language)
    return {**shown, "field": f"{SECTION}.{letter}", "section": SECTION, "text": text}


def _axes_of(given: Any) -> dict[str, Axis]:
    """The axes that the page sent.

    Raises:
        InvalidRequestError: There is none for the columns, or they are not axes at all.
    """
    try:
        axes = CountBody.model_validate(given or {}).given
    except ValidationError as error:
        raise InvalidRequestError("these are no axes", field="x", next_step="choose an axis") from error
    if "x" not in axes:
        raise InvalidRequestError("nothing is compared", field="x", next_step="choose an axis for the columns")
    return axes


def _too_many(letter: str, count: int) -> InvalidRequestError:
    return InvalidRequestError(
        "that would be too many pictures", field=letter, value=count, allowed=f"at most {MAX_CELLS}"
    )


def _info(axis: Axis) -> AxisInfo | None:
    try:
        return find_axis(axis.axis)
    except InvalidRequestError:
        return None


def _letter(error: DanqingError, axes: Mapping[str, Axis]) -> str | None:
    """The axis that an error is about: it is named, or it changes the field that is wrong."""
    field = error.field or ""
    if field.split(".")[0] in ("x", "y", "z"):
        return field[0]
    for letter, axis in axes.items():
        info = _info(axis)
        if info is None or not field or info.values in ("replace", "order"):
            continue  # what is wrong with the brief stands at the brief
        if info.path == field or info.path.rpartition(".")[2] == field or field.startswith(f"{info.path}."):
            return letter
    return None


def _text(error: DanqingError, axis: Axis | None, language: str) -> str:
    """What is wrong with an axis, in one sentence."""
    if axis is None:
        return say(language, "e.axis.none")
    info = _info(axis)
    value = str(axis.values if error.value is None else error.value)
    value = value if len(value) <= _SHOWN_CHARS else value[: _SHOWN_CHARS - 1] + "…"
    if info is None:
        return say(language, "e.axis.axis", value=axis.axis)
    if info.values == "order":
        return say(language, "e.axis.order")
    if not axis.values.strip():
        return say(language, "e.axis.empty", example=info.example)
    if (error.field or "").endswith(".values"):
        return say(language, "e.axis.values", value=value, example=info.example)
    return _at_a_value(error, info, value, language)


def _at_a_value(error: DanqingError, info: AxisInfo, value: str, language: str) -> str:
    """Why one of the values does not go, or all of them together."""
    allowed = error.allowed or ""
    if error.field == "z" and error.value is None:
        return say(language, "e.axis.second")
    if isinstance(error.value, int) and allowed == f"at most {MAX_CELLS}":
        return say(language, "e.axis.many", value=value, most=MAX_CELLS)
    if error.value == info.path:
        return say(language, "e.axis.absent")
    if info.values == "replace" and error.field in ("x", "y", "z"):
        return say(language, "e.axis.replace", value=value)
    if allowed and (language == "en" or not _WORDS.search(allowed)):
        return say(language, "e.axis.allowed", value=value, allowed=allowed)
    return say(language, "e.axis.value", value=value)


def _keys(found: Exploration) -> list[str]:
    asked = found.asked
    return [find_axis(axis.axis).key for axis in (asked.x, asked.y, asked.z) if axis is not None]


def _summary(found: Exploration) -> dict[str, Any]:
    return {
        "id": found.id,
        "keys": _keys(found),
        "count": len(found.cells),
        "prompt": found.asked.request.prompt,
        "created_at": found.created_at.isoformat(),
    }


def _told(studio: Studio, found: Exploration) -> dict[str, Any]:
    """A comparison as the grid shows it: labels, and for each place its state and its picture."""
    records = studio.exploration_records(found.id)
    cells: list[dict[str, Any]] = []
    for cell in found.cells:
        record = records.get((cell.x, cell.y, cell.z))
        state = "done" if record else _state(studio, cell.job)
        told = {"x": cell.x, "y": cell.y, "z": cell.z, "labels": cell.labels, "state": state}
        cells.append({**told, "record": record.id if record else None})
    lines = {"columns": found.columns, "rows": found.rows, "sheets": found.sheets}
    waiting = sum(cell["state"] in ("queued", "running") for cell in cells)
    return {**_summary(found), **lines, "cells": cells, "waiting": waiting}


def _state(studio: Studio, job_id: str) -> str:
    """queued, running, failed, cancelled; `gone` for a picture that was deleted."""
    try:
        state = studio.job(job_id).state
    except NotFoundError:
        return "gone"
    return "gone" if state == "done" else state
