"""Opening the studio for one command, and staying with a job until it is done."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from danqing.cli.options import StudioOptions, WorkerOptions
from danqing.cli.progress import JobView, open_view
from danqing.cli.terminal import Terminal
from danqing.spec.errors import CancelledError, ConflictError, DanqingError
from danqing.spec.record import Job
from danqing.studio.service import Studio
from danqing.studio.settings import Settings, load_settings

CANCEL_WAIT_S = 20.0


def settings_of(options: StudioOptions) -> Settings:
    """The settings that the options and the environment give.

    Raises:
        InvalidRequestError: One of them is wrong.
    """
    painting = options if isinstance(options, WorkerOptions) else None
    return load_settings(
        data_dir=options.data,
        models_dir=options.models,
        device=painting.device if painting else None,
        precision=painting.precision if painting else None,
        memory_gib=painting.memory if painting else None,
        vram_gib=painting.vram if painting else None,
    )


def make_studio(settings: Settings) -> Studio:
    """A studio of these settings, not started yet."""
    return Studio(settings)


@contextmanager
def open_studio(options: StudioOptions) -> Generator[Studio, None, None]:
    """The studio, started, and closed at the end."""
    studio = make_studio(settings_of(options))
    studio.start()
    try:
        yield studio
    finally:
        studio.close()


def terminal_of(options: StudioOptions) -> Terminal:
    """Where the command speaks."""
    return Terminal(json=options.json, quiet=options.quiet)


def follow(studio: Studio, job: Job, terminal: Terminal) -> Job:
    """Watch a job, with progress, until it is done; Ctrl-C cancels it.

    Raises:
        DanqingError: What the job failed with.
        CancelledError: It was cancelled elsewhere.
        KeyboardInterrupt: It was cancelled here.
    """
    with open_view(terminal) as view:
        return _finished(_watch(studio, job, view))


def follow_all(studio: Studio, jobs: list[Job], terminal: Terminal) -> list[Job]:
    """Watch several jobs, which are painted together, until all are done."""
    finished: list[Job] = []
    with open_view(terminal, pictures=sum(len(job.plans) for job in jobs)) as view:
        try:
            for job in jobs:
                finished.append(_finished(_watch(studio, job, view)))
                view.add_finished(len(job.plans))
        except BaseException:
            for job in jobs[len(finished) :]:
                _cancel(studio, job)
            raise
    return finished


def _watch(studio: Studio, job: Job, view: JobView) -> Job:
    try:
        for _, event in studio.watch(job.id):
            view.show(event)
    except KeyboardInterrupt:
        view.say("cancelling …")
        _cancel(studio, job)
        raise
    return studio.job(job.id)


def _cancel(studio: Studio, job: Job) -> None:
    try:
        studio.cancel(job.id)
    except ConflictError:
        return  # it finished in the meantime
    studio.wait(job.id, timeout_s=CANCEL_WAIT_S)


def _finished(job: Job) -> Job:
    if job.state == "failed":
        raise DanqingError.from_dict(job.error or {})
    if job.state == "cancelled":
        raise CancelledError("the job was cancelled", value=job.id, next_step="run the command again to paint it")
    return job
