"""Work that needs torch, done in a process of its own for a front that has none.

The module is called with its task as JSON on stdin. Every line of its stdout is a JSON object: `progress` on the way,
and `result` at the end if it has one. An error is one JSON object on the last line of stderr.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

from danqing.spec.errors import DanqingError, WorkerError


def in_process(
    module: str,
    task: Mapping[str, Any],
    *,
    what: str,
    timeout_s: float,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Run `python -m module` on a task.

    Args:
        module: One of ours.
        task: What to do, as JSON.
        what: How to speak of it when it fails: *the network*.
        timeout_s: When to give up.
        progress: Called with the share that is done.

    Returns:
        What it says at the end; empty if it says nothing.

    Raises:
        DanqingError: What went wrong there, in its own words.
        WorkerError: It crashed or took too long.
    """
    with _Child(module, timeout_s) as child:
        child.send(json.dumps(task))
        result: dict[str, Any] = {}
        for line in child.process.stdout or ():
            said = _object(line) or {}
            if progress is not None and "progress" in said:
                progress(float(said["progress"]))
            result = said.get("result") or result
        code = child.process.wait()
    if code == 0:
        return result
    if child.late.is_set():
        raise WorkerError(f"{what} took too long", allowed=f"{timeout_s:g} s", next_step="ask for something smaller")
    last = (child.errors.strip().splitlines() or [""])[-1]
    known = _object(last)
    if known is not None:
        raise DanqingError.from_dict(known)
    raise WorkerError(f"{what} failed in its process", value=last[-300:], next_step="run danqing doctor")


class _Child:
    """A process that is killed when its time is over or its caller leaves; its stderr is read beside its stdout."""

    def __init__(self, module: str, timeout_s: float) -> None:
        self.late = threading.Event()
        self.errors = ""
        self.process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._timer = threading.Timer(timeout_s, self._stop)
        self._reader = threading.Thread(target=self._read_errors, daemon=True)

    def __enter__(self) -> Self:
        self._timer.start()
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=5.0)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def send(self, text: str) -> None:
        """Its task."""
        try:
            if self.process.stdin is not None:
                self.process.stdin.write(text)
                self.process.stdin.close()
        except BrokenPipeError:
            # It ended before it read its task: its stderr says why.
            return

    def _stop(self) -> None:
        self.late.set()
        self.process.kill()

    def _read_errors(self) -> None:
        self.errors = self.process.stderr.read() if self.process.stderr else ""


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
