"""Starting a side in a process of its own, asking it, and seeing it end or die."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._machine import ROOT
from benchmarks.peers._jobs import Checkpoint, Job, PeerOptions, RefusedError
from benchmarks.peers._sides import OURS, Side

TIMEOUT_S = 3600.0
GRACE_S = 10.0
LAST_WORDS = 1500
OUR_SETTINGS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GLIBC_TUNABLES")
"""What Danqing sets in its environment; others run as they are begun by everyone."""


class DiedError(RuntimeError):
    """A side's process ended, failed or did not answer; the message has its last words."""


def surroundings(program: str) -> dict[str, str]:
    """The environment of a program."""
    return {name: value for name, value in os.environ.items() if program == OURS or name not in OUR_SETTINGS}


class Process:
    """One side in its own interpreter.

    Args:
        side: Which.
        python: Its interpreter.
        log: Where its output goes.
        threads: Of its libraries.
    """

    def __init__(self, side: Side, python: str, log: Path, threads: int) -> None:
        self.side = side
        self.peak_bytes = 0
        self.cpu_s = 0.0
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        names = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")]) if python == sys.executable else str(ROOT)
        offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
        self._answers = os.fdopen(reader, "r", encoding="utf-8")
        with contextlib.ExitStack() as undo, log.open("ab") as output:
            undo.callback(os.close, writer)
            unused = undo.enter_context(contextlib.ExitStack())
            unused.callback(self._answers.close)
            self._child = subprocess.Popen(
                [python, "-m", "benchmarks.peers._child", side.module, str(writer)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writer,),
                cwd=ROOT,
                env={**surroundings(side.program), **names, **offline, "PYTHONPATH": path},
            )
            unused.pop_all()

    def ask(self, do: str, *, timeout_s: float = TIMEOUT_S, **told: Any) -> dict[str, Any]:
        """One command and its answer.

        Raises:
            RefusedError: The side cannot do this.
            DiedError: It failed; after a crash or a timeout its process is gone.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write((json.dumps({"do": do, **told}) + "\n").encode())
            self._child.stdin.flush()
        except OSError:
            raise self._dead("it had ended") from None
        ready, _, _ = select.select([self._answers], [], [], timeout_s)
        if not ready:
            self.kill()
            raise DiedError(f"{self.side.name}: no answer to {do} within {timeout_s:g} s; it was stopped")
        line = self._answers.readline()
        if not line:
            raise self._dead(f"it ended while it did {do}")
        found: dict[str, Any] = json.loads(line)
        if "refused" in found:
            raise RefusedError(found["refused"])
        if "error" in found:
            raise DiedError(f"{self.side.name}: {found['error']}")
        self.peak_bytes = max(self.peak_bytes, int(found.get("peak_bytes", 0)))
        self.cpu_s = float(found.get("cpu_s", self.cpu_s))
        return found

    def _dead(self, what: str) -> DiedError:
        code = self._child.wait()
        words = self._log.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip()
        return DiedError(f"{self.side.name}: {what} (exit code {code}): {words}")

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> dict[str, Any]:
        """Open a checkpoint; what the side says of itself, with `seconds`."""
        return self.ask("open", checkpoint=asdict(checkpoint), options=asdict(options))

    def paint(self, job: Job, keep: str = "") -> dict[str, Any]:
        """Paint; `seconds`, and `spread` of the picture's values."""
        return self.ask("paint", job=asdict(job), keep=keep)

    @property
    def dead(self) -> bool:
        """Whether the process is gone."""
        return self._child.poll() is not None

    def kill(self) -> None:
        """End the process at once."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Let it end by itself, and end it if it does not."""
        try:
            if not self.dead:
                self.ask("close", timeout_s=GRACE_S)
        except (DiedError, RefusedError):
            self.kill()
        for pipe in (self._child.stdin, self._answers):
            # What was left unsent to a dead process cannot be sent now either.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self._child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
