"""Drafts: small, quick pictures that follow a sketch stroke by stroke and do not stay in the gallery."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from danqing.spec.errors import DanqingError
from danqing.spec.events import RecordEvent
from danqing.spec.record import Job
from danqing.spec.request import Request
from danqing.studio.sweeping import DRAFTS
from danqing.web.fields import fit_size

if TYPE_CHECKING:
    from danqing.studio.service import Studio

STEPS = 6
SEED = 1


def draft_of(request: Request, native_px: int) -> Request:
    """The same picture as a draft: one, few steps, the model's native area, no second pass.

    Without a seed a draft has always the same one, so that from stroke to stroke only the drawing changes.

    Args:
        request: What stands in the form.
        native_px: Side of the square the model was trained at.
    """
    width, height = request.width_px or native_px, request.height_px or native_px
    if width * height > native_px**2:
        width, height = fit_size(width, height, native_px)
    steps = min(request.sampling.steps or STEPS, STEPS)
    changed = {
        "count": 1,
        "hires": None,
        "width_px": width,
        "height_px": height,
        "seed": SEED if request.seed is None else request.seed,
        "sampling": request.sampling.model_copy(update={"steps": steps}),
    }
    return request.model_copy(update=changed)


def submit_draft(studio: Studio, request: Request) -> Job:
    """Queue a draft. Its Record is deleted the moment it is there: the page can show it, the gallery does not.

    Raises:
        DanqingError: The Request cannot be painted.
    """
    job = studio.submit(request, user=DRAFTS)
    threading.Thread(target=_forget, args=(studio, job.id), name=f"draft-{job.id}", daemon=True).start()
    return job


def _forget(studio: Studio, job_id: str) -> None:
    with suppress(DanqingError):  # the studio closes, or the Record is deleted already
        for _, event in studio.watch(job_id):
            if isinstance(event, RecordEvent):
                studio.delete_record(event.record_id)
