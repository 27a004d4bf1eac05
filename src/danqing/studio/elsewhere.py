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
from typing import Any, cast

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
    process = subprocess.Popen(  # noqa: S603 (our own module, no shell)
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    late = threading.Event()
    errors: list[str] = []

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout_s, stop)
    reader = threading.Thread(
        target=lambda: errors.append(process.stderr.read() if process.stderr else ""), daemon=True
    )
    timer.start()
    reader.start()
    result: dict[str, Any] = {}
    try:
        _send(process, json.dumps(task))
        for line in process.stdout or ():
            said = _object(line) or {}
            if progress is not None and "progress" in said:
                progress(float(said["progress"]))
            result = said.get("result") or result
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        reader.join(timeout=5.0)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if code == 0:
        return result
    if late.is_set():
        raise WorkerError(f"{what} took too long", allowed=f"{timeout_s:g} s", next_step="ask for something smaller")
    last = ("".join(errors).strip().splitlines() or [""])[-1]
    known = _object(last)
    if known is not None:
        raise DanqingError.from_dict(known)
    raise WorkerError(f"{what} failed in its process", value=last[-300:], next_step="run danqing doctor")


def _send(process: subprocess.Popen[str], text: str) -> None:
    try:
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.close()
    except BrokenPipeError:
        # It ended before it read its task: its stderr says why.
        return


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
