"""One trainer process: started, held while pictures are painted, stopped with a checkpoint, its log read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from danqing.spec.training_run import Estimate
from danqing.store.owners import host_identity, process_start
from danqing.store.trainings import TrainerMark
from danqing.studio.training_events import LOG_FILE

_LAUNCHER = "danqing.studio.trainer_launch"
_LOG_BYTES = 64 * 1024
_LOG_LINES = 5
_FRAME = re.compile(r"^\s+|^Traceback |^During handling|^The above exception|^\s*$|^[\^~\s]+$")
_POSIX = os.name == "posix"
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_MMAP_THRESHOLD_": "20000000000"}
"""glibc keeps freed memory: a step frees and takes the same large blocks again."""


@dataclass(frozen=True)
class TrainerOptions:
    """How trainers are run.

    Args:
        command: The program, without the arguments of a run.
        environment: Added to the trainer's environment.
        stop_grace_s: How long one may take to finish its step and write its checkpoint before it is killed.
        estimate_timeout_s: How long an estimate may take.
        tick_s: Between two looks at events, wishes and painting.
        calm_s: Nothing was painted for so long before training goes on.
    """

    command: tuple[str, ...] = (sys.executable, "-m", "danqing.training.own")
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_grace_s: float = 60.0
    estimate_timeout_s: float = 300.0
    tick_s: float = 0.2
    calm_s: float = 1.5


@dataclass(frozen=True)
class Places:
    """The folders and the device a trainer is told of."""

    sets_dir: Path
    models_dir: Path
    device: str = "auto"

    def arguments(self, folder: Path) -> list[str]:
        """For the trainer's command line."""
        models = ["--sets", str(self.sets_dir), "--models", str(self.models_dir)]
        return [str(folder), *models, "--device", self.device]


class TrainerProcess:
    """A running trainer.

    Args:
        options: How it is run.
        folder: The run's.
        places: What it is told of.
        background: Low priority, and held while pictures are painted.
    """

    def __init__(self, options: TrainerOptions, folder: Path, places: Places, *, background: bool) -> None:
        self._options = options
        self._held = False
        self._stop_by: float | None = None
        command = [*options.command, *places.arguments(folder)]
        if _POSIX:
            how = "background" if background else "foreground"
            command = [sys.executable, "-m", _LAUNCHER, how, *command]
        with (folder / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **_ALLOCATOR, **options.environment},
                start_new_session=_POSIX,
                creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0) if background else 0,
            )

    @property
    def mark(self) -> TrainerMark:
        """How another Studio finds it."""
        pid = self._process.pid
        return TrainerMark(host_identity(), pid, process_start(pid) or "")

    @property
    def held(self) -> bool:
        """Whether it is stopped so that pictures can be painted."""
        return self._held

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stop_by is not None

    def ended(self) -> int | None:
        """Its exit code once it has ended; a negative one names the signal."""
        if self._stop_by is not None and time.monotonic() > self._stop_by:
            self._process.kill()
        return self._process.poll()

    def hold(self, *, wanted: bool) -> None:
        """Stop its work, or let it go on."""
        if not _POSIX or wanted == self._held or (wanted and self.stopping):
            return
        self._signal(signal.SIGSTOP if wanted else signal.SIGCONT)
        self._held = wanted

    def stop(self) -> None:
        """Have it write a checkpoint and leave; asked once."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._options.stop_grace_s
            self._process.terminate()
            self.hold(wanted=False)

    def kill(self) -> None:
        """End it now; the run goes on from its last checkpoint."""
        self._process.kill()
        self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.kill(self._process.pid, number)


def end_leftover(mark: TrainerMark, grace_s: float) -> None:
    """End the trainer of a Studio that is gone; it writes a checkpoint if it can. Returns when it has ended."""
    if mark.host != host_identity() or not _POSIX or not mark.started:
        return
    deadline = time.monotonic() + grace_s
    for number in (signal.SIGTERM, signal.SIGCONT):
        _send(mark, number)
    while process_start(mark.pid) == mark.started:
        if time.monotonic() > deadline:
            _send(mark, signal.SIGKILL)
        time.sleep(0.02)


def _send(mark: TrainerMark, number: int) -> None:
    if process_start(mark.pid) == mark.started:
        try:
            os.kill(mark.pid, number)
        except ProcessLookupError:
            return


def estimate_of(options: TrainerOptions, folder: Path, places: Places) -> Estimate:
    """What the trainer says that a run will cost; a trainer that cannot say it gives a reason."""
    command = [*options.command, *places.arguments(folder), "--estimate"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=options.estimate_timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **_ALLOCATOR, **options.environment},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Estimate(reasons=(f"the trainer does not answer: {error}",))
    for line in reversed(done.stdout.splitlines()):
        try:
            return Estimate.model_validate_json(line)
        except ValueError:
            continue
    why = plain_end(done.stderr) or f"it ended with code {done.returncode}"
    return Estimate(reasons=(f"the trainer cannot begin: {why}",))


def plain_end(text: str) -> str:
    r"""The last lines of a log without Python's traceback.

    >>> plain_end("Traceback (most recent call last):\n  File 'x', line 1\n    a()\nKeyError: 'cat'\n")
    "KeyError: 'cat'"
    """
    lines = [line.strip() for line in text.splitlines() if not _FRAME.match(line)]
    return "\n".join(lines[-_LOG_LINES:])


def log_end(folder: Path, begin: int) -> str:
    """What the trainer wrote into its log behind a place, as `plain_end` says it."""
    path = folder / LOG_FILE
    size = log_size(folder)
    if size <= begin:
        return ""
    with path.open("rb") as file:
        file.seek(max(begin, size - _LOG_BYTES))
        return plain_end(file.read().decode("utf-8", "replace"))


def log_size(folder: Path) -> int:
    """How long the log is."""
    try:
        return (folder / LOG_FILE).stat().st_size
    except FileNotFoundError:
        return 0
