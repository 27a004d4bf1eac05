"""From what was typed to saved pictures: what every command that paints by a Request shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from danqing.cli.options import WorkerOptions
from danqing.cli.paint_request import upload_pictures, without_pictures
from danqing.cli.pictures import plan_target, save_pictures
from danqing.cli.session import follow, open_studio, settings_of, terminal_of
from danqing.cli.terminal import Terminal
from danqing.spec.record import Job
from danqing.spec.request import parse_request
from danqing.studio.service import Studio


def _as_it_is(data: dict[str, Any], studio: Studio) -> dict[str, Any]:
    del studio
    return data


@dataclass(frozen=True)
class Painting:
    """A command's way from its options to a Request.

    Attributes:
        options: What was typed.
        out: Where pictures go, as `-o` says.
        format: png, jpeg or webp, as `--format` says.
        data: The Request as plain data, pictures still as file names; it is told the format of the files.
        naming: In it errors name options instead of fields.
        complete: Adds what only an open studio knows.
    """

    options: WorkerOptions
    out: str | None
    data: Callable[[str | None], dict[str, Any]]
    naming: Callable[[], AbstractContextManager[None]]
    format: str | None = None
    complete: Callable[[dict[str, Any], Studio], dict[str, Any]] = _as_it_is


def paint_and_tell(painting: Painting) -> None:
    """Check, submit, follow, save, and tell what was painted.

    Raises:
        DanqingError: A mistake in what was typed, or what the job failed with.
    """
    options = painting.options
    terminal = terminal_of(options)
    started_s = time.monotonic()
    target = plan_target(painting.out, painting.format)
    with painting.naming():
        data = painting.data(target.format)
        parse_request(without_pictures(data))
    settings = settings_of(options)
    with open_studio(options) as studio, painting.naming():
        data = painting.complete(data, studio)
        job = studio.submit(parse_request(upload_pictures(data, studio, settings.upload_max_bytes)))
        for note in dict.fromkeys(note for plan in job.plans for note in plan.notes):
            terminal.remark(f"note: {note}")
        job = follow(studio, job, terminal)
        pictures = save_pictures(studio, [studio.record(record_id) for record_id in job.records], target)
    _tell(job, pictures, time.monotonic() - started_s, terminal)


def _tell(job: Job, pictures: list[dict[str, object]], seconds: float, terminal: Terminal) -> None:
    """What was painted, for a person or as JSON."""
    notes = list(dict.fromkeys(note for plan in job.plans for note in plan.notes))
    data = {
        "job": job.id,
        "state": job.state,
        "pictures": pictures,
        "notes": notes,
        "seconds": round(seconds, 3),
    }
    for picture in pictures:
        terminal.remark(
            f"seed {picture['seed']} · {picture['width_px']}×{picture['height_px']} · record {picture['record']}"
        )
    terminal.remark(f"{len(pictures)} painted in {seconds:.1f} s")
    terminal.result(data, "\n".join(str(picture["path"]) for picture in pictures))
